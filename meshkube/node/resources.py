"""Requests and limits, in the kernel's terms. Pure. Source: Kubernetes documentation, "Resource
Management for Pods and Containers" and "Pod Quality of Service Classes"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.node.runtime import Resources

CPU_PERIOD = 100_000
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000


def _amounts(container: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get(which) or {}


def requested(container: Mapping[str, Any], resource: str) -> Any:
    """The request; without one, the limit; else None."""
    found = _amounts(container, "requests").get(resource)
    return found if found is not None else _amounts(container, "limits").get(resource)


def qos_class(pod: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    guaranteed, anything = True, False
    for container in containers:
        for resource in ("cpu", "memory"):
            limit = _amounts(container, "limits").get(resource)
            request = requested(container, resource)
            anything = anything or _positive(request) or _positive(limit)
            if not _positive(limit) or quantities.parse(str(limit)) != quantities.parse(
                str(request)
            ):
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _positive(quantity: Any) -> bool:
    return quantity is not None and quantities.parse(str(quantity)) > 0


def limits_of(pod: Object, container: Object, memory_capacity: int) -> Resources:
    """The limits a container runs under; `memory_capacity` is the node's, in bytes."""
    cpu_limit = _amounts(container, "limits").get("cpu")
    memory_limit = _amounts(container, "limits").get("memory")
    cpu = requested(container, "cpu")
    shares = quantities.milli(str(cpu)) * 1024 // 1000 if cpu is not None else 0
    quota = 0
    if _positive(cpu_limit):
        quota = max(MIN_QUOTA, quantities.milli(str(cpu_limit)) * CPU_PERIOD // 1000)
    return Resources(
        cpu_shares=min(MAX_SHARES, max(MIN_SHARES, shares)),
        cpu_quota=quota,
        cpu_period=CPU_PERIOD,
        memory=quantities.value(str(memory_limit)) if _positive(memory_limit) else 0,
        oom_score_adj=oom_score(pod, container, memory_capacity),
    )


def oom_score(pod: Object, container: Object, memory_capacity: int) -> int:
    """How soon the kernel ends it where memory runs out: -997 (last) to 1000 (first)."""
    if pod["spec"].get("priorityClassName") in ("system-node-critical", "system-cluster-critical"):
        return -997
    kind = qos_class(pod)
    if kind == "Guaranteed":
        return -997
    if kind == "BestEffort":
        return 1000
    memory = requested(container, "memory")
    request = quantities.value(str(memory)) if memory is not None else 0
    return min(999, max(3, 1000 - 1000 * request // max(1, memory_capacity)))
