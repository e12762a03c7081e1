"""Keeps the node from running out of memory, disk or process ids: tells it in the Node's
conditions, makes room, and evicts pods one at a time. The rules: `thresholds`, `eviction`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

from prometheus_client import Counter

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.client.events import Type
from meshkube.clock import Clock
from meshkube.metrics import REGISTRY
from meshkube.node import eviction, thresholds
from meshkube.node.eviction import PodUse
from meshkube.node.refusals import Ending
from meshkube.node.runtime import Record, Runtime, RuntimeFailure
from meshkube.node.thresholds import Condition, Conditions, Met, Observations, Threshold
from meshkube.node.usage import DiskUse

log = logging.getLogger(__name__)

PERIOD = 10.0
TRANSITION = 300.0
# How long an evicted pod has to end before the next one has to go.
CLEANUP = 30.0

EVICTIONS = Counter(
    "meshkube_node_evictions", "Pods evicted under pressure", ["signal"], registry=REGISTRY
)


class Evictable(Protocol):
    """A pod of this node."""

    @property
    def pod(self) -> Object: ...

    @property
    def running(self) -> Sequence[Record]:
        """Its containers that run."""
        ...

    async def disk_use(self) -> DiskUse: ...

    def evict(self, message: str) -> bool:
        """False where it is ending already, or may not be evicted."""
        ...


class Evictor:
    """`look` is blocking; `reclaim` makes room on the disk without ending anything; `tell` records
    an Event of the node; `changed` is called when the conditions have changed."""

    def __init__(
        self,
        *,
        limits: Sequence[Threshold],
        transition: float,
        clock: Clock,
        runtime: Runtime,
        look: Callable[[], Observations],
        pods: Callable[[], Iterable[Evictable]],
        reclaim: Callable[[], Awaitable[None]],
        tell: Callable[[Type, str, str], None],
        changed: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._runtime = runtime
        self._look = look
        self._pods = pods
        self._reclaim = reclaim
        self._tell = tell
        self._changed = changed
        self._conditions = Conditions(transition)
        self._wake = asyncio.Event()
        self._leaving: tuple[Evictable, float] | None = None
        self.conditions: frozenset[Condition] = frozenset()
        """What the node runs short of."""

    def refused(self, pod: Object) -> Ending | None:
        """Why a new pod is not taken on now."""
        return eviction.refused(pod, self.conditions)

    async def run(self) -> None:
        """Until cancelled; without thresholds there is nothing to do."""
        while self._limits:
            self._wake.clear()
            await self.step()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD):
                    await self._wake.wait()

    def look_again(self) -> None:
        """There are pods now that were not known before."""
        self._wake.set()

    async def observe(self) -> list[Met]:
        """One look at the host: what is short now, the most pressing first."""
        found = thresholds.met(self._limits, await asyncio.to_thread(self._look))
        held = self._conditions.observe(found, self._clock.monotonic())
        if held != self.conditions:
            log.info("pressure changed", extra={"conditions": sorted(held)})
            self.conditions = held
            self._changed()
        return found

    async def step(self) -> None:
        """Looks, and makes room where that is needed: at most one pod goes."""
        found = await self.observe()
        if not found or self._still_leaving():
            return
        worst = found[0]
        resource = eviction.resource_of(worst.threshold.signal)
        self._tell("Warning", "EvictionThresholdMet", f"Attempting to reclaim {resource}")
        if worst.condition == "DiskPressure":
            await self._reclaim()
            found = await self.observe()
            if not any(one.condition == "DiskPressure" for one in found):
                return
        await self._evict_one(worst, resource)

    def _still_leaving(self) -> bool:
        if self._leaving is None:
            return False
        who, until = self._leaving
        if who.running and self._clock.monotonic() < until:
            return True
        self._leaving = None
        return False

    async def _evict_one(self, met: Met, resource: str) -> None:
        on_disk = met.condition == "DiskPressure"
        pods = {
            meta.uid(one.pod): one
            for one in self._pods()
            # What waits for its next attempt takes no memory, but may well fill the disk.
            if (one.running or on_disk) and not meta.deleting(one.pod)
        }
        uses = [await self._use(one, resource) for one in pods.values()]
        for use in eviction.ranked(uses, resource):
            one = pods[meta.uid(use.pod)]
            if one.evict(eviction.pressure_message(met, use)):
                log.warning(
                    "evicted a pod",
                    extra={"pod": meta.key(use.pod), "signal": met.threshold.signal},
                )
                EVICTIONS.labels(met.threshold.signal).inc()
                self._leaving = one, self._clock.monotonic() + CLEANUP
                return
        log.debug("nothing to evict", extra={"signal": met.threshold.signal})

    async def _use(self, one: Evictable, resource: str) -> PodUse:
        if resource in ("ephemeral-storage", "inodes"):
            disk = await one.disk_use()
            if resource == "inodes":
                return PodUse(pod=one.pod, used=disk.files)
            containers = {name: taken.size for name, taken in disk.containers.items()}
            return PodUse(pod=one.pod, used=disk.size, containers=containers)
        containers = {record.name: await self._of(record, resource) for record in one.running}
        return PodUse(pod=one.pod, used=sum(containers.values()), containers=containers)

    async def _of(self, record: Record, resource: str) -> int:
        try:
            stats = await self._runtime.stats(record.id)
        except RuntimeFailure:
            return 0
        if stats is None:
            return 0
        return stats.memory if resource == "memory" else stats.processes
