"""LoadBalancer Services: without a cloud, the nodes themselves are where they are reached."""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import pods
from meshkube.control.loop import Context, Controller

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def balanced(service: Object) -> bool:
    """True where this controller says the Service's addresses."""
    spec = service.get("spec") or {}
    return spec.get("type") == "LoadBalancer" and not spec.get("loadBalancerClass")


def addresses(nodes: Iterable[Object]) -> list[str]:
    """One address for each ready node: its external one, or else its internal one."""
    found = set()
    for node in nodes:
        ready = pods.condition(node, "Ready")
        if ready is None or ready.get("status") != "True" or EXCLUDED in meta.labels(node):
            continue
        known = {a.get("type"): a.get("address") for a in node["status"].get("addresses") or ()}
        address = known.get("ExternalIP") or known.get("InternalIP")
        if address:
            found.add(address)
    return sorted(found)


def status(service: Object, nodes: Iterable[Object]) -> Object:
    """`status.loadBalancer` of the Service."""
    if not balanced(service):
        return {}
    found = [{"ip": address, "ipMode": "VIP"} for address in addresses(nodes)]
    return {"ingress": found} if found else {}


async def reconcile(context: Context, key: str) -> float | None:
    service = context.caches.of(kinds.SERVICE).get(key)
    if service is None or meta.deleting(service):
        return None
    stored = (service.get("status") or {}).get("loadBalancer") or {}
    if (service.get("spec") or {}).get("loadBalancerClass"):
        return None
    wanted = status(service, context.caches.of(kinds.NODE).list())
    if wanted != stored:
        changed = {**service, "status": {**(service.get("status") or {}), "loadBalancer": wanted}}
        await context.client.update(kinds.SERVICE, changed, subresource="status")
    return None


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    before, after = ([node] if node else [] for node in (old, new))
    if addresses(before) == addresses(after):
        return ()
    return [meta.key(s) for s in caches.of(kinds.SERVICE).list() if balanced(s)]


CONTROLLER = Controller(
    name="service-lb", kind=kinds.SERVICE, watches={kinds.NODE: _of_node}, reconcile=reconcile
)
