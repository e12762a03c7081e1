"""What a pod has on the node's disk: its emptyDirs, and its containers' writable layers and logs.

Pods that may only have so much are looked at often, as by the kubelet's local storage eviction; all
others only while the disk runs short. Volumes in memory need no look: their file system has a size.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.node import eviction
from meshkube.node.disk_usage import Taken, used
from meshkube.node.runtime import SANDBOX, Record, Runtime, RuntimeFailure

PERIOD = 10.0


@dataclass(frozen=True, slots=True)
class DiskUse:
    """By name."""

    volumes: Mapping[str, Taken] = field(default_factory=dict)
    containers: Mapping[str, Taken] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(taken.size for taken in self._all)

    @property
    def files(self) -> int:
        return sum(taken.files for taken in self._all)

    @property
    def _all(self) -> list[Taken]:
        return [*self.volumes.values(), *self.containers.values()]


async def of_pod(
    pod: Object, records: Iterable[Record], path_of: Callable[[str], Path], runtime: Runtime
) -> DiskUse:
    """Measured now; a thread reads the directories. What cannot be measured counts as nothing."""
    volumes = {}
    for volume in pod["spec"].get("volumes") or ():
        name, source = volume["name"], volume.get("emptyDir")
        if source is not None and source.get("medium") != "Memory":
            volumes[name] = await asyncio.to_thread(used, path_of(name))
    newest: dict[str, Record] = {}
    for record in sorted(records, key=lambda record: record.attempt):
        if record.name != SANDBOX:
            newest[record.name] = record
    containers = {}
    for name, record in newest.items():
        try:
            containers[name] = await runtime.disk_use(record.id)
        except RuntimeFailure:
            continue
    return DiskUse(volumes, containers)


async def watch(
    pod: Object,
    measure: Callable[[], Awaitable[DiskUse]],
    clock: Clock,
    over: Callable[[str], bool],
) -> None:
    """Calls `over` with the reason once the pod has more than it may; returns then, and at once
    where nothing is limited."""
    limited = eviction.is_limited(pod)
    while limited:
        await clock.sleep(PERIOD)
        use = await measure()
        reason = eviction.over_limits(pod, _sizes(use.volumes), _sizes(use.containers))
        if reason:
            over(reason)
            return


def _sizes(taken: Mapping[str, Taken]) -> dict[str, int]:
    return {name: one.size for name, one in taken.items()}
