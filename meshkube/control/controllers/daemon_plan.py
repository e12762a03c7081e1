"""What a DaemonSet does next: pods on the nodes that should have one, old ones replaced step by
step. Pure.

Source: the DaemonSet API, `updateStrategy`, and the task "Perform a Rolling Update on a DaemonSet".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from meshkube.api import meta
from meshkube.api.intstr import scaled
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers.history import POD_HASH


@dataclass(slots=True)
class Plan:
    """Names of nodes that get a pod, and pods that go; `finished` are those of them that ended."""

    create: list[str] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    finished: list[Object] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.create or self.delete)


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many nodes may be without, or have one more, during an update."""

    unavailable: int
    surge: int


@dataclass(frozen=True, slots=True)
class World:
    """What a plan looks at: its pods by node, and which nodes should have one (start, go on)."""

    hash: str
    minimum: int
    """Seconds a pod must be ready to count as available."""
    nodes: Mapping[str, tuple[bool, bool]]
    pods: Mapping[str, Sequence[Object]]
    now: datetime

    def available(self, pod: Object) -> bool:
        return pods.available_in(pod, self.minimum, self.now) == 0

    def fresh(self, pod: Object) -> bool:
        """True where the pod is of the present template."""
        return meta.labels(pod).get(POD_HASH) == self.hash

    def living(self, node: str) -> list[Object]:
        """Those that nobody has deleted."""
        return [pod for pod in self.pods.get(node, ()) if not meta.deleting(pod)]

    def concerned(self) -> list[str]:
        """The nodes that have pods or should."""
        wanted = (node for node, (start, _) in self.nodes.items() if start)
        return list(dict.fromkeys((*self.pods, *wanted)))

    @property
    def desired(self) -> int:
        return sum(start for start, _ in self.nodes.values())


def numbers(daemon_set: Object, desired: int) -> Numbers:
    """The limits of a rolling update, percents resolved: both round up."""
    rolling = (daemon_set["spec"].get("updateStrategy") or {}).get("rollingUpdate") or {}
    limit = rolling.get("maxUnavailable")
    unavailable = scaled(1 if limit is None else limit, desired, True)
    surge = scaled(rolling.get("maxSurge") or 0, desired, True)
    if desired and not unavailable and not surge:
        unavailable = 1
    return Numbers(unavailable, surge)


def plan(daemon_set: Object, world: World) -> Plan:
    """The next step: first what should be on each node, then the update."""
    limits = numbers(daemon_set, world.desired)
    todo = _manage(world, limits.surge > 0)
    strategy = daemon_set["spec"].get("updateStrategy") or {}
    if todo or strategy.get("type") == "OnDelete":
        return todo
    return _surge(world, limits.surge) if limits.surge else _replace(world, limits.unavailable)


def _manage(world: World, surging: bool) -> Plan:
    todo = Plan()
    for node, (start, go_on) in world.nodes.items():
        there = world.pods.get(node, ())
        if not there:
            if start:
                todo.create.append(node)
        elif not go_on:
            todo.delete += world.living(node)
        elif _tidy(world, node, surging, todo) and surging and start:
            # A surge does not wait for the pod that is being deleted.
            todo.create.append(node)
    for node, there in world.pods.items():
        if node not in world.nodes:
            # Its node is gone: nothing will ever take it.
            todo.delete += [p for p in there if not meta.deleting(p) and not pods.node_name(p)]
    return todo


def _tidy(world: World, node: str, surging: bool, todo: Plan) -> bool:
    """One pod per node, two while a surge goes on; those that ended make room. True where none
    is left."""
    running = []
    for pod in world.living(node):
        if pods.finished(pod):
            todo.delete.append(pod)
            todo.finished.append(pod)
        else:
            running.append(pod)
    running.sort(key=seniority)
    if len(running) < 2 or not surging:
        todo.delete += running[1:]
        return not running
    new = [pod for pod in running if world.fresh(pod)]
    old = [pod for pod in running if not world.fresh(pod)]
    todo.delete += [*new[1:], *old[1:]]
    if new and old and (not pods.ready(old[0]) or world.available(new[0])):
        todo.delete.append(old[0])
    return False


