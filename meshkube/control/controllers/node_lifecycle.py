"""Nodes that fall silent: marked, tainted, and their pods taken out of service.

A node's heartbeat is its Lease in kube-node-lease. How long ago it was renewed is counted on this
host's steady clock, from the moment the renewal was seen. Source: the "Nodes" concept page.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.controllers.node_zones import in_trouble
from meshkube.control.controllers.node_zones import ready_status as ready_status
from meshkube.control.loop import Context, Controller

LEASES = "kube-node-lease"
NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
JUDGED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")
_TAINTS_BY_CONDITION = {
    ("MemoryPressure", "True"): "node.kubernetes.io/memory-pressure",
    ("DiskPressure", "True"): "node.kubernetes.io/disk-pressure",
    ("PIDPressure", "True"): "node.kubernetes.io/pid-pressure",
    ("NetworkUnavailable", "True"): "node.kubernetes.io/network-unavailable",
}
_OURS = frozenset({NOT_READY, UNREACHABLE, UNSCHEDULABLE, *_TAINTS_BY_CONDITION.values()})


@dataclass(slots=True)
class Heartbeat:
    """The last sign of life, and when it was seen on the steady clock."""

    sign: tuple[str, str]
    at: float


def silenced(node: Object, now: datetime) -> list[Object]:
    """The conditions of a node that has stopped reporting."""
    conditions = [dict(entry) for entry in (node.get("status") or {}).get("conditions") or ()]
    moment = meta.timestamp(now)
    for type in JUDGED:
        old = pods.condition(node, type)
        if old is not None and old.get("status") == "Unknown":
            continue
        reason, message = "NodeStatusUnknown", "Kubelet stopped posting node status."
        if old is None:
            reason, message = "NodeStatusNeverUpdated", "Kubelet never posted node status."
        entry = {"type": type, "status": "Unknown", "reason": reason, "message": message}
        entry["lastHeartbeatTime"] = (old or {}).get("lastHeartbeatTime") or moment
        entry["lastTransitionTime"] = moment
        pods.set_condition(conditions, entry)
    return conditions


def taints(node: Object, now: datetime, evict: bool = True) -> list[Object]:
    """The node's taints as its conditions and `unschedulable` call for; those of others stay. With
    `evict` false pods stay on a node that is away."""
    spec = node.get("spec") or {}
    old = spec.get("taints") or []
    wanted: list[tuple[str, str]] = []
    status = ready_status(node)
    key = {"False": NOT_READY, "Unknown": UNREACHABLE}.get(status)
    if key:
        wanted += [(key, "NoSchedule"), (key, "NoExecute")][: 1 + evict]
    for (type, value), taint in _TAINTS_BY_CONDITION.items():
        entry = pods.condition(node, type)
        if entry is not None and entry.get("status") == value:
            wanted.append((taint, "NoSchedule"))
    if spec.get("unschedulable"):
        wanted.append((UNSCHEDULABLE, "NoSchedule"))
    kept = [t for t in old if t.get("key") not in _OURS or (t["key"], t.get("effect")) in wanted]
    there = {(t.get("key"), t.get("effect")) for t in kept}
    added = [_taint(key, effect, now) for key, effect in wanted if (key, effect) not in there]
    return [*kept, *added]


def _taint(key: str, effect: str, now: datetime) -> Object:
    return {"key": key, "effect": effect, "timeAdded": meta.timestamp(now)}


def heartbeat(
    memory: dict[str, Heartbeat], node: Object, lease: Object | None, now: float
) -> float:
    """Seconds since the node was last heard of."""
    ready = pods.condition(node, "Ready") or {}
    renewed = ((lease or {}).get("spec") or {}).get("renewTime") or ""
    # Its own word on itself counts too, but not the one said in its place.
    posted = ready.get("lastHeartbeatTime") or ""
    sign = (str(renewed), str(posted))
    last = memory.get(meta.name(node))
    if last is None or last.sign != sign:
        last = memory[meta.name(node)] = Heartbeat(sign, now)
    return now - last.at


async def reconcile(context: Context, key: str) -> float | None:
    node = context.caches.of(kinds.NODE).get(key)
    memory: dict[str, Heartbeat] = context.memory
    if node is None:
        if memory.pop(key, None) is not None:
            gone = {"apiVersion": "v1", "kind": "Node", "name": key, "uid": key}
            message = f"Node {key} event: Removing Node {key} from Controller"
            context.events.event(gone, "Normal", "RemovingNode", message)
        return None
    _greet(context, node, known=key in memory)
    lease = context.caches.of(kinds.LEASE).get(f"{LEASES}/{key}")
    silent = heartbeat(memory, node, lease, context.clock.monotonic())
    left = _grace(context, lease) - silent
    if left <= 0:
        node = await _silence(context, node)
    node = await _taint_node(context, node)
    if ready_status(node) != "True":
        await _mark_pods(context, node)
    return left if left > 0 else None


def _grace(context: Context, lease: Object | None) -> float:
    """The node's own word counts: it may run with other settings than ours."""
    said = ((lease or {}).get("spec") or {}).get("leaseDurationSeconds") or 0
    return max(context.settings.node_grace, float(said))


