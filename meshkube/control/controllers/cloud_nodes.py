"""Nodes as machines of a cloud: what they are, and whether they still exist.

Source: Kubernetes document "Cloud Controller Manager", node controller.
"""

from __future__ import annotations

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.cloud.provider import CloudError, Instance, Instances
from meshkube.control.loop import Context, Controller

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
OWN_ADDRESSES = frozenset({"InternalIP", "Hostname"})
"""Types of addresses that a node says itself."""
REFRESH, WATCH = 300.0, 5.0
"""Seconds to the next look at a node: that is well, that is not ready."""


def described(node: Object, instance: Instance) -> Object:
    """The Node's `metadata` and `spec` as its machine says; `status` as it was."""
    changed = meta.copy(node)
    labels = {
        "node.kubernetes.io/instance-type": instance.instance_type,
        "topology.kubernetes.io/zone": instance.zone,
        "topology.kubernetes.io/region": instance.region,
    }
    known = {name: value for name, value in labels.items() if value}
    changed["metadata"]["labels"] = {**meta.labels(node), **known}
    spec = changed.setdefault("spec", {})
    spec.setdefault("providerID", instance.provider_id)
    if spec.get("taints"):
        spec["taints"] = [taint for taint in spec["taints"] if taint.get("key") != UNINITIALIZED]
    return changed


def addresses(node: Object, instance: Instance) -> list[Object]:
    """The node's own, and those that its machine adds."""
    held = (node.get("status") or {}).get("addresses") or ()
    own = [entry for entry in held if entry.get("type") in OWN_ADDRESSES]
    return own + [
        {"type": type, "address": address}
        for type, address in instance.addresses
        if type not in OWN_ADDRESSES
    ]


def with_taint(node: Object, key: str, there: bool) -> Object:
    """The node with that taint, or without it; itself where nothing changes."""
    taints = (node.get("spec") or {}).get("taints") or []
    if there == any(taint.get("key") == key for taint in taints):
        return node
    changed = meta.copy(node)
    kept = [taint for taint in taints if taint.get("key") != key]
    added = [{"key": key, "effect": "NoSchedule"}] if there else []
    changed.setdefault("spec", {})["taints"] = [*kept, *added]
    return changed


async def reconcile(context: Context, key: str) -> float | None:
    node = context.caches.of(kinds.NODE).get(key)
    instances = context.settings.cloud.instances
    if node is None or instances is None or meta.deleting(node):
        return None
    try:
        return await _look(context, node, instances)
    except CloudError as error:
        context.events.event(node, "Warning", error.reason, str(error))
        return error.again


async def _look(context: Context, node: Object, instances: Instances) -> float:
    ready = pods.condition(node, "Ready")
    if ready is None or ready.get("status") != "True":
        if not await instances.exists(node):
            message = f"Deleting node {meta.name(node)} because it does not exist in the cloud"
            context.events.event(node, "Normal", "DeletingNode", message)
            await context.client.delete(kinds.NODE, meta.name(node), uid=meta.uid(node))
            return WATCH
        tainted = with_taint(node, SHUTDOWN, await instances.is_shut_down(node))
        if tainted is not node:
            await context.client.update(kinds.NODE, tainted)
        return WATCH
    instance = await instances.describe(node)
    changed = described(with_taint(node, SHUTDOWN, False), instance)
    if changed["metadata"] != node["metadata"] or changed["spec"] != node.get("spec", {}):
        node = await context.client.update(kinds.NODE, changed)
    wanted = addresses(node, instance)
    if wanted != (node.get("status") or {}).get("addresses"):
        status = {**(node.get("status") or {}), "addresses": wanted}
        await context.client.update(kinds.NODE, {**node, "status": status}, subresource="status")
    return REFRESH


CONTROLLER = Controller(
    name="cloud-node",
    kind=kinds.NODE,
    reconcile=reconcile,
    component="cloud-node-controller",
)
