"""When a node runs short, and how long that shows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshkube.node import disk_usage, signals, thresholds
from meshkube.node.thresholds import Amount, Conditions, Met, Signal, met, parse

GI = 1024**3


def crossed(text: str, **seen: tuple[int, int]) -> list[Signal]:
    amounts = {
        parse(f"{name.replace('_', '.')}<1")[0].signal: Amount(*one) for name, one in seen.items()
    }
    return [one.threshold.signal for one in met(parse(text), amounts)]


def test_the_defaults_are_the_kubelets() -> None:
    found = {one.signal: one.text for one in parse(thresholds.DEFAULT)}
    assert found == {
        "memory.available": "100Mi",
        "nodefs.available": "10%",
        "nodefs.inodesFree": "5%",
        "imagefs.available": "15%",
        "imagefs.inodesFree": "5%",
        "pid.available": "5%",
    }


@pytest.mark.parametrize(
    ("text", "memory", "disk", "expected"),
    [
        ("memory.available<1Gi", (GI - 1, 4 * GI), (1, 1), ["memory.available"]),
        ("memory.available<1Gi", (GI, 4 * GI), (1, 1), []),
        ("memory.available<25%", (GI - 1, 4 * GI), (1, 1), ["memory.available"]),
        ("nodefs.available<10%", (0, 1), (9, 100), ["nodefs.available"]),
        ("nodefs.available<10%", (0, 1), (10, 100), []),
        ("nodefs.available<1,memory.available<1Gi", (0, GI), (0, 1),
         ["memory.available", "nodefs.available"]),
    ],
)  # fmt: skip
def test_below_a_threshold_is_short(
    text: str, memory: tuple[int, int], disk: tuple[int, int], expected: list[str]
) -> None:
    assert crossed(text, memory_available=memory, nodefs_available=disk) == expected


def test_what_cannot_be_measured_is_not_short() -> None:
    assert met(parse(thresholds.DEFAULT), {}) == []


@pytest.mark.parametrize(
    "text",
    ["memory.available", "memory.available>1", "memory<1", "memory.available<x",
     "memory.available<101%", "memory.available<-1", "pid.available<1,pid.available<2"],
)  # fmt: skip
def test_what_is_no_threshold_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_a_condition_holds_for_a_while_after_the_last_sign() -> None:
    conditions = Conditions(transition=300)
    low = [Met(parse("nodefs.available<1")[0], Amount(0, 1))]
    assert conditions.observe([], 0) == set()
    assert conditions.observe(low, 10) == {"DiskPressure"}
    assert conditions.observe([], 309) == {"DiskPressure"}
    assert conditions.observe(low, 309) == {"DiskPressure"}
    assert conditions.observe([], 400) == {"DiskPressure"}
    assert conditions.observe([], 609) == set()


def test_this_host_can_be_measured(tmp_path: Path) -> None:
    seen = signals.read(tmp_path / "not" / "there" / "yet", tmp_path)
    for signal in ("memory.available", "nodefs.available", "pid.available"):
        amount = seen[signal]
        assert 0 < amount.available <= amount.capacity
    # One file system is judged once.
    assert "imagefs.available" not in seen


def test_a_directory_takes_what_its_files_take(tmp_path: Path) -> None:
    assert disk_usage.used(tmp_path / "absent") == (0, 0)
    (tmp_path / "deep").mkdir()
    file = tmp_path / "deep" / "file"
    file.write_bytes(os.urandom(1024 * 1024))
    (tmp_path / "again").hardlink_to(file)
    (tmp_path / "loop").symlink_to(tmp_path)
    with (tmp_path / "sparse").open("wb") as sparse:
        sparse.truncate(1024**3)
    size, files = disk_usage.used(tmp_path)
    assert 1024 * 1024 <= size < 1024 * 1024 + 65536
    assert files == 5
    assert disk_usage.used(file).files == 1
