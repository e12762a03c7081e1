"""Addresses for pods: each node gets the first free /24 (IPv6: /64) of the cluster's."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.loop import Context, Controller

Network = IPv4Network | IPv6Network


def first_free(cluster: str, taken: Iterable[str]) -> str | None:
    """The first part of `cluster` that overlaps none of `taken`; None where it is used up."""
    whole = ip_network(cluster)
    length = max(whole.prefixlen, 24 if whole.version == 4 else 64)
    used = [network for text in taken if (network := ip_network(text)).version == whole.version]
    exact = {network for network in used if network.prefixlen == length}
    others = [network for network in used if network.prefixlen != length]
    for part in whole.subnets(new_prefix=length):
        if part not in exact and not any(_overlap(part, other) for other in others):
            return str(part)
    return None


def _first_free_of_each(clusters: str, taken: Iterable[str]) -> list[str] | None:
    found = [first_free(cluster, taken) for cluster in clusters.split(",")]
    return [part for part in found if part] if all(found) else None


def _overlap(one: Network, other: Network) -> bool:
    return one.overlaps(other)


def cidrs(node: Object) -> list[str]:
    spec = node.get("spec") or {}
    one = [spec["podCIDR"]] if spec.get("podCIDR") else []
    return list(spec.get("podCIDRs") or one)


async def reconcile(context: Context, key: str) -> float | None:
    node = context.caches.of(kinds.NODE).get(key)
    given: dict[str, list[str]] = context.memory
    if node is None or not context.settings.pod_cidr:
        given.pop(key, None)
        return None
    if cidrs(node) or meta.deleting(node):
        return None
    nodes = context.caches.of(kinds.NODE).list()
    taken = {text for other in nodes for text in cidrs(other)}
    taken |= {text for texts in given.values() for text in texts}
    free = given.get(key) or _first_free_of_each(context.settings.pod_cidr, taken)
    if free is None:
        message = f"Node {key} status is now: CIDRNotAvailable"
        context.events.event(node, "Normal", "CIDRNotAvailable", message)
        return 60.0
    # The caches do not show it yet when the next node comes.
    given[key] = free
    changed = meta.copy(node)
    changed.setdefault("spec", {}).update(podCIDR=free[0], podCIDRs=free)
    await context.client.update(kinds.NODE, changed)
    return None


# One worker: two at once could give out the same part.
CONTROLLER = Controller(name="node-ipam", kind=kinds.NODE, reconcile=reconcile, workers=1)
