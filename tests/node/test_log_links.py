"""Links to logs, as log shippers expect them."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from meshkube.node.log_links import LogLinks
from meshkube.node.runtime import SANDBOX, PodRef, Record

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POD = PodRef("shop", "web-1", "u-1")


@pytest.fixture
def first(tmp_path: Path) -> Record:
    return record(tmp_path, "a1")


def record(tmp_path: Path, id: str, attempt: int = 0) -> Record:
    log = tmp_path / f"{id}-json.log"
    log.write_text("said\n")
    return Record(
        id=id, pod=POD, name="app", attempt=attempt, state="running", created=NOW, log_file=str(log)
    )


def links(root: Path) -> dict[str, str]:
    return {
        os.path.relpath(Path(directory, name), root): os.readlink(Path(directory, name))
        for directory, names, files in os.walk(root)
        for name in names + files
        if Path(directory, name).is_symlink()
    }


def test_each_attempt_is_found_by_pod_and_by_container(tmp_path: Path, first: Record) -> None:
    root = tmp_path / "log"
    second = record(tmp_path, "a2", attempt=1)
    sandbox = replace(first, id="s", name=SANDBOX)
    LogLinks(root / "pods").keep("u-1", [first, second, sandbox, replace(first, log_file="")])
    directory = root / "pods/shop_web-1_u-1/app"
    assert links(root) == {
        "pods/shop_web-1_u-1/app/0.log": first.log_file,
        "pods/shop_web-1_u-1/app/1.log": second.log_file,
        "containers/web-1_shop_app-a1.log": f"{directory}/0.log",
        "containers/web-1_shop_app-a2.log": f"{directory}/1.log",
    }
    assert (root / "containers/web-1_shop_app-a2.log").read_text() == "said\n"


def test_they_go_with_their_containers(tmp_path: Path, first: Record) -> None:
    root = tmp_path / "log"
    kept = LogLinks(root / "pods")
    second = record(tmp_path, "a2", attempt=1)
    kept.keep("u-1", [first, second])
    kept.keep("u-1", [second])
    assert set(links(root)) == {
        "pods/shop_web-1_u-1/app/1.log",
        "containers/web-1_shop_app-a2.log",
    }
    kept.keep("u-1", [])
    assert links(root) == {}
    assert os.listdir(root / "pods") == []


def test_a_new_agent_takes_dead_ones_away_and_keeps_the_others(
    tmp_path: Path, first: Record
) -> None:
    root = tmp_path / "log"
    LogLinks(root / "pods").keep("u-1", [first])
    other = replace(record(tmp_path, "b1"), pod=PodRef("shop", "gone", "u-2"))
    LogLinks(root / "pods").keep("u-2", [other])
    Path(other.log_file).unlink()
    kept = LogLinks(root / "pods")
    kept.sweep()
    assert set(links(root)) == {
        "pods/shop_web-1_u-1/app/0.log",
        "containers/web-1_shop_app-a1.log",
    }
    assert os.listdir(root / "pods") == ["shop_web-1_u-1"]
    kept.keep("u-1", [first])
    assert len(links(root)) == 2


def test_nothing_there_is_nothing_to_sweep(tmp_path: Path) -> None:
    LogLinks(tmp_path / "log/pods").sweep()
