"""What the node and its pods use now, gathered when somebody asks: nothing is read in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from meshkube.api import meta
from meshkube.clock import Clock
from meshkube.node import cgroups, network_counters
from meshkube.node.disk_sizes import Sizes, file_system
from meshkube.node.disk_usage import Taken, used
from meshkube.node.machine import processes, read_used, total_memory
from meshkube.node.network_counters import Interface
from meshkube.node.records import Records
from meshkube.node.runtime import SANDBOX, Record, Runtime, RuntimeFailure, Stats
from meshkube.node.use import ContainerUse, NodeUse, PodUse, Usage, VolumeUse

AT_ONCE = 16
FORGET = 120.0
"""Seconds after which an earlier look says nothing of the CPU in use now."""
LEAST = 1.0
"""Seconds between two looks of which a rate is made."""


class Rates:
    """CPU in use, from CPU time seen at two looks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, tuple[float, int, int | None]] = {}

    def rate(self, key: str, cpu: int) -> int | None:
        """Nanocores since the last look; None at the first one."""
        now = self._clock.monotonic()
        at, before, rate = self._last.get(key, (now, cpu, None))
        if now - at > FORGET or cpu < before:
            at, before, rate = now, cpu, None
        if now - at >= LEAST:
            rate = round((cpu - before) / (now - at))
            at, before = now, cpu
        self._last[key] = (at, before, rate)
        return rate

    def sweep(self) -> None:
        """Forgets who was not looked at lately."""
        now = self._clock.monotonic()
        self._last = {key: one for key, one in self._last.items() if now - one[0] <= FORGET}


class Meter:
    """`volumes` are those of the pods that are here; `directory` is where the node keeps files."""

    def __init__(
        self,
        runtime: Runtime,
        records: Records,
        node_name: str,
        clock: Clock,
        volumes: Callable[[], Iterable[VolumeUse]] = tuple,
        directory: str = "/",
    ) -> None:
        self._runtime = runtime
        self._records = records
        self._name = node_name
        self._clock = clock
        self._volumes = volumes
        self._directory = directory
        self._rates = Rates(clock)
        self._sizes = Sizes(clock)
        self._mounted: cgroups.Mounts | None = None
        self._places: dict[str, cgroups.Place] = {}

    async def gather(self, *, whole: bool = True) -> Usage:
        """Without `whole`, only CPU and memory."""
        pods = self._running()
        records = [record for _, containers in pods for record in containers]
        self._forget(records)
        stats = await asyncio.to_thread(self._read, records, whole)
        await self._ask(records, stats)
        volumes = list(self._volumes()) if whole else []
        sizes = await self._sizes.of(_directories(records, volumes)) if whole else {}
        traffic = await asyncio.to_thread(_traffic, [s for s, _ in pods]) if whole else {}
        self._rates.sweep()
        return Usage(
            self._node(whole, records),
            tuple(
                PodUse(
                    ref=_anyone(sandbox, containers).pod,
                    started=_anyone(sandbox, containers).created,
                    containers=tuple(
                        self._container(record, stats[record.id], sizes, whole)
                        for record in containers
                        if record.id in stats
                    ),
                    interfaces=traffic.get(sandbox.id, ()) if sandbox is not None else (),
                    volumes=tuple(
                        (volume, sizes.get(volume.path, Taken()), file_system(volume.path))
                        for volume in volumes
                        if volume.pod.uid == _anyone(sandbox, containers).pod.uid
                    ),
                    sandbox=sandbox,
                )
                for sandbox, containers in pods
            ),
        )

    def _running(self) -> list[tuple[Record | None, list[Record]]]:
        """The sandbox and containers of each pod that runs."""
        found: list[tuple[Record | None, list[Record]]] = []
        for uid in sorted(self._records.uids()):
            running = [one for one in self._records.of(uid) if one.state == "running"]
            sandbox = next((one for one in running if one.name == SANDBOX), None)
            containers = [one for one in running if one.name != SANDBOX]
            if containers:
                found.append((sandbox, containers))
        return found

    def _forget(self, records: Sequence[Record]) -> None:
        here = {record.id for record in records}
        for id in self._places.keys() - here:
            del self._places[id]

    def _read(self, records: Sequence[Record], whole: bool) -> dict[str, Stats]:
        """From control groups, as far as these can be read here. It blocks."""
        found = {}
        for record in records:
            place = self._places.get(record.id) or self._place(record)
            stats = cgroups.read(place, whole=whole) if place is not None else None
            if place is not None and stats is not None:
                self._places[record.id] = place
                found[record.id] = stats
            else:
                self._places.pop(record.id, None)
        return found

    def _place(self, record: Record) -> cgroups.Place | None:
        if not record.pid:
            return None
        if self._mounted is None:
            self._mounted = cgroups.here()
        return cgroups.find(record.pid, record.id, self._mounted)

    async def _ask(self, records: Sequence[Record], found: dict[str, Stats]) -> None:
        """Asks the runtime for those that could not be read here."""
        places = asyncio.Semaphore(AT_ONCE)

        async def look(record: Record) -> None:
            async with places:
                try:
                    stats = await self._runtime.stats(record.id)
                except RuntimeFailure:
                    return
            if stats is not None:
                found[record.id] = stats

        await asyncio.gather(*(look(record) for record in records if record.id not in found))

    def _container(
        self, record: Record, stats: Stats, sizes: dict[str, Taken], whole: bool
    ) -> ContainerUse:
        rate = self._rates.rate(record.id, stats.cpu_nanoseconds)
        if not whole:
            return ContainerUse(record, stats, rate)
        logs = _log_size(record.log_file) if record.log_file else None
        return ContainerUse(record, stats, rate, sizes.get(record.layer), logs)

    def _node(self, whole: bool, records: Sequence[Record]) -> NodeUse:
        used = read_used()
        rate = self._rates.rate("", used.cpu_nanoseconds)
        time = meta.micro_timestamp(self._clock.now())
        memory, cpus = total_memory(), os.cpu_count() or 1
        if not whole:
            return NodeUse(self._name, time, used, rate, memory, cpus)
        here, most = processes()
        layer = next((record.layer for record in records if record.layer), self._directory)
        return NodeUse(
            self._name,
            time,
            used,
            rate,
            memory,
            cpus,
            interfaces=tuple(network_counters.of_process("self")),
            uplink=network_counters.default_interface(),
            files=file_system(self._directory),
            image_files=file_system(layer),
            processes=here,
            most_processes=most,
        )


def _anyone(sandbox: Record | None, containers: Sequence[Record]) -> Record:
    return sandbox or containers[0]


def _directories(records: Iterable[Record], volumes: Iterable[VolumeUse]) -> list[str]:
    layers = [record.layer for record in records if record.layer]
    return [*layers, *(volume.path for volume in volumes)]


def _traffic(sandboxes: Iterable[Record | None]) -> dict[str, tuple[Interface, ...]]:
    """By sandbox, of those with a network of their own. It blocks."""
    return {
        sandbox.id: tuple(network_counters.of_process(sandbox.pid))
        for sandbox in sandboxes
        if sandbox is not None and sandbox.pid and sandbox.address
    }


def _log_size(file: str) -> Taken:
    """The log, and what was rotated away from it."""
    taken = Taken()
    for name in (file, *(f"{file}.{number}" for number in range(1, 10))):
        found = used(Path(name))
        if not found.files:
            break
        taken = taken.plus(found)
    return taken
