"""The columns of every built-in kind's table beside those that kube-apiserver 1.33 shows."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.printing import table

RECORDED = json.loads((Path(__file__).parent / "golden/columns.json").read_text())
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LISTED = [kind for kind in kinds.KINDS if "list" in kind.verbs]


@pytest.mark.parametrize("kind", LISTED, ids=lambda kind: f"{kind.api_version} {kind.kind}")
def test_names_types_formats_and_priorities(kind: Kind) -> None:
    shown = table(kind, (), NOW, metadata={})["columnDefinitions"]
    found = [[one["name"], one["type"], one["format"], one["priority"]] for one in shown]
    assert found == RECORDED[f"{kind.api_version} {kind.kind}"]
