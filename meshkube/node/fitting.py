"""Whether a pod that was given to this node fits beside those it has: who names the node himself
asks no scheduler. Pure. Reasons and messages are the kubelet's.

Labels are not looked at: they come by another watch than pods, so a pod that was sent here for a
new label might be turned away for its absence."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshkube.api import placement
from meshkube.api.allocation import held
from meshkube.api.types import Object
from meshkube.node.refusals import Ending

_OWN = ("cpu", "memory", "ephemeral-storage", "pods")


@dataclass(frozen=True, slots=True)
class Place:
    """What one pod takes of the node."""

    requests: placement.Resources
    ports: tuple[placement.Port, ...]


def place_of(pod: Object) -> Place:
    """What `pod` takes, also while its resources change."""
    return Place(placement.requests(held(pod)), placement.host_ports(pod["spec"]))


def misfit(pod: Object, others: Iterable[Place], node: Object) -> Ending | None:
    """Why `pod` cannot be here beside `others`; None where it can."""
    taken = list(others)
    wanted = place_of(pod)
    return _resources(wanted, taken, node) or _ports(wanted, taken)


def _resources(wanted: Place, taken: list[Place], node: Object) -> Ending | None:
    allocatable = placement.resources((node.get("status") or {}).get("allocatable"))
    for name, count in {"pods": 1, **wanted.requests}.items():
        # A resource that no node has by itself is for others to count.
        if not count or (name not in allocatable and name not in _OWN):
            continue
        used = len(taken) if name == "pods" else sum(one.requests.get(name, 0) for one in taken)
        capacity = allocatable.get(name, 0)
        if used + count > capacity:
            return Ending(
                f"OutOf{name}",
                f"Node didn't have enough resource: {name}, requested: {count}, used: {used},"
                f" capacity: {capacity}",
            )
    return None


def _ports(wanted: Place, taken: list[Place]) -> Ending | None:
    held_here = [port for one in taken for port in one.ports]
    if not any(placement.clash(one, other) for one in wanted.ports for other in held_here):
        return None
    why = "node(s) didn't have free ports for the requested pod ports"
    return Ending("NodePorts", f"Predicate NodePorts failed: {why}")
