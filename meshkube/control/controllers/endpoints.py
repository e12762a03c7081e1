"""Endpoints: one object a Service with all its addresses, as older clients read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control.controllers.service_endpoints import (
    HEADLESS,
    REST,
    Backend,
    Port,
    backends,
    families,
    has_backends,
    headless,
    hostname,
    port_object,
    publishes_not_ready,
    selected_pods,
    services_of_pod,
    target_reference,
)
from meshkube.control.loop import Context, Controller

MANAGED_BY = "endpoints.kubernetes.io/managed-by"
OVER_CAPACITY = "endpoints.kubernetes.io/over-capacity"
CAPACITY = 1000


def subsets(service: Object, found: Sequence[Backend]) -> list[Object]:
    """The addresses grouped by their ports: one group for each set of ports."""
    everyone = publishes_not_ready(service)
    groups: dict[tuple[Port, ...], tuple[list[Object], list[Object]]] = {}
    for backend in found:
        if backend.terminating and not everyone:
            continue
        ready, waiting = groups.setdefault(backend.ports, ([], []))
        side = ready if backend.ready or everyone else waiting
        side.append(_address(service, backend))
    result = []
    for ports, (ready, waiting) in sorted(groups.items()):
        if not ports and not headless(service):
            continue
        subset: Object = {}
        if ready:
            subset["addresses"] = sorted(ready, key=lambda a: a["ip"])
        if waiting:
            subset["notReadyAddresses"] = sorted(waiting, key=lambda a: a["ip"])
        if ports:
            subset["ports"] = [_port(port) for port in ports]
        result.append(subset)
    return result


def _port(port: Port) -> Object:
    return {key: value for key, value in port_object(port).items() if value}


def _address(service: Object, backend: Backend) -> Object:
    address: Object = {"ip": backend.address, "targetRef": target_reference(backend.pod)}
    node = (backend.pod.get("spec") or {}).get("nodeName")
    if node:
        address["nodeName"] = node
    name = hostname(service, backend.pod)
    if name:
        address["hostname"] = name
    return address


def wanted(service: Object, selected: Iterable[Object]) -> Object:
    """The Endpoints object of a Service with a selector."""
    found = backends(service, selected, families(service)[0])
    metadata: Object = {
        "name": meta.name(service),
        "namespace": meta.namespace(service),
        "labels": {**meta.labels(service), MANAGED_BY: "endpoint-controller"},
    }
    if headless(service):
        metadata["labels"][HEADLESS] = ""
    if len(found) > CAPACITY:
        found = sorted(found, key=lambda backend: not backend.ready)[:CAPACITY]
        metadata["annotations"] = {OVER_CAPACITY: "truncated"}
    result: Object = {"apiVersion": "v1", "kind": "Endpoints", "metadata": metadata}
    groups = subsets(service, found)
    return {**result, "subsets": groups} if groups else result


def differs(stored: Object, target: Object) -> bool:
    return (
        (stored.get("subsets") or []) != (target.get("subsets") or [])
        or meta.labels(stored) != meta.labels(target)
        or (OVER_CAPACITY in meta.annotations(stored))
        != (OVER_CAPACITY in meta.annotations(target))
    )


def merged(stored: Object, target: Object) -> Object:
    """`target`, in the place of `stored`."""
    changed = {**stored, "metadata": {**stored["metadata"], "labels": meta.labels(target)}}
    noted = {k: v for k, v in meta.annotations(stored).items() if k != OVER_CAPACITY}
    noted |= meta.annotations(target)
    changed["metadata"]["annotations"] = noted
    if not noted:
        del changed["metadata"]["annotations"]
    changed["subsets"] = target.get("subsets") or []
    return changed


async def reconcile(context: Context, key: str) -> float | None:
    service = context.caches.of(kinds.SERVICE).get(key)
    stored = context.caches.of(kinds.ENDPOINTS).get(key)
    if service is None:
        if stored is not None and MANAGED_BY in meta.labels(stored):
            await _delete(context, stored)
        return None
    if not has_backends(service) or meta.deleting(service):
        return None
    target = wanted(service, selected_pods(context.caches, service))
    if stored is None:
        await context.client.create(kinds.ENDPOINTS, target)
    elif differs(stored, target):
        await context.client.update(kinds.ENDPOINTS, merged(stored, target))
    return None


async def _delete(context: Context, stored: Object) -> None:
    try:
        await context.client.delete(
            kinds.ENDPOINTS, meta.name(stored), meta.namespace(stored), uid=meta.uid(stored)
        )
    except ApiError as error:
        if error.code != 404:
            raise


def _own(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    return (meta.key(new if new is not None else old or {}),)


def _keys(caches: Informers) -> Iterable[str]:
    """Also of Services that went while nobody led."""
    return [meta.key(endpoints) for endpoints in caches.of(kinds.ENDPOINTS).list()]


CONTROLLER = Controller(
    name="endpoints",
    kind=kinds.SERVICE,
    keys=_keys,
    watches={kinds.POD: services_of_pod, kinds.ENDPOINTS: _own},
    reconcile=reconcile,
    rest=REST,
)