def _greet(context: Context, node: Object, known: bool) -> None:
    if known:
        return
    name = meta.name(node)
    message = f"Node {name} event: Registered Node {name} in Controller"
    context.events.event(node, "Normal", "RegisteredNode", message)


async def _silence(context: Context, node: Object) -> Object:
    conditions = silenced(node, context.clock.now())
    if conditions == (node.get("status") or {}).get("conditions"):
        return node
    message = f"Node {meta.name(node)} status is now: NodeNotReady"
    if ready_status(node) == "True":
        context.events.event(node, "Normal", "NodeNotReady", message)
    changed = {**node, "status": {**(node.get("status") or {}), "conditions": conditions}}
    return await context.client.update(kinds.NODE, changed, subresource="status")


async def _taint_node(context: Context, node: Object) -> Object:
    away = ready_status(node) != "True"
    evict = not (away and in_trouble(node, context.caches.of(kinds.NODE).list()))
    wanted = taints(node, context.clock.now(), evict)
    if wanted == ((node.get("spec") or {}).get("taints") or []):
        return node
    changed = meta.copy(node)
    changed.setdefault("spec", {})["taints"] = wanted
    return await context.client.update(kinds.NODE, changed)


async def _mark_pods(context: Context, node: Object) -> None:
    """Its pods get no more requests: nobody knows whether they could answer."""
    here = context.caches.of(kinds.POD).by_index(indexes.NODE, meta.name(node))
    for pod in here:
        conditions = unready(pod, context.clock.now())
        if conditions is None:
            continue
        context.events.event(pod, "Warning", "NodeNotReady", "Node is not ready")
        changed = {**pod, "status": {**pod["status"], "conditions": conditions}}
        try:
            await context.client.update(kinds.POD, changed, subresource="status")
        except ApiError as error:
            if error.code != 404:
                raise


def unready(pod: Object, now: datetime) -> Sequence[Object] | None:
    """The pod's conditions with Ready at False; None where it is not ready anyway."""
    if not pods.ready(pod) or pods.finished(pod):
        return None
    conditions = [dict(entry) for entry in pod["status"]["conditions"]]
    for entry in conditions:
        if entry["type"] == "Ready":
            entry["status"], entry["lastTransitionTime"] = "False", meta.timestamp(now)
    return conditions


def _of_lease(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    lease = new if new is not None else old or {}
    return (meta.name(lease),) if meta.namespace(lease) == LEASES else ()


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """A pod that calls itself ready on a node that is not: the mark is set again."""
    if new is None or not pods.ready(new) or (old is not None and pods.ready(old)):
        return ()
    node = caches.of(kinds.NODE).get(pods.node_name(new))
    return (meta.name(node),) if node is not None and ready_status(node) != "True" else ()


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """One more or one less in trouble: those that are away may be judged otherwise."""
    if old is not None and new is not None and ready_status(old) == ready_status(new):
        return ()
    nodes = caches.of(kinds.NODE).list()
    return [meta.name(node) for node in nodes if ready_status(node) != "True"]


CONTROLLER = Controller(
    name="node",
    kind=kinds.NODE,
    watches={kinds.NODE: _of_node, kinds.LEASE: _of_lease, kinds.POD: _of_pod},
    component="node-controller",
    reconcile=reconcile,
)
