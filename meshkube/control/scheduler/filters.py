"""Which nodes can take a pod, and in Kubernetes' words why the others cannot.

A filter answers None where the node is fine. The first one that objects speaks for its node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshkube.api import meta, placement
from meshkube.api.types import Object
from meshkube.control import volumes
from meshkube.control.scheduler.model import NodeInfo, PodInfo
from meshkube.control.scheduler.volumes import NONE, Grant, Waiting

UNSCHEDULABLE_TAINT = "node.kubernetes.io/unschedulable"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a node is out; `final`: ending other pods on it would not help."""

    reasons: tuple[str, ...]
    final: bool = True


Filter = Callable[[PodInfo, NodeInfo], Refusal | None]

_UNSCHEDULABLE = Refusal(("node(s) were unschedulable",))
_NODE_NAME = Refusal(("node(s) didn't match the requested node name",))
_AFFINITY = Refusal(("node(s) didn't match Pod's node affinity/selector",))
_VOLUME_CONFLICT = Refusal(("node(s) had volume node affinity conflict",))
_NO_VOLUMES = Refusal(("node(s) didn't find available persistent volumes to bind",))
_PORTS = Refusal(("node(s) didn't have free ports for the requested pod ports",), final=False)


def tolerates(tolerations: Iterable[Mapping[str, Any]], taint: Mapping[str, Any]) -> bool:
    """True where one of them covers the taint (key, value and effect)."""
    return any(_covers(toleration, taint) for toleration in tolerations)


def _covers(toleration: Mapping[str, Any], taint: Mapping[str, Any]) -> bool:
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key") or ""
    exists = toleration.get("operator") == "Exists"
    if key != taint.get("key"):
        return not key and exists
    return exists or (toleration.get("value") or "") == (taint.get("value") or "")


def schedulable(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    if not node.unschedulable:
        return None
    taint = {"key": UNSCHEDULABLE_TAINT, "effect": "NoSchedule"}
    return None if tolerates(pod.tolerations, taint) else _UNSCHEDULABLE


def node_name(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    return _NODE_NAME if pod.node and pod.node != node.name else None


def taints(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    for taint in node.taints:
        if not tolerates(pod.tolerations, taint):
            described = f"{{{taint.get('key')}: {taint.get('value') or ''}}}"
            return Refusal((f"node(s) had untolerated taint {described}",))
    return None


def affinity(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    for key, value in pod.node_selector.items():
        if node.labels.get(key) != value:
            return _AFFINITY
    if pod.required is None:
        return None
    terms = pod.required.get("nodeSelectorTerms") or ()
    return None if any(term_matches(term, node) for term in terms) else _AFFINITY


def term_matches(term: Mapping[str, Any], node: NodeInfo) -> bool:
    """All of its expressions and fields; a term without any matches nothing."""
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    named = {"metadata.name": node.name}
    return all(_matches(e, node.labels) for e in expressions) and all(
        _matches(e, named) for e in fields
    )


def _matches(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    held = labels.get(expression["key"])
    values = expression.get("values") or ()
    match expression.get("operator"):
        case "In":
            return held is not None and held in values
        case "NotIn":
            return held not in values
        case "Exists":
            return held is not None
        case "DoesNotExist":
            return held is None
        case "Gt":
            return _compared(held, values) > 0
        case "Lt":
            return _compared(held, values) < 0
    return False


def _compared(held: str | None, values: Any) -> int:
    """-1, 0, 1 as whole numbers; 0 also where one is none."""
    try:
        one, other = int(held or ""), int(values[0])
    except (ValueError, IndexError):
        return 0
    return (one > other) - (one < other)


def ports(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    if not pod.ports or not node.ports:
        return None
    taken = [port for port, count in node.ports.items() if count > 0]
    clash = any(placement.clash(one, other) for one in pod.ports for other in taken)
    return _PORTS if clash else None


def fits(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    """Enough is left of each resource, and of places for pods."""
    short: list[str] = []
    first = (
        [
            one
            for one in node.nominees.values()
            if one.priority >= pod.priority and one.uid != pod.uid
        ]
        if node.nominees
        else ()
    )
    room, taken = node.allocatable, node.requested
    if len(node.pods) + len(first) >= room.get("pods", 0):
        short.append("Too many pods")
    for name, count in pod.requests.items():
        left = room.get(name, 0) - taken.get(name, 0)
        if first:
            left -= sum(one.requests.get(name, 0) for one in first)
        if count > left and count > 0:
            short.append(f"Insufficient {name}")
    # As Kubernetes 1.33 words it also where the whole node is too small.
    return Refusal(tuple(short), final=False) if short else None


def volume_topology(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    """The node reaches every volume of the pod, and each claim that waits can get one here."""
    if pod.volumes is NONE:
        return None
    for terms in pod.volumes.bound:
        if not any(term_matches(term, node) for term in terms):
            return _VOLUME_CONFLICT
    return _NO_VOLUMES if grants(pod, node) is None else None


def grants(pod: PodInfo, node: NodeInfo) -> list[Grant] | None:
    """The volumes that the pod's waiting claims get on this node; None where one gets none."""
    given: list[Grant] = []
    taken: set[str] = set()
    for waiting in pod.volumes.waiting:
        if waiting.node and waiting.node != node.name:
            return None
        volume = None if waiting.node else _static(waiting, node, taken)
        if volume is None and not _makes(waiting, node):
            return None
        if volume is not None:
            taken.add(meta.name(volume))
        given.append(Grant(waiting.claim, volume))
    return given


def _static(waiting: Waiting, node: NodeInfo, taken: set[str]) -> Object | None:
    for volume in waiting.candidates:
        terms = volumes.node_terms(volume)
        here = terms is None or any(term_matches(term, node) for term in terms)
        if here and meta.name(volume) not in taken:
            return volume
    return None


def _makes(waiting: Waiting, node: NodeInfo) -> bool:
    """The class's provisioner can make a volume for this node."""
    if not waiting.provisioner or (
        waiting.provisioner == volumes.LOCAL_PATH and not node.makes_volumes
    ):
        return False
    return volumes.in_topology(node.labels, waiting.topologies)


FILTERS: tuple[tuple[Filter, Callable[[PodInfo], object]], ...] = (
    (schedulable, lambda pod: True),
    (node_name, lambda pod: pod.node),
    (taints, lambda pod: True),
    (affinity, lambda pod: pod.node_selector or pod.required is not None),
    (ports, lambda pod: pod.ports),
    (fits, lambda pod: True),
    (volume_topology, lambda pod: pod.volumes is not NONE),
)
"""In Kubernetes' order, each with the pods that it may have anything against."""


def refusals(pod: PodInfo) -> Callable[[NodeInfo], Refusal | None]:
    """For one pod: the first objection against a node, None where the pod can go there."""
    checks = tuple(check for check, concerns in FILTERS if concerns(pod))

    def refusal(node: NodeInfo) -> Refusal | None:
        for check in checks:
            objection = check(pod, node)
            if objection is not None:
                return objection
        return None

    return refusal


def refusal(pod: PodInfo, node: NodeInfo) -> Refusal | None:
    """The first objection against one node."""
    return refusals(pod)(node)
