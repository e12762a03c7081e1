"""Resources that change while a pod runs: what the node gives of what is asked for, and what each
container still lacks of it. Pure. Source: Kubernetes documentation, "Resize CPU and Memory
Resources assigned to Containers".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from meshkube.api import quantities
from meshkube.api.allocation import DEFERRED, INFEASIBLE, held
from meshkube.api.qos import amounts
from meshkube.api.types import Object
from meshkube.api.validation.resizing import restarts
from meshkube.node.resources import limits_on, memory_request
from meshkube.node.runtime import Record

Given = Mapping[str, Object]
"""`resources` by container name."""
_RESOURCES = ("cpu", "memory")
_FIELDS = ("containers", "initContainers")


class Waiting(NamedTuple):
    """Why a pod does not get what it asks for: `Deferred` or `Infeasible`."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Room:
    """What the node has, and what its other pods hold: cpu in thousandths, memory in bytes."""

    allocatable: Mapping[str, int]
    used: Mapping[str, int]


def room(allocatable: Mapping[str, Any], others: Iterable[Object]) -> Room:
    """`others` are the other pods of the node; those that have ended hold nothing."""
    used = dict.fromkeys(_RESOURCES, 0)
    for pod in others:
        if (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            for name, amount in _held_by(held(pod)).items():
                used[name] += amount
    return Room({name: _number(name, allocatable.get(name, 0)) for name in _RESOURCES}, used)


def given_at_first(pod: Object) -> Given:
    """What the pod had been given when somebody last wrote its status; all it asks for where
    nothing was written."""
    status = pod.get("status") or {}
    found: dict[str, Object] = {}
    for statuses in ("containerStatuses", "initContainerStatuses"):
        for entry in status.get(statuses) or ():
            if entry.get("allocatedResources"):
                limits = (entry.get("resources") or {}).get("limits")
                requests = entry["allocatedResources"]
                found[entry["name"]] = {
                    "requests": requests,
                    **({"limits": limits} if limits else {}),
                }
    given: dict[str, Object] = {}
    for container in _containers(pod):
        asked: Object = container.get("resources") or {}
        had = found.get(container["name"], asked)
        same = (had.get("requests") or {}) == (asked.get("requests") or {})
        given[container["name"]] = asked if same else had
    return given


def resources_of(pod: Object) -> Given:
    """What the pod asks for."""
    return {c["name"]: c.get("resources") or {} for c in _containers(pod)}


def as_given(pod: Object, given: Given) -> Object:
    """The pod, asking for what it was given; the pod itself where that is the same."""
    if all(_given(c, given) == (c.get("resources") or {}) for c in _containers(pod)):
        return pod
    spec = {**pod["spec"]}
    for field in _FIELDS:
        if spec.get(field):
            spec[field] = [{**c, "resources": _given(c, given)} for c in spec[field]]
    return {**pod, "spec": spec}


def _given(container: Object, given: Given) -> Object:
    return given.get(container["name"], container.get("resources") or {})


def decide(pod: Object, given: Given, room: Room) -> tuple[Given, Waiting | None]:
    """What the pod has from now on, and why that is not what it asks for."""
    wanted = resources_of(pod)
    if wanted == given:
        return given, None
    asked, has = _held_by(pod["spec"]), _held_by(as_given(pod, given)["spec"])
    grown = [name for name in _RESOURCES if asked[name] > has[name]]
    for name in grown:
        capacity = room.allocatable[name]
        if asked[name] > capacity:
            why = f"{name}, requested: {asked[name]}, capacity: {capacity}"
            return given, Waiting(INFEASIBLE, f"Node didn't have enough capacity: {why}")
    for name in grown:
        capacity, used = room.allocatable[name], room.used[name]
        if asked[name] + used > capacity:
            why = f"{name}, requested: {asked[name]}, used: {used}, capacity: {capacity}"
            return given, Waiting(DEFERRED, f"Node didn't have enough resource: {why}")
    return wanted, None


def lacks(container: Object, record: Record) -> bool:
    """Whether a running container does not run with what it was given, as far as is known."""
    if record.limits is None:
        return False
    return limits_on(container) != record.limits or _requests_other_memory(container, record)


def _requests_other_memory(container: Object, record: Record) -> bool:
    """No kernel knows of it, but a policy may ask for a new container at each change."""
    asked = record.memory_request
    return asked not in (None, memory_request(container)) and restarts(container, "memory")


def needs_restart(container: Object, record: Record) -> bool:
    """Whether what changes may only change with a new container."""
    wanted, limits = limits_on(container), record.limits
    if limits is None:
        return False
    if _requests_other_memory(container, record):
        return True
    cpu = (wanted.cpu_shares, wanted.cpu_quota) != (limits.cpu_shares, limits.cpu_quota)
    memory = wanted.memory != limits.memory
    return (cpu and restarts(container, "cpu")) or (memory and restarts(container, "memory"))


def _held_by(spec: Object) -> dict[str, int]:
    """What containers and sidecars ask for together; init containers have had their turn."""
    total = dict.fromkeys(_RESOURCES, 0)
    for container in _lasting(spec):
        for name in _RESOURCES:
            total[name] += _number(name, amounts(container, "requests").get(name, 0))
    for name in _RESOURCES:
        total[name] += _number(name, (spec.get("overhead") or {}).get(name, 0))
    return total


def _lasting(spec: Object) -> Iterator[Object]:
    yield from spec.get("containers") or ()
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container


def _containers(pod: Object) -> Iterator[Object]:
    for field in _FIELDS:
        yield from pod["spec"].get(field) or ()


def _number(name: str, amount: Any) -> int:
    return quantities.milli(amount) if name == "cpu" else quantities.value(amount)
