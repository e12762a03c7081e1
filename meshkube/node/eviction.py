"""Which pods make room on a node that runs short, in which order, and what they are told. Pure.

Source: Kubernetes documentation, "Node-pressure Eviction": "Pod selection for kubelet eviction";
the wording is the kubelet's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from meshkube.api.qos import qos_class
from meshkube.api.quantities import Quantity, value
from meshkube.api.types import Object
from meshkube.node.refusals import Ending
from meshkube.node.thresholds import Condition, Met, Signal

REASON: Final = "Evicted"
CRITICAL: Final = 2_000_000_000
"""Pods of this priority and above are never evicted: the system's own."""
MEMORY_TAINT: Final = "node.kubernetes.io/memory-pressure"
_RESOURCES: Mapping[Signal, str] = {
    "memory.available": "memory",
    "nodefs.available": "ephemeral-storage",
    "nodefs.inodesFree": "inodes",
    "imagefs.available": "ephemeral-storage",
    "imagefs.inodesFree": "inodes",
    "pid.available": "pids",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodUse:
    """What a pod uses now, of the resource in question; its containers by name."""

    pod: Object
    used: int
    containers: Mapping[str, int] = field(default_factory=dict)


def resource_of(signal: Signal) -> str:
    """`memory`, `ephemeral-storage`, `inodes` or `pids`."""
    return _RESOURCES[signal]


def is_critical(pod: Object) -> bool:
    return int(pod["spec"].get("priority") or 0) >= CRITICAL


def requested(pod: Object, resource: str) -> int:
    """What the pod asked for: its containers together, or the largest init container."""
    spec = pod["spec"]
    steady = [*(spec.get("containers") or ())]
    steady += [c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"]
    first = [c for c in spec.get("initContainers") or () if c.get("restartPolicy") != "Always"]
    return max(
        sum(_amount(container, "requests", resource) for container in steady),
        max((_amount(container, "requests", resource) for container in first), default=0),
    )


def _amount(container: Object, side: str, resource: str) -> int:
    text = ((container.get("resources") or {}).get(side) or {}).get(resource)
    return value(text) if text is not None else 0


def ranked(pods: Iterable[PodUse], resource: str) -> list[PodUse]:
    """Who goes first: who uses more than it asked for, then who matters least, then who is furthest
    above its request. Of process ids nobody asks for any, so the first rule says nothing there."""

    def order(one: PodUse) -> tuple[bool, int, int]:
        above = one.used - requested(one.pod, resource)
        within = resource not in ("inodes", "pids") and above <= 0
        return within, int(one.pod["spec"].get("priority") or 0), -above

    return sorted((one for one in pods if not is_critical(one.pod)), key=order)


def pressure_message(met: Met, use: PodUse) -> str:
    """Why this pod is evicted."""
    resource = resource_of(met.threshold.signal)
    limit = met.threshold.quantity(met.amount.capacity)
    parts = [
        f"The node was low on resource: {resource}.",
        f"Threshold quantity: {shown(limit, resource)},"
        f" available: {shown(met.amount.available, resource)}.",
    ]
    for container in use.pod["spec"].get("containers") or ():
        used = use.containers.get(container["name"], 0)
        asked = _amount(container, "requests", resource)
        if resource not in ("inodes", "pids") and used > asked:
            parts.append(
                f"Container {container['name']} was using {shown(used, resource)}, request is"
                f" {shown(asked, resource)}, has larger consumption of {resource}."
            )
    return " ".join(parts)


def shown(amount: int, resource: str) -> str:
    """As a quantity: memory in `Ki`, disk too; counts as they are."""
    if resource not in ("memory", "ephemeral-storage"):
        return str(amount)
    # To the KiB: nobody reads single bytes.
    return str(Quantity(amount // 1024 * 1024 * 10**9, "binary"))


def refused(pod: Object, conditions: frozenset[Condition]) -> Ending | None:
    """Why a new pod is not taken on while the node runs short."""
    if not conditions or is_critical(pod):
        return None
    if conditions == {"MemoryPressure"} and (
        qos_class(pod) != "BestEffort" or _tolerates_memory_pressure(pod)
    ):
        return None
    listed = " ".join(sorted(conditions))
    return Ending(REASON, f"The node had condition: [{listed}].")


def _tolerates_memory_pressure(pod: Object) -> bool:
    def fits(toleration: Mapping[str, Any]) -> bool:
        key, operator = toleration.get("key"), toleration.get("operator") or "Equal"
        if toleration.get("effect") not in (None, "", "NoSchedule"):
            return False
        if not key:
            return operator == "Exists"
        return key == MEMORY_TAINT and (operator == "Exists" or not toleration.get("value"))

    return any(fits(one) for one in pod["spec"].get("tolerations") or ())


def over_limits(pod: Object, volumes: Mapping[str, int], containers: Mapping[str, int]) -> str:
    """Why a pod has more on disk than it may: bytes in its emptyDirs (on disk), and in the writable
    layers and logs of its containers. Empty where it keeps its limits."""
    checks: Sequence[Callable[[], str]] = (
        lambda: _over_volumes(pod, volumes),
        lambda: _over_pod(pod, sum(volumes.values()) + sum(containers.values())),
        lambda: _over_containers(pod, containers),
    )
    return next((found for check in checks if (found := check())), "")


def _over_volumes(pod: Object, volumes: Mapping[str, int]) -> str:
    for volume in pod["spec"].get("volumes") or ():
        limit = (volume.get("emptyDir") or {}).get("sizeLimit")
        name = volume["name"]
        if limit and name in volumes and 0 < value(limit) < volumes[name]:
            return f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}".'
    return ""


def _over_pod(pod: Object, used: int) -> str:
    limit = sum(storage_limit(container) for container in pod["spec"].get("containers") or ())
    if not 0 < limit < used:
        return ""
    return (
        "Pod ephemeral local storage usage exceeds the total limit of containers"
        f" {shown(limit, 'ephemeral-storage')}."
    )


def _over_containers(pod: Object, containers: Mapping[str, int]) -> str:
    spec = pod["spec"]
    for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
        limit, name = storage_limit(container), container["name"]
        if 0 < limit < containers.get(name, 0):
            text = container["resources"]["limits"]["ephemeral-storage"]
            return f'Container {name} exceeded its local ephemeral storage limit "{text}".'
    return ""


def storage_limit(container: Object) -> int:
    """Bytes; 0 where there is none."""
    return _amount(container, "limits", "ephemeral-storage")


def is_limited(pod: Object) -> bool:
    """Whether its use of the disk is to be watched."""
    spec = pod["spec"]
    containers = [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    return any(map(storage_limit, containers)) or any(map(_sized, spec.get("volumes") or ()))


def _sized(volume: Object) -> bool:
    source = volume.get("emptyDir") or {}
    return bool(source.get("sizeLimit")) and source.get("medium") != "Memory"
