"""Endpoints that a person wrote, for a Service without selector, mirrored as EndpointSlices."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes
from meshkube.control.controllers.endpoint_slices import LARGEST, Plan, apply, of_slice
from meshkube.control.controllers.service_endpoints import MANAGED_BY, SERVICE_NAME
from meshkube.control.loop import Context, Controller

MANAGER = "endpointslicemirroring-controller.k8s.io"
SKIP = "endpointslice.kubernetes.io/skip-mirror"


def mirrored(endpoints: Object, service: Object) -> bool:
    """True where the Endpoints are to be mirrored."""
    return (
        not (service.get("spec") or {}).get("selector")
        and meta.labels(endpoints).get(SKIP) != "true"
        and "control-plane.alpha.kubernetes.io/leader" not in meta.annotations(endpoints)
        and not meta.deleting(service)
    )


def wanted(endpoints: Object) -> list[Object]:
    """The slices that say what the Endpoints say: by subset, address family and hundreds."""
    slices = []
    for subset in endpoints.get("subsets") or ():
        found = [
            *((address, True) for address in subset.get("addresses") or ()),
            *((address, False) for address in subset.get("notReadyAddresses") or ()),
        ]
        for family, version in (("IPv4", 4), ("IPv6", 6)):
            chosen = [_endpoint(a, ready) for a, ready in found if _version(a) == version]
            slices += [
                _slice(endpoints, family, subset.get("ports") or (), chosen[start:][:LARGEST])
                for start in range(0, len(chosen), LARGEST)
            ]
    return slices


def _version(address: Mapping[str, Any]) -> int:
    return ip_address(address["ip"]).version


def _endpoint(address: Mapping[str, Any], ready: bool) -> Object:
    result: Object = {"addresses": [address["ip"]], "conditions": {"ready": ready}}
    for part in ("hostname", "nodeName", "targetRef"):
        if address.get(part):
            result[part] = address[part]
    return result


def _slice(
    endpoints: Object, family: str, ports: Iterable[Mapping[str, Any]], chosen: list[Object]
) -> Object:
    labels = {**meta.labels(endpoints), SERVICE_NAME: meta.name(endpoints), MANAGED_BY: MANAGER}
    return {
        "apiVersion": kinds.ENDPOINT_SLICE.api_version,
        "kind": kinds.ENDPOINT_SLICE.kind,
        "metadata": {
            "generateName": meta.name(endpoints) + "-",
            "namespace": meta.namespace(endpoints),
            "labels": labels,
            "ownerReferences": [meta.owner_reference(kinds.ENDPOINTS, endpoints)],
        },
        "addressType": family,
        "endpoints": chosen,
        "ports": [{"name": "", "protocol": "TCP", **port} for port in ports],
    }


def plan(targets: list[Object], existing: list[Object]) -> Plan:
    """Slices that already say it stay; others are changed to, made or deleted."""
    result = Plan()
    left = sorted(existing, key=meta.name)
    unmatched = []
    for target in targets:
        same = next((slice for slice in left if _content(slice) == _content(target)), None)
        if same is None:
            unmatched.append(target)
        else:
            left.remove(same)
    for target in unmatched:
        like = next((s for s in left if s.get("addressType") == target["addressType"]), None)
        if like is None:
            result.create.append(target)
            continue
        left.remove(like)
        changed = meta.copy(like)
        changed |= {part: target[part] for part in ("endpoints", "ports")}
        changed["metadata"]["labels"] = target["metadata"]["labels"]
        result.update.append(changed)
    result.delete = left
    return result


def _content(slice: Object) -> tuple[object, ...]:
    parts = (slice.get("addressType"), slice.get("endpoints") or [], slice.get("ports") or [])
    return (*parts, meta.labels(slice))


async def reconcile(context: Context, key: str) -> float | None:
    endpoints = context.caches.of(kinds.ENDPOINTS).get(key)
    service = context.caches.of(kinds.SERVICE).get(key)
    slices = context.caches.of(kinds.ENDPOINT_SLICE).by_index(indexes.SERVICE, key)
    managed = [s for s in slices if meta.labels(s).get(MANAGED_BY) == MANAGER]
    targets: list[Object] = []
    if endpoints is not None and service is not None and mirrored(endpoints, service):
        targets = wanted(endpoints)
    await apply(context, plan(targets, managed))
    return None


def _same_key(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    return (meta.key(new if new is not None else old or {}),)


CONTROLLER = Controller(
    name="endpointslicemirroring",
    kind=kinds.ENDPOINTS,
    watches={kinds.SERVICE: _same_key, kinds.ENDPOINT_SLICE: of_slice},
    component="endpoint-slice-mirroring-controller",
    reconcile=reconcile,
)
