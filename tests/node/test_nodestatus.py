"""This host as a Node."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from meshkube.api.types import Object
from meshkube.node import nodestatus
from meshkube.node.machine import Machine

NOW = datetime(2026, 11, 21, tzinfo=UTC)
GI = 1024**3
MACHINE = Machine(
    cpus=4, memory=8 * GI, disk=100 * GI, architecture="amd64", kernel="6.1", os_image="Debian",
    machine_id="m", boot_id="b", system_uuid="u",
)  # fmt: skip


def status(old: Object | None = None, **more: Any) -> Object:
    settings: dict[str, Any] = {
        "name": "n", "addresses": ["192.0.2.1"], "port": 10250, "machine": MACHINE, "max_pods": 110,
        "pressure": (), "runtime": "docker://20.10", "version": "v1.33.0", "not_ready": "",
        "images": [], "old": old or {}, "now": NOW,
    }  # fmt: skip
    return nodestatus.status(**(settings | more))


def test_pods_may_ask_for_less_than_there_is() -> None:
    found = status()
    assert found["capacity"]["memory"] == f"{8 * 1024 * 1024}Ki"
    assert found["allocatable"]["memory"] == f"{8 * 1024 * 1024 - 100 * 1024}Ki"
    assert found["allocatable"]["pods"] == "110"


def test_what_somebody_counts_on_the_node_is_for_pods_until_it_is_gone() -> None:
    old = status()
    assert not nodestatus.changed(old, status(old))
    old["capacity"]["example.com/dongle"] = "4"
    counted = status(old)
    assert nodestatus.changed(old, counted)
    assert counted["allocatable"]["example.com/dongle"] == "4"
    assert nodestatus.patch(old, counted) == counted
    assert not nodestatus.changed(counted, status(counted))
    del counted["capacity"]["example.com/dongle"]
    gone = status(counted)
    patch = nodestatus.patch(counted, gone)
    assert patch["allocatable"]["example.com/dongle"] is None
    assert "example.com/dongle" not in gone["allocatable"]


def test_a_condition_keeps_the_time_of_its_last_turn() -> None:
    old = status()
    later = status(old, now=NOW + timedelta(hours=1))
    assert not nodestatus.changed(old, later)
    turned = status(old, now=NOW + timedelta(hours=1), not_ready="Docker is away")
    assert nodestatus.changed(old, turned)
    assert nodestatus.turned(old, turned) == ["NodeNotReady"]
    times = {one["type"]: one["lastTransitionTime"] for one in turned["conditions"]}
    assert times["Ready"] == "2026-11-21T01:00:00Z"
    assert times["MemoryPressure"] == "2026-11-21T00:00:00Z"


def test_a_host_that_was_started_again_says_so() -> None:
    old = status()
    assert nodestatus.rebooted(old, status(old)) == ""
    old["nodeInfo"]["bootID"] = "before"
    assert nodestatus.rebooted(old, status(old)) == "b"
