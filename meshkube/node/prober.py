"""Runs one pod's probes: a small task for each, from the start of a container to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.node.handlers import Handlers
from meshkube.node.probe_metrics import PROBES
from meshkube.node.probes import FIELDS, Answer, ProbeKind, Schedule, Tally, schedule
from meshkube.node.runtime import Record
from meshkube.node.view import PodView, ProbeView

Tell = Callable[[str, str, str], None]
"""Told of each try that failed or warns: the container's name, a reason and a message."""


@dataclass(slots=True)
class _Watched:
    record: Record
    container: Object
    has: frozenset[ProbeKind]
    started: bool
    ready: bool
    failed: str = ""
    passed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[ProbeKind, asyncio.Task[None]] = field(default_factory=dict)

    def view(self) -> ProbeView:
        return ProbeView(self.started, self.started and self.ready, self.failed)


class PodProber:
    """The probes of one pod. `changed` is called when a verdict changes."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        handlers: Handlers,
        clock: Clock,
        changed: Callable[[], None],
        tell: Tell,
    ) -> None:
        self._group = group
        self._handlers = handlers
        self._clock = clock
        self._changed = changed
        self._told = tell
        self._watched: dict[str, _Watched] = {}
        self._address = ""
        self._counted: dict[tuple[str, str], Record] = {}

    def views(self) -> dict[str, ProbeView]:
        """By container id."""
        return {id: watched.view() for id, watched in self._watched.items()}

    def follow(self, view: PodView, address: str) -> None:
        """Starts the probes of containers that run, ends those of containers that do not."""
        self._address = address
        running: set[str] = set()
        for container in view.containers:
            record = container.current
            if record is None or not container.running or container.role == "init":
                continue
            running.add(record.id)
            if record.id not in self._watched:
                self._begin(container.spec, record, container.last)
        for id in self._watched.keys() - running:
            self._end(self._watched.pop(id))

    def stop(self) -> None:
        for watched in self._watched.values():
            self._end(watched)
        self._watched.clear()
        for (_, kind), record in self._counted.items():
            PROBES.forget(record, kind)
        self._counted.clear()

    def stop_for(self, id: str) -> None:
        """The container is being ended: nobody asks any more whether it lives, but clients still
        need to know whether it is ready (`serving` in its EndpointSlice)."""
        watched = self._watched.get(id)
        if watched is not None:
            for kind in watched.tasks.keys() - {"readiness"}:
                watched.tasks.pop(kind).cancel()

    def _end(self, watched: _Watched) -> None:
        for task in watched.tasks.values():
            task.cancel()
        watched.tasks.clear()

    def _begin(self, container: Object, record: Record, last: Mapping[str, Any]) -> None:
        """A container found running goes on from what its status said last."""
        has = frozenset(kind for kind, name in FIELDS.items() if container.get(name))
        adopted = str(last.get("containerID") or "").endswith(record.id)
        watched = _Watched(
            record,
            container,
            has,
            started="startup" not in has or (adopted and bool(last.get("started"))),
            ready="readiness" not in has or (adopted and bool(last.get("ready"))),
        )
        if watched.started:
            watched.passed.set()
        self._watched[record.id] = watched
        for kind in has:
            if kind == "startup" and watched.started:
                continue
            name = f"{kind} probe {record.name}"
            watched.tasks[kind] = self._group.create_task(self._run(kind, watched), name=name)

    async def _run(self, kind: ProbeKind, watched: _Watched) -> None:
        probe = watched.container[FIELDS[kind]]
        times = schedule(probe)
        if kind != "startup":
            await watched.passed.wait()
        await self._clock.sleep(self._first_delay(times, watched.record))
        tally = Tally(times, watched.ready if kind == "readiness" else True)
        while True:
            began = self._clock.monotonic()
            answer = await self._handlers.probe(
                probe, watched.container, watched.record, self._address, times.timeout
            )
            self._count(kind, watched.record, answer.good, self._clock.monotonic() - began)
            if not answer.good or answer.warning:
                self._tell(kind, watched, answer)
            if self._judge(kind, watched, tally, answer):
                return
            await self._clock.sleep(times.period)

    def _first_delay(self, times: Schedule, record: Record) -> float:
        """What is left of the initial delay since the container's start."""
        since = self._clock.now() - (record.started or record.created)
        return max(0.0, times.initial_delay - since.total_seconds())

    def _count(self, kind: ProbeKind, record: Record, good: bool, seconds: float) -> None:
        PROBES.tried(record, kind, good, seconds)
        self._counted[record.name, kind] = record

    def _tell(self, kind: ProbeKind, watched: _Watched, answer: Answer) -> None:
        name = kind.capitalize()
        reason, what = ("ProbeWarning", "warning") if answer.good else ("Unhealthy", "failed")
        self._told(watched.record.name, reason, f"{name} probe {what}: {answer.message}")

    def _judge(self, kind: ProbeKind, watched: _Watched, tally: Tally, answer: Answer) -> bool:
        """Takes one answer into account. True where the probe has no more to find out."""
        if not tally.add(answer.good):
            return False
        if kind == "readiness":
            if watched.ready != tally.verdict:
                watched.ready = tally.verdict
                self._changed()
            return False
        if not tally.verdict:
            watched.failed = f"{kind} probe"
            self._changed()
            return True
        if kind == "startup":
            watched.started = True
            watched.passed.set()
            self._changed()
            return True
        return False
