"""EndpointSlices: a Service's addresses in parts of at most 100, changed as little as can be."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes
from meshkube.control.controllers.service_endpoints import (
    HEADLESS,
    MANAGED_BY,
    REST,
    SERVICE_NAME,
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

MANAGER = "endpointslice-controller.k8s.io"
LARGEST = 100
ZONE = "topology.kubernetes.io/zone"
_CLOSE = ("PreferClose", "PreferSameZone", "PreferSameNode")
"""Each of them means the client's zone, at least."""

Zone = Callable[[str], str]
"""The zone of a node by its name; empty where it has none."""


@dataclass(slots=True)
class Plan:
    """The writes; `update` holds slices as they are to be."""

    create: list[Object] = field(default_factory=list)
    update: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)


def endpoint(service: Object, backend: Backend, zone: Zone) -> Object:
    """One endpoint. Ready means: take new connections; serving, when all else is being deleted."""
    everyone = publishes_not_ready(service)
    result: Object = {
        "addresses": [backend.address],
        "conditions": {
            "ready": everyone or (backend.ready and not backend.terminating),
            "serving": backend.ready,
            "terminating": backend.terminating,
        },
        "targetRef": target_reference(backend.pod),
    }
    node = (backend.pod.get("spec") or {}).get("nodeName")
    if node:
        result["nodeName"] = node
        if zone(node):
            result["zone"] = zone(node)
        hints = _hints(service, node, zone(node))
        if hints and result["conditions"]["ready"]:
            result["hints"] = hints
    name = hostname(service, backend.pod)
    if name:
        result["hostname"] = name
    return result


def _hints(service: Object, node: str, zone: str) -> Object:
    """Whose clients an endpoint on this node is for first (KEP-4444, KEP-3015)."""
    wanted = (service.get("spec") or {}).get("trafficDistribution")
    hints: Object = {}
    if wanted in _CLOSE and zone:
        hints["forZones"] = [{"name": zone}]
    if wanted == "PreferSameNode":
        hints["forNodes"] = [{"name": node}]
    return hints


def plan(
    service: Object, selected: Iterable[Object], existing: Iterable[Object], zone: Zone
) -> Plan:
    """What makes the slices of a Service right. `existing` are those this controller manages."""
    result = Plan()
    pods = list(selected)
    by_family: dict[str, list[Object]] = {}
    for slice in existing:
        by_family.setdefault(str(slice.get("addressType")), []).append(slice)
    for family in families(service):
        groups: dict[tuple[Port, ...], list[Object]] = {}
        for backend in backends(service, pods, family):
            if backend.ports or headless(service):
                found = endpoint(service, backend, zone)
                groups.setdefault(backend.ports, []).append(found)
        slices = by_family.pop(family, [])
        # A Service without endpoints keeps one empty slice: it says "none" and not "unknown".
        _family(service, family, groups or {(): []}, slices, result)
    for left in by_family.values():
        result.delete += left
    return result


def _family(
    service: Object,
    family: str,
    groups: Mapping[tuple[Port, ...], list[Object]],
    slices: Sequence[Object],
    result: Plan,
) -> None:
    by_ports: dict[tuple[Port, ...], list[Object]] = {}
    for slice in slices:
        by_ports.setdefault(_ports_of(slice), []).append(slice)
    for ports, endpoints in groups.items():
        fill(service, family, ports, endpoints, by_ports.pop(ports, []), result)
    for left in by_ports.values():
        result.delete += left


def _ports_of(slice: Object) -> tuple[Port, ...]:
    return tuple(
        (
            p.get("name") or "",
            int(p["port"]),
            p.get("protocol") or "TCP",
            p.get("appProtocol") or "",
        )
        for p in slice.get("ports") or ()
    )


def fill(
    service: Object,
    family: str,
    ports: tuple[Port, ...],
    endpoints: Sequence[Object],
    slices: Sequence[Object],
    result: Plan,
) -> None:
    """Puts the endpoints into the slices: each stays where it is, new ones fill what has room,
    slices that change anyway first."""
    missing = {_identity(one): one for one in endpoints}
    kept: list[tuple[Object, list[Object]]] = []
    for slice in sorted(slices, key=meta.name):
        here = []
        for one in slice.get("endpoints") or ():
            current = missing.pop(_identity(one), None)
            if current is not None:
                here.append(current)
        kept.append((slice, here))
    waiting = list(missing.values())
    for slice, here in sorted(kept, key=lambda pair: pair[1] == (pair[0].get("endpoints") or [])):
        room = LARGEST - len(here)
        here += waiting[:room]
        del waiting[:room]
        _settle(service, slice, here, result)
    while waiting:
        result.create.append(new_slice(service, family, ports, waiting[:LARGEST]))
        del waiting[:LARGEST]
    if not endpoints:
        _keep_one_empty(service, family, ports, result, slices)


