"""Important pods make room for themselves, with the least harm."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.selectors import from_labels
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.scheduler.model import PodInfo, Snapshot, place_all
from meshkube.control.scheduler.preemption import Budget
from meshkube.control.scheduler.schedule import Decision, schedule
from tests.support.cluster import cluster
from tests.support.cluster import node as real_node
from tests.support.cluster import pod as real_pod


def node(name: str, cpu: str = "4") -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "110"}},
    }


def pod(name: str, cpu: str, priority: int, on: str = "", app: str = "x", started: str = "",
        **spec: Any) -> Object:  # fmt: skip
    container = {"name": "c", "image": "x", "resources": {"requests": {"cpu": cpu}}}
    spec = {"containers": [container], "priority": priority, **spec}
    if on:
        spec["nodeName"] = on
    metadata = {"name": name, "namespace": "default", "uid": name, "labels": {"app": app}}
    return {"metadata": metadata, "spec": spec, "status": {"startTime": started}}


def decide(obj: Object, nodes: list[Object], there: list[Object], *budgets: Budget) -> Decision:
    snapshot = place_all(Snapshot(), nodes, there)
    return schedule(PodInfo.of(obj), snapshot.known(), budgets=lambda: budgets)


def victims(decision: Decision) -> tuple[str, set[str]]:
    found = decision.nomination
    return (found.node, {one.name for one in found.victims}) if found else ("", set())


TWO = [node("a"), node("b")]


@pytest.mark.parametrize(
    ("there", "node_", "gone"),
    [
        # Nobody is less important.
        ([pod("p", "4", 10, "a"), pod("q", "4", 10, "b")], "", set()),
        # As few as are needed, the least important ones.
        ([pod("p", "2", 1, "a"), pod("q", "2", 2, "a"), pod("r", "4", 10, "b")], "a", {"p"}),
        # The node whose most important victim is the least important.
        ([pod("p", "4", 5, "a"), pod("q", "4", 3, "b")], "b", {"q"}),
        # The fewer the better.
        ([pod("p", "1", 3, "a"), pod("q", "3", 3, "a"), pod("r", "4", 3, "b")], "a", {"q"}),
        # Those that began last.
        (
            [
                pod("p", "4", 3, "a", started="2026-01-01"),
                pod("q", "4", 3, "b", started="2026-02-01"),
            ],
            "b",
            {"q"},
        ),
    ],
)
def test_who_has_to_go(there: list[Object], node_: str, gone: set[str]) -> None:
    assert victims(decide(pod("new", "2", 10), TWO, there)) == (node_, gone)


def test_budgets_are_kept_where_another_node_will_do() -> None:
    there = [pod("p", "4", 1, "a", "guarded"), pod("q", "4", 5, "b")]
    budget = Budget("default", from_labels({"app": "guarded"}), 0)
    assert victims(decide(pod("new", "2", 10), TWO, there, budget)) == ("b", {"q"})
    assert victims(decide(pod("new", "2", 10), TWO[:1], there[:1], budget)) == ("a", {"p"})


def test_pods_that_never_preempt_say_so() -> None:
    obj = pod("new", "2", 10, preemptionPolicy="Never")
    found = decide(obj, TWO[:1], [pod("p", "4", 1, "a")])
    assert found.nomination is None
    assert "not eligible due to preemptionPolicy=Never" in found.message


def test_it_waits_for_victims_that_are_on_their_way_out() -> None:
    leaving = pod("p", "4", 1, "a")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    obj = pod("new", "2", 10)
    obj["status"]["nominatedNodeName"] = "a"
    assert decide(obj, TWO[:1], [leaving]).nomination is None


def test_the_room_that_is_made_is_not_for_less_important_ones() -> None:
    snapshot = place_all(Snapshot(), TWO[:1], [])
    snapshot.nominate(PodInfo.of(pod("new", "3", 10)), "a")
    assert not schedule(PodInfo.of(pod("low", "2", 1)), snapshot.known()).node
    assert schedule(PodInfo.of(pod("high", "2", 11)), snapshot.known()).node == "a"
    assert schedule(PodInfo.of(pod("new", "3", 10)), snapshot.known()).node == "a"
    snapshot.remove_pod("new")
    assert schedule(PodInfo.of(pod("low", "2", 1)), snapshot.known()).node == "a"


def test_anti_affinity_is_a_reason_to_preempt() -> None:
    term = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}
    rules = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    found = decide(pod("new", "1", 10, affinity=rules), TWO[:1], [pod("p", "1", 1, "a")])
    assert victims(found) == ("a", {"p"})


async def test_it_happens_on_the_api(tmp_path: Path) -> None:
    def asking(name: str, cls: str) -> Object:
        made = real_pod(name, priorityClassName=cls)
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "800m"}}
        return made

    async with cluster(tmp_path, nodes=[real_node(cpu="1")], scheduler=True) as running:
        for name, value in (("low", 1), ("high", 1000)):
            await running.client.create(
                kinds.PRIORITY_CLASS, {"metadata": {"name": name}, "value": value}
            )
        await running.create(asking("first", "low"))
        cache = running.caches.of(kinds.POD)
        await running.until(lambda: pods.node_name(cache.get("default/first") or {}))
        await running.create(asking("second", "high"))
        await running.until(lambda: pods.node_name(cache.get("default/second") or {}), "placed")
        assert cache.get("default/first") is None
        (event,) = await running.events_of("Preempted")
        assert event["involvedObject"]["name"] == "first"
        assert "on node n1" in event["message"]


async def test_the_important_go_first(tmp_path: Path) -> None:
    async with cluster(tmp_path, scheduler=True) as running:
        await running.client.create(
            kinds.PRIORITY_CLASS, {"metadata": {"name": "high"}, "value": 1000}
        )
        for number in range(3):
            await running.create(real_pod(f"low{number}"))
        await running.create(real_pod("high", priorityClassName="high"))
        await running.until(
            lambda: all(pods.condition(p, "PodScheduled") for p in running.list(kinds.POD))
        )
        small = real_node("late")
        small["status"]["allocatable"]["pods"] = "1"
        await running.create(small)
        cache = running.caches.of(kinds.POD)
        await running.until(lambda: pods.node_name(cache.get("default/high") or {}), "high placed")
        await asyncio.sleep(0.1)
        placed = [meta.name(p) for p in running.list(kinds.POD) if pods.node_name(p)]
        assert placed == ["high"]


async def test_a_gated_pod_says_so(tmp_path: Path) -> None:
    async with cluster(tmp_path, scheduler=True) as running:
        made = await running.create(real_pod("gated", schedulingGates=[{"name": "a.io/wait"}]))
        entry = pods.condition(made, "PodScheduled")
        assert entry is not None
        assert entry["reason"] == "SchedulingGated"
