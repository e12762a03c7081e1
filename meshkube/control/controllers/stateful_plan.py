"""What a StatefulSet does next: pods in order, each only once those before it are well. Pure.

Source: the StatefulSet concept page, "Deployment and Scaling Guarantees" and "Update strategies".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import stateful_pods as identity
from meshkube.control.controllers.history import template_of


@dataclass(slots=True)
class Plan:
    """What to do now; more follows once it is done."""

    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    repair: list[Object] = field(default_factory=list)
    """Pods that have lost a part of their identity."""
    claims: list[Object] = field(default_factory=list)
    """Pods that wait, perhaps for claims that are missing."""


@dataclass(frozen=True, slots=True)
class World:
    """A StatefulSet, its pods, and the revisions that they are and are to be of."""

    stateful_set: Object
    pods: Sequence[Object]
    current: Object
    update: Object
    now: datetime

    @property
    def minimum(self) -> int:
        return int(self.stateful_set["spec"].get("minReadySeconds") or 0)

    @property
    def ordered(self) -> bool:
        return bool(self.stateful_set["spec"].get("podManagementPolicy") != "Parallel")

    @property
    def rolling(self) -> Object | None:
        strategy = self.stateful_set["spec"].get("updateStrategy") or {}
        return strategy.get("rollingUpdate")

    @property
    def strategy(self) -> str:
        return str((self.stateful_set["spec"].get("updateStrategy") or {}).get("type") or "")

    @property
    def partition(self) -> int:
        return int((self.rolling or {}).get("partition") or 0)

    def member(self, number: int) -> Object | None:
        return next((pod for pod in self.pods if identity.ordinal(pod) == number), None)

    def condemned(self) -> list[Object]:
        """Pods beyond the wanted ordinals, the highest first."""
        wanted = identity.ordinals(self.stateful_set)
        extra = [p for p in self.pods if identity.ordinal(p) not in wanted]
        return sorted(extra, key=identity.ordinal, reverse=True)

    def well(self, pod: Object | None) -> bool:
        """Running, ready, and nobody has deleted it."""
        return pod is not None and _running_and_ready(pod) and not meta.deleting(pod)

    def available(self, pod: Object) -> bool:
        return pods.phase(pod) == "Running" and (
            pods.available_in(pod, self.minimum, self.now) == 0
        )


def _running_and_ready(pod: Object) -> bool:
    return pods.phase(pod) == "Running" and pods.ready(pod)


def plan(world: World) -> Plan:
    """The next step."""
    todo = Plan()
    if not _establish(world, todo) or not _scale_down(world, todo):
        return todo
    if world.strategy != "OnDelete":
        _update(world, todo)
    return todo


def _establish(world: World, todo: Plan) -> bool:
    """Makes what is missing; False where it must be waited for before anything else."""
    waits = False
    for number in identity.ordinals(world.stateful_set):
        pod = world.member(number)
        if pod is None:
            todo.create.append(_new_pod(world, number))
        elif pods.finished(pod):
            # Whatever it said when it ended: this pod is to run.
            if not meta.deleting(pod):
                todo.delete.append(pod)
            waits = True
        else:
            if pods.phase(pod) == "Pending":
                todo.claims.append(pod)
            if not identity.has_identity(world.stateful_set, pod):
                todo.repair.append(pod)
        settled = pod is not None and world.well(pod) and world.available(pod)
        if world.ordered and not settled:
            return False
    return not waits


def _new_pod(world: World, number: int) -> Object:
    """Of the revision that pods of this ordinal are of at present."""
    first = identity.start(world.stateful_set)
    status = world.stateful_set.get("status") or {}
    boundary = (
        world.partition if world.rolling is not None else int(status.get("currentReplicas") or 0)
    )
    old = world.strategy == "RollingUpdate" and number < first + boundary
    revision = world.current if old else world.update
    template = template_of(revision)
    return identity.new_pod(world.stateful_set, template, meta.name(revision), number)


def _scale_down(world: World, todo: Plan) -> bool:
    """Deletes pods beyond the wanted number, from the highest; False where that goes on."""
    condemned = world.condemned()
    everyone = [world.member(n) for n in identity.ordinals(world.stateful_set)]
    unwell = [pod for pod in (*everyone, *reversed(condemned)) if not world.well(pod)]
    first_unwell = unwell[0] if unwell else None
    for pod in condemned:
        if meta.deleting(pod):
            if world.ordered:
                return False
            continue
        if world.ordered and pod is not first_unwell and not world.available(pod):
            return False
        todo.delete.append(pod)
        if world.ordered:
            return False
    return not todo.delete


def _update(world: World, todo: Plan) -> None:
    """Deletes the highest pod of another revision, once all above it are well."""
    numbers = list(identity.ordinals(world.stateful_set))[world.partition :]
    for number in reversed(numbers):
        pod = world.member(number)
        if pod is None:
            return
        if identity.revision_of(pod) != meta.name(world.update) and not meta.deleting(pod):
            todo.delete.append(pod)
            return
        if not world.well(pod):
            return


def status(world: World, collisions: int) -> tuple[Object, float | None]:
    """The status, and seconds until it changes by time alone."""
    current, update = meta.name(world.current), meta.name(world.update)
    waits = [
        pods.available_in(pod, world.minimum, world.now)
        for pod in world.pods
        if _running_and_ready(pod)
    ]
    counted = [pod for pod in world.pods if not meta.deleting(pod)]
    result: Object = {
        "observedGeneration": meta.generation(world.stateful_set),
        "replicas": len(world.pods),
        "readyReplicas": len(waits),
        "currentReplicas": _of(counted, current),
        "updatedReplicas": _of(counted, update),
        "currentRevision": current,
        "updateRevision": update,
        "collisionCount": collisions,
        "availableReplicas": sum(wait == 0 for wait in waits),
    }
    if world.strategy == "RollingUpdate" and _updated(world, result):
        result["currentReplicas"] = result["updatedReplicas"]
        result["currentRevision"] = update
    for optional in ("readyReplicas", "currentReplicas", "updatedReplicas"):
        if not result[optional]:
            del result[optional]
    kept = (world.stateful_set.get("status") or {}).get("conditions")
    if kept is not None:
        result["conditions"] = kept
    return result, min((wait for wait in waits if wait), default=None)


def _of(members: Iterable[Object], revision: str) -> int:
    return sum(identity.revision_of(pod) == revision for pod in members)


def _updated(world: World, counts: Object) -> bool:
    """True once every pod is of the new revision and ready."""
    return (
        counts["updatedReplicas"] == counts["replicas"]
        and counts["readyReplicas"] == counts["replicas"]
        and len(world.pods) == identity.replicas(world.stateful_set)
    )
