"""What the node and its pods use now: gathered once, told as the kubelet's `/stats/summary`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.node.machine import Used, read_used
from meshkube.node.records import Records
from meshkube.node.runtime import SANDBOX, Record, Runtime, RuntimeFailure, Stats

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Usage:
    """One look at everything."""

    node_name: str
    time: str
    node: Used
    containers: list[tuple[Record, Stats]]
    """Those that run."""


async def gather(runtime: Runtime, records: Records, node_name: str, clock: Clock) -> Usage:
    """CPU and memory of the node and of each running container."""
    running = [
        record
        for uid in records.uids()
        for record in records.of(uid)
        if record.state == "running" and record.name != SANDBOX
    ]
    places = asyncio.Semaphore(AT_ONCE)

    async def look(record: Record) -> Stats | None:
        async with places:
            try:
                return await runtime.stats(record.id)
            except RuntimeFailure:
                return None

    found = await asyncio.gather(*(look(record) for record in running))
    containers = [(r, stats) for r, stats in zip(running, found, strict=True) if stats is not None]
    return Usage(node_name, meta.timestamp(clock.now()), read_used(), containers)


def summary(usage: Usage) -> Object:
    """The document of `/stats/summary`."""
    pods: dict[str, Object] = {}
    for record, stats in usage.containers:
        pod = pods.setdefault(
            record.pod.uid,
            {
                "podRef": record.pod._asdict(),
                "startTime": meta.timestamp(record.created),
                "containers": [],
                **_use(usage.time, 0, 0),
            },
        )
        pod["containers"].append(_container(record, stats))
        pod["cpu"]["usageCoreNanoSeconds"] += stats.cpu_nanoseconds
        pod["memory"]["workingSetBytes"] += stats.memory
    node = {
        "nodeName": usage.node_name,
        "systemContainers": [],
        "startTime": meta.timestamp(usage.node.booted),
        **_use(usage.time, usage.node.cpu_nanoseconds, usage.node.memory),
    }
    return {"node": node, "pods": list(pods.values())}


def _container(record: Record, stats: Stats) -> Object:
    return {
        "name": record.name,
        "startTime": meta.timestamp(record.started or record.created),
        **_use(meta.timestamp(stats.time), stats.cpu_nanoseconds, stats.memory),
    }


def _use(time: str, cpu: int, memory: int) -> Object:
    return {
        "cpu": {"time": time, "usageCoreNanoSeconds": cpu},
        "memory": {"time": time, "workingSetBytes": memory},
    }
