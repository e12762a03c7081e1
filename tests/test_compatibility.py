"""docs/compatibility.md says what the code's own tables say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from meshkube.api import kinds

ROOT = Path(__file__).parent.parent


def test_the_page_is_current() -> None:
    script = ROOT / "scripts/compatibility"
    checked = subprocess.run([sys.executable, str(script), "--check"], check=False)
    assert checked.returncode == 0, "run scripts/compatibility"


def test_every_kind_has_a_row() -> None:
    page = (ROOT / "docs/compatibility.md").read_text()
    for kind in kinds.KINDS:
        assert f"| `{kind.api_version}` {kind.kind} |" in page
