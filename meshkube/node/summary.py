"""What the node and its pods use: the thin form of the kubelet's `/stats/summary`."""

from __future__ import annotations

import asyncio

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.node.records import Records
from meshkube.node.runtime import SANDBOX, Record, Runtime, RuntimeFailure, Stats


async def summary(runtime: Runtime, records: Records, node_name: str, clock: Clock) -> Object:
    """CPU and memory of each running container."""
    running = [
        record
        for uid in records.uids()
        for record in records.of(uid)
        if record.state == "running" and record.name != SANDBOX
    ]
    found = await asyncio.gather(*(_stats(runtime, record) for record in running))
    pods: dict[str, Object] = {}
    for record, stats in zip(running, found, strict=True):
        if stats is None:
            continue
        pod = pods.setdefault(record.pod.uid, {"podRef": record.pod._asdict(), "containers": []})
        pod["containers"].append(_container(record, stats))
    return {
        "node": {"nodeName": node_name, "systemContainers": [], "startTime": None}
        | {"time": meta.timestamp(clock.now())},
        "pods": list(pods.values()),
    }


async def _stats(runtime: Runtime, record: Record) -> Stats | None:
    try:
        return await runtime.stats(record.id)
    except RuntimeFailure:
        return None


def _container(record: Record, stats: Stats) -> Object:
    time = meta.timestamp(stats.time)
    return {
        "name": record.name,
        "startTime": meta.timestamp(record.started or record.created),
        "cpu": {"time": time, "usageCoreNanoSeconds": stats.cpu_nanoseconds},
        "memory": {"time": time, "workingSetBytes": stats.memory},
    }
