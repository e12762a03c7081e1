"""LoadBalancer Services: the cloud provider says where they are reached, this writes it down.

Source: Kubernetes document "Service", type LoadBalancer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.balancing import balanced_to
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.cloud.provider import Balancer, CloudError, LoadBalancers
from meshkube.control.loop import Context, Controller

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"


def wants_balancer(service: Object, provider: LoadBalancers) -> bool:
    """True where this provider says the Service's addresses."""
    spec = service.get("spec") or {}
    asked = spec.get("loadBalancerClass")
    return spec.get("type") == "LoadBalancer" and (not asked or asked in provider.classes)


def targets(nodes: Iterable[Object]) -> list[Object]:
    """The nodes that may be sent traffic from outside."""
    return [node for node in nodes if balanced_to(node)]


def status(service: Object, balancer: Balancer | None, now: str) -> Object:
    """The Service's whole status; None: it has no balancer (of this provider)."""
    old = service.get("status") or {}
    ours = {entry["type"]: entry for entry in (balancer.conditions if balancer else ())}
    held = {c["type"]: c for c in old.get("conditions") or ()}
    conditions = [c for c in held.values() if "meshkube.io/" not in c["type"]]
    for type, entry in ours.items():
        before = held.get(type, {})
        same = before.get("status") == entry["status"]
        moment = before["lastTransitionTime"] if same else now
        conditions.append({**entry, "lastTransitionTime": moment})
    new = {**old, "loadBalancer": {}}
    new.pop("conditions", None)
    if balancer is not None and balancer.ingress:
        new["loadBalancer"] = {"ingress": list(balancer.ingress)}
    if conditions:
        new["conditions"] = conditions
    return new


async def reconcile(context: Context, key: str) -> float | None:
    provider = context.settings.cloud.load_balancers
    written: dict[str, Object] = context.memory
    service = _newer(context.caches.of(kinds.SERVICE).get(key), written.get(key))
    if service is None:
        written.pop(key, None)
        return None
    if provider is None:
        return None
    if meta.deleting(service) or not wants_balancer(service, provider):
        return await _take_back(context, key, service, provider)
    if provider.cleans_up and FINALIZER not in _finalizers(service):
        service = await _set_finalizers(context, service, [*_finalizers(service), FINALIZER])
    try:
        others = _others(context, key, provider)
        nodes = targets(context.caches.of(kinds.NODE).list())
        balancer = await provider.ensure(service, nodes, others)
    except CloudError as error:
        context.events.event(service, "Warning", error.reason, str(error))
        return error.again
    if await _write(context, key, service, balancer) and balancer.warning:
        context.events.event(service, "Warning", *balancer.warning)
    return None


async def _take_back(
    context: Context, key: str, service: Object, provider: LoadBalancers
) -> float | None:
    """Of a Service that is going, or has become of another type or class."""
    if FINALIZER in _finalizers(service):
        try:
            await provider.delete(service)
        except CloudError as error:
            context.events.event(service, "Warning", error.reason, str(error))
            return error.again
        left = [name for name in _finalizers(service) if name != FINALIZER]
        service = await _set_finalizers(context, service, left)
    foreign = (service.get("spec") or {}).get("type") == "LoadBalancer"
    if not meta.deleting(service) and not foreign:
        await _write(context, key, service, None)
    return None


async def _write(context: Context, key: str, service: Object, balancer: Balancer | None) -> bool:
    """Whether there was something new to write."""
    old = service.get("status") or {}
    wanted = status(service, balancer, meta.timestamp(context.clock.now()))
    same = (old.get("loadBalancer") or {}) == wanted["loadBalancer"]
    if same and (old.get("conditions") or []) == wanted.get("conditions", []):
        return False
    changed = {**service, "status": wanted}
    stored = await context.client.update(kinds.SERVICE, changed, subresource="status")
    # The caches do not show it yet when the next Service asks for an address.
    context.memory[key] = stored
    return True


def _others(context: Context, key: str, provider: LoadBalancers) -> Sequence[Object]:
    written: dict[str, Object] = context.memory
    found = {meta.key(s): s for s in context.caches.of(kinds.SERVICE).list()}
    # What is gone from the cache is gone; what is not in it yet has been written just now.
    services = [_newer(s, written.get(name)) for name, s in found.items() if name != key]
    return [s for s in services if s is not None and wants_balancer(s, provider)]


def _newer(cached: Object | None, written: Object | None) -> Object | None:
    if cached is None or written is None or meta.uid(cached) != meta.uid(written):
        return cached
    return max(cached, written, key=lambda obj: int(meta.resource_version(obj) or 0))


def _finalizers(service: Object) -> list[str]:
    return list(meta.metadata(service).get("finalizers") or ())


async def _set_finalizers(context: Context, service: Object, names: list[str]) -> Object:
    changed = meta.copy(service)
    changed["metadata"]["finalizers"] = names
    return await context.client.update(kinds.SERVICE, changed)


def _essence(node: Object | None) -> object:
    if node is None or not targets([node]):
        return None
    return (node.get("status") or {}).get("addresses")


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    if _essence(old) == _essence(new):
        return ()
    services = caches.of(kinds.SERVICE).list()
    return [meta.key(s) for s in services if (s.get("spec") or {}).get("type") == "LoadBalancer"]


# One worker: two at once could give out the same address.
CONTROLLER = Controller(
    name="service-lb",
    kind=kinds.SERVICE,
    watches={kinds.NODE: _of_node},
    reconcile=reconcile,
    component="service-controller",
    workers=1,
)
