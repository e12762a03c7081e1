"""docs/compatibility.md says what the code's own tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from meshkube.api import kinds, schemas
from scripts import pod_fields
from tests.support import client_rows

ROOT = Path(__file__).parent.parent


def test_the_page_is_current() -> None:
    script = ROOT / "scripts/compatibility"
    checked = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert checked.returncode == 0, "run scripts/compatibility"


def _fields(path: str) -> set[str]:
    node = schemas.schema_for(kinds.POD).field("spec")
    for step in path.split(".") if path else ():
        node = node.field(step.removesuffix("[]"))
        node = node.items if step.endswith("[]") else node
    return {f"{path}.{name}" if path else name for name in node.fields}


def test_no_field_of_a_pod_is_forgotten_or_made_up() -> None:
    rows = [path for path, _, _ in pod_fields.ROWS]
    assert len(rows) == len(set(rows))
    for path in pod_fields.SPELLED_OUT:
        assert _fields(path) - set(rows) == set(), path
    for path in rows:
        parent = path.rpartition(".")[0]
        assert path in _fields(parent), path


def test_every_kind_has_a_row() -> None:
    page = (ROOT / "docs/compatibility.md").read_text()
    for kind in kinds.KINDS:
        assert f"| `{kind.api_version}` {kind.kind} |" in page


def test_every_test_of_a_client_has_a_row() -> None:
    page = (ROOT / "docs/compatibility.md").read_text()
    for row in client_rows.declared():
        assert f"| {row.text}" in page, f"{row}: run make compatibility"


def test_a_row_says_why_a_client_did_not_pass() -> None:
    report = """<testsuites><testsuite>
      <testcase classname="tests.clients.test_kr8s" name="test_a_b[x]"/>
      <testcase classname="tests.clients.test_kr8s" name="test_c">
        <failure message="one | two&#10;three"/></testcase>
      <testcase classname="tests.clients.test_kr8s" name="test_d"><skipped message="no go"/>
      </testcase></testsuite></testsuites>"""
    page = client_rows.render(report)
    assert "### kr8s, sync and async: 1 of 3 pass" in page
    assert "| a b: x | passes |" in page
    assert "| c | **fails**: one \\| two |" in page
    assert "| d | not run: no go |" in page