def seniority(pod: Object) -> tuple[Any, ...]:
    return (not pods.node_name(pod), pods.created(pod), meta.name(pod))


@dataclass(frozen=True, slots=True)
class _Pair:
    """The pods of a node that were not deleted: one of the present template, one of another."""

    new: Object | None
    old: Object | None
    clear: bool
    """False where there are more: those are for the next look."""


def _pair(world: World, node: str) -> _Pair:
    new = [pod for pod in world.living(node) if world.fresh(pod)]
    old = [pod for pod in world.living(node) if not world.fresh(pod)]
    clear = len(new) < 2 and len(old) < 2
    return _Pair(new[0] if new else None, old[0] if old else None, clear)


def _replace(world: World, most: int) -> Plan:
    """Deletes old pods, as long as no more than `most` nodes are without an available one."""
    unavailable = 0
    broken: list[Object] = []
    candidates: list[Object] = []
    for node in world.concerned():
        pair = _pair(world, node)
        if not pair.clear or (pair.new is None) == (pair.old is None):
            unavailable += 1
        elif pair.new is not None:
            unavailable += not world.available(pair.new)
        elif pair.old is not None and world.available(pair.old):
            candidates.append(pair.old)
        elif pair.old is not None:
            broken.append(pair.old)
            unavailable += 1
    room = max(most - unavailable, 0)
    return Plan(delete=[*broken, *candidates[:room]])


def _surge(world: World, most: int) -> Plan:
    """Makes new pods beside old ones, on at most `most` nodes at once; the old one goes when the
    new one is available."""
    todo = Plan()
    surging = available = 0
    candidates: list[str] = []
    leaving: list[Object] = []
    for node in world.pods:
        pair = _pair(world, node)
        start = world.nodes.get(node, (False, False))[0]
        if not pair.clear:
            surging += 1
            continue
        shown = pair.old or pair.new
        available += shown is not None and world.available(shown)
        if pair.old is None:
            continue
        if pair.new is not None:
            if world.available(pair.new):
                todo.delete.append(pair.old)
            else:
                surging += 1
        elif not start:
            (leaving if world.available(pair.old) else todo.delete).append(pair.old)
        elif world.available(pair.old):
            candidates.append(node)
        else:
            todo.create.append(node)
    todo.delete += leaving[: max(available - world.desired, 0)]
    todo.create += candidates[: max(most - surging, 0)]
    return todo


def status(daemon_set: Object, world: World) -> tuple[Object, float | None]:
    """The status, and seconds until it changes by time alone."""
    counts = dict.fromkeys(("current", "misscheduled", "ready", "updated", "available"), 0)
    waits: list[float] = []
    for node, (start, _) in world.nodes.items():
        there = world.pods.get(node, ())
        if not there:
            continue
        if not start:
            counts["misscheduled"] += 1
            continue
        counts["current"] += 1
        shown = min(there, key=seniority)
        wait = pods.available_in(shown, world.minimum, world.now)
        if wait is not None:
            counts["ready"] += 1
            counts["available"] += wait == 0
            if wait:
                waits.append(wait)
        counts["updated"] += world.fresh(shown)
    before = daemon_set.get("status") or {}
    result: Object = {
        "currentNumberScheduled": counts["current"],
        "numberMisscheduled": counts["misscheduled"],
        "desiredNumberScheduled": world.desired,
        "numberReady": counts["ready"],
        "observedGeneration": meta.generation(daemon_set),
        "updatedNumberScheduled": counts["updated"],
        "numberAvailable": counts["available"],
        "numberUnavailable": world.desired - counts["available"],
    }
    for optional in ("updatedNumberScheduled", "numberAvailable", "numberUnavailable"):
        if not result[optional]:
            del result[optional]
    for kept in ("collisionCount", "conditions"):
        if before.get(kept) is not None:
            result[kept] = before[kept]
    return result, min(waits, default=None)