def _identity(endpoint: Mapping[str, Any]) -> tuple[str, str]:
    return str((endpoint.get("targetRef") or {}).get("uid") or ""), endpoint["addresses"][0]


def _settle(service: Object, slice: Object, endpoints: list[Object], result: Plan) -> None:
    if not endpoints and slice.get("endpoints"):
        result.delete.append(slice)
        return
    labels = slice_labels(service)
    same_labels = all(meta.labels(slice).get(k) == v for k, v in labels.items())
    if endpoints != (slice.get("endpoints") or []) or not same_labels:
        metadata = {**slice["metadata"], "labels": labels}
        result.update.append({**slice, "metadata": metadata, "endpoints": endpoints})


def _keep_one_empty(
    service: Object, family: str, ports: tuple[Port, ...], result: Plan, slices: Sequence[Object]
) -> None:
    empty = [slice for slice in slices if not slice.get("endpoints")]
    if empty:
        result.delete += [slice for slice in empty[1:] if slice not in result.delete]
        return
    if slices:
        # The last one full becomes the empty one.
        result.update.append({**result.delete.pop(), "endpoints": []})
    else:
        result.create.append(new_slice(service, family, ports, []))


def slice_labels(service: Object) -> dict[str, str]:
    """The Service's own labels and those by which slices are found."""
    labels = {**meta.labels(service), SERVICE_NAME: meta.name(service), MANAGED_BY: MANAGER}
    if headless(service):
        labels[HEADLESS] = ""
    return labels


def new_slice(
    service: Object, family: str, ports: Sequence[Port], endpoints: Sequence[Object]
) -> Object:
    return {
        "apiVersion": kinds.ENDPOINT_SLICE.api_version,
        "kind": kinds.ENDPOINT_SLICE.kind,
        "metadata": {
            "generateName": meta.name(service) + "-",
            "namespace": meta.namespace(service),
            "labels": slice_labels(service),
            "ownerReferences": [meta.owner_reference(kinds.SERVICE, service)],
        },
        "addressType": family,
        "endpoints": list(endpoints),
        "ports": [port_object(port) for port in ports],
    }


async def reconcile(context: Context, key: str) -> float | None:
    service = context.caches.of(kinds.SERVICE).get(key)
    slices = context.caches.of(kinds.ENDPOINT_SLICE).by_index(indexes.SERVICE, key)
    managed = [s for s in slices if meta.labels(s).get(MANAGED_BY) == MANAGER]
    if service is None or not has_backends(service):
        todo = Plan(delete=managed)
    elif meta.deleting(service):
        return None
    else:
        nodes = context.caches.of(kinds.NODE)
        pods = selected_pods(context.caches, service)
        todo = plan(service, pods, managed, lambda name: _zone_of(nodes.get(name)))
    await apply(context, todo)
    return None


async def apply(context: Context, todo: Plan) -> None:
    """Writes a plan: first what is new, so that nothing is missing in between."""
    for slice in todo.create:
        await context.client.create(kinds.ENDPOINT_SLICE, slice)
    for slice in todo.update:
        await context.client.update(kinds.ENDPOINT_SLICE, slice)
    for slice in todo.delete:
        try:
            await context.client.delete(
                kinds.ENDPOINT_SLICE, meta.name(slice), meta.namespace(slice), uid=meta.uid(slice)
            )
        except ApiError as error:
            if error.code != 404:
                raise


def of_slice(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """The key of the Service a slice is for."""
    slices = (slice for slice in (old, new) if slice is not None)
    names = {(meta.namespace(s), meta.labels(s).get(SERVICE_NAME)) for s in slices}
    return [f"{space}/{name}" for space, name in names if name]


def of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """The Services with pods on a node that is of another zone now."""
    if _zone_of(old) == _zone_of(new):
        return set()
    pods = caches.of(kinds.POD).by_index(indexes.NODE, meta.name(new or old or {}))
    return {key for pod in pods for key in services_of_pod(caches, None, pod)}


def _zone_of(node: Object | None) -> str:
    return meta.labels(node or {}).get(ZONE, "")


CONTROLLER = Controller(
    name="endpointslice",
    kind=kinds.SERVICE,
    watches={kinds.POD: services_of_pod, kinds.ENDPOINT_SLICE: of_slice, kinds.NODE: of_node},
    component="endpoint-slice-controller",
    rest=REST,
    reconcile=reconcile,
)
