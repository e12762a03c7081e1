"""The scheduler on the real API."""

from __future__ import annotations

import asyncio
from pathlib import Path

from meshkube.api import kinds, meta
from meshkube.control import pods
from tests.support.cluster import Cluster, cluster, node, pod


def placed(running: Cluster) -> dict[str, str]:
    return {meta.name(one): pods.node_name(one) for one in running.list(kinds.POD)}


def asking(name: str, cpu: str, **spec: object) -> dict[str, object]:
    made = pod(name, **spec)
    made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": cpu}}
    return made


async def test_pods_are_bound_and_an_event_says_where(tmp_path: Path) -> None:
    async with cluster(tmp_path, nodes=[node()], scheduler=True) as running:
        await running.create(pod("web"))
        await running.until(lambda: placed(running) == {"web": "n1"})
        (event,) = await running.events_of("Scheduled")
        assert event["message"] == "Successfully assigned default/web to n1"
        assert event["source"]["component"] == "default-scheduler"


async def test_a_pod_that_fits_nowhere_says_why_and_waits(tmp_path: Path) -> None:
    async with cluster(tmp_path, nodes=[node(cpu="1")], scheduler=True) as running:
        await running.create(asking("first", "800m"))
        await running.until(lambda: placed(running)["first"])
        await running.create(asking("second", "800m"))
        cache = running.caches.of(kinds.POD)
        entry = await running.until(
            lambda: pods.condition(cache.get("default/second") or {}, "PodScheduled")
        )
        words = (
            "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available:"
            " 1 No preemption victims found for incoming pod."
        )
        assert (entry["status"], entry["reason"]) == ("False", "Unschedulable")
        assert entry["message"] == words
        (event,) = await running.events_of("FailedScheduling")
        assert event["message"] == words
        # Room is made: it goes there.
        await running.client.delete(kinds.POD, "first", "default", grace_period=0)
        await running.until(lambda: placed(running) == {"second": "n1"}, "second placed")


async def test_a_node_that_comes_takes_what_waits(tmp_path: Path) -> None:
    async with cluster(tmp_path, scheduler=True) as running:
        await running.create(pod("web"))
        await running.until(lambda: pods.condition(running.list(kinds.POD)[0], "PodScheduled"))
        await running.create(node("late"))
        await running.until(lambda: placed(running) == {"web": "late"})


async def test_other_schedulers_pods_and_gated_ones_are_left_alone(tmp_path: Path) -> None:
    async with cluster(tmp_path, nodes=[node()], scheduler=True) as running:
        await running.create(pod("other", schedulerName="mine"))
        await running.create(pod("gated", schedulingGates=[{"name": "example.com/wait"}]))
        await running.create(pod("web"))
        await running.until(lambda: placed(running)["web"])
        await asyncio.sleep(0.1)
        assert placed(running) == {"other": "", "gated": "", "web": "n1"}


async def test_a_burst_never_overcommits(tmp_path: Path) -> None:
    nodes = [node(f"n{number}", cpu="1") for number in range(3)]
    async with cluster(tmp_path, nodes=nodes, scheduler=True, kubelets=False) as running:
        for number in range(20):
            await running.create(asking(f"p{number}", "200m"))
        await running.until(lambda: sum(bool(n) for n in placed(running).values()) == 15)
        await running.until(
            lambda: (
                sum(bool(pods.condition(one, "PodScheduled")) for one in running.list(kinds.POD))
                == 20
            )
        )
        by_node = [list(placed(running).values()).count(f"n{number}") for number in range(3)]
        assert by_node == [5, 5, 5]
