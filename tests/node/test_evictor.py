"""The evictor beside a node that runs short: what it does, in which order, and when it waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.node.disk_usage import Taken
from meshkube.node.eviction import CRITICAL
from meshkube.node.evictor import CLEANUP, Evictor
from meshkube.node.runtime import PodRef, Record, Runtime, Stats
from meshkube.node.thresholds import Amount, Observations, Signal, parse
from meshkube.node.usage import DiskUse

MI = 1024**2


class SteppedClock(SystemClock):
    time = 0.0

    def monotonic(self) -> float:
        return self.time


class Memory:
    """A runtime that only knows what containers use."""

    def __init__(self) -> None:
        self.used: dict[str, int] = {}

    async def stats(self, id: str) -> Stats:
        return Stats(datetime.now(UTC), 0, self.used[id], self.used[id])


@dataclass
class Pod:
    pod: Object
    running: list[Record]
    disk: int = 0
    evicted: str = ""

    async def disk_use(self) -> DiskUse:
        return DiskUse(volumes={"v": Taken(self.disk, 1)})

    def evict(self, message: str) -> bool:
        self.evicted = message
        return True


@dataclass
class Node:
    limits: str = "memory.available<100Mi"
    free: dict[Signal, int] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    reclaimed: int = 0
    frees: int = 0
    changes: int = 0

    def __post_init__(self) -> None:
        self.clock = SteppedClock()
        self.memory = Memory()
        self.evictor = Evictor(
            limits=parse(self.limits),
            transition=300,
            clock=self.clock,
            runtime=cast(Runtime, self.memory),
            look=self.look,
            pods=lambda: self.pods,
            reclaim=self.reclaim,
            tell=lambda *event: self.told.append(f"{event[1]}: {event[2]}"),
            changed=self.count,
        )

    def look(self) -> Observations:
        return {signal: Amount(free, 1000 * MI) for signal, free in self.free.items()}

    def count(self) -> None:
        self.changes += 1

    async def reclaim(self) -> None:
        self.reclaimed += 1
        for signal in self.free:
            self.free[signal] += self.frees

    def add(self, name: str, used: int, disk: int = 0, **spec: Any) -> Pod:
        self.memory.used[name] = used * MI
        record = Record(id=name, pod=PodRef("default", name, name), name="c", attempt=0,
                        state="running", created=datetime.now(UTC))  # fmt: skip
        obj = {
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"containers": [{"name": "c"}], **spec},
        }
        self.pods.append(Pod(obj, [record], disk * MI))
        return self.pods[-1]

    @property
    def gone(self) -> list[str]:
        return [one.pod["metadata"]["name"] for one in self.pods if one.evicted]


async def test_one_pod_goes_at_a_time_and_has_time_to() -> None:
    node = Node(free={"memory.available": 50 * MI})
    node.add("small", 1)
    large = node.add("large", 200)
    node.add("system", 900, priority=CRITICAL)
    await node.evictor.step()
    assert node.gone == ["large"]
    assert "available: 50Mi" in large.evicted
    assert node.told == ["EvictionThresholdMet: Attempting to reclaim memory"]
    # It is ending still: no other pays for it.
    node.clock.time = CLEANUP - 1
    await node.evictor.step()
    assert node.gone == ["large"]
    large.running = []
    await node.evictor.step()
    assert node.gone == ["small", "large"]
    # None but the system's own is left.
    node.clock.time += CLEANUP
    await node.evictor.step()
    assert node.gone == ["small", "large"]


async def test_one_that_does_not_end_is_not_waited_for_for_ever() -> None:
    node = Node(free={"memory.available": 0})
    node.add("stuck", 9)
    node.add("next", 1)
    await node.evictor.step()
    node.clock.time = CLEANUP
    node.pods[0].pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await node.evictor.step()
    assert node.gone == ["stuck", "next"]


async def test_room_on_the_disk_is_made_before_a_pod_has_to_go() -> None:
    node = Node("nodefs.available<100Mi", {"nodefs.available": 50 * MI}, frees=60 * MI)
    node.add("a", 0, disk=1)
    node.add("b", 0, disk=9)
    await node.evictor.step()
    assert (node.reclaimed, node.gone) == (1, [])
    assert node.evictor.conditions == {"DiskPressure"}
    node.free["nodefs.available"], node.frees = 10 * MI, 0
    await node.evictor.step()
    assert (node.reclaimed, node.gone) == (2, ["b"])


async def test_the_conditions_hold_a_while_and_each_change_is_told() -> None:
    node = Node("memory.available<100Mi,pid.available<1k", {"memory.available": 200 * MI})
    await node.evictor.step()
    assert (node.evictor.conditions, node.changes) == (set(), 0)
    node.free = {"memory.available": 99 * MI, "pid.available": 10}
    await node.evictor.observe()
    assert node.evictor.conditions == {"MemoryPressure", "PIDPressure"}
    node.free = {"memory.available": 200 * MI}
    node.clock.time = 299
    await node.evictor.step()
    assert node.evictor.conditions == {"MemoryPressure", "PIDPressure"}
    assert node.evictor.refused({"spec": {"containers": []}}) is not None
    node.clock.time = 300
    await node.evictor.step()
    assert (node.evictor.conditions, node.changes) == (set(), 2)
    assert node.evictor.refused({"spec": {"containers": []}}) is None


async def test_memory_comes_before_process_ids() -> None:
    node = Node(
        "pid.available<1k,memory.available<1Mi", {"memory.available": 0, "pid.available": 0}
    )
    node.add("a", 5)
    await node.evictor.step()
    assert node.told == ["EvictionThresholdMet: Attempting to reclaim memory"]


async def test_without_thresholds_nobody_looks() -> None:
    node = Node("")
    await asyncio.wait_for(node.evictor.run(), 1)
