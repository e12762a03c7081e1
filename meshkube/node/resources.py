"""Requests and limits, in the kernel's terms. Pure. Source: Kubernetes documentation, "Resource
Management for Pods and Containers"."""

from __future__ import annotations

from meshkube.api import quantities
from meshkube.api.qos import amounts, positive, qos_class, requested
from meshkube.api.types import Object
from meshkube.node.runtime import Limits, Resources

CPU_PERIOD = 100_000
MIN_SHARES = 2
MAX_SHARES = 262_144
MIN_QUOTA = 1_000


def limits_on(container: Object) -> Limits:
    """What a container is held to."""
    cpu_limit = amounts(container, "limits").get("cpu")
    memory_limit = amounts(container, "limits").get("memory")
    cpu = requested(container, "cpu")
    shares = quantities.milli(str(cpu)) * 1024 // 1000 if cpu is not None else 0
    quota = 0
    if positive(cpu_limit):
        quota = max(MIN_QUOTA, quantities.milli(str(cpu_limit)) * CPU_PERIOD // 1000)
    return Limits(
        cpu_shares=min(MAX_SHARES, max(MIN_SHARES, shares)),
        cpu_quota=quota,
        memory=quantities.value(str(memory_limit)) if positive(memory_limit) else 0,
    )


def limits_of(pod: Object, container: Object, memory_capacity: int) -> Resources:
    """The limits a container runs under; `memory_capacity` is the node's, in bytes."""
    return Resources(
        limits=limits_on(container),
        memory_request=memory_request(container),
        cpu_period=CPU_PERIOD,
        oom_score_adj=oom_score(pod, container, memory_capacity),
    )


def memory_request(container: Object) -> int:
    """In bytes; 0 where it asks for none."""
    memory = requested(container, "memory")
    return quantities.value(str(memory)) if memory is not None else 0


def oom_score(pod: Object, container: Object, memory_capacity: int) -> int:
    """How soon the kernel ends it where memory runs out: -997 (last) to 1000 (first)."""
    if pod["spec"].get("priorityClassName") in ("system-node-critical", "system-cluster-critical"):
        return -997
    kind = qos_class(pod)
    if kind == "Guaranteed":
        return -997
    if kind == "BestEffort":
        return 1000
    request = memory_request(container)
    return min(999, max(3, 1000 - 1000 * request // max(1, memory_capacity)))
