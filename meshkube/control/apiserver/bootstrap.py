"""What every cluster has from its first moment. Made where missing, and never changed after."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

from meshkube.api import flow_defaults, kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import server_endpoints
from meshkube.control.apiserver.classes import DEFAULT_INGRESS_CLASS, DEFAULT_STORAGE_CLASS
from meshkube.control.apiserver.options import WriteOptions
from meshkube.control.volumes import LOCAL_PATH

if TYPE_CHECKING:
    from meshkube.control.apiserver.registry import Registry

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
PRIORITIES = (
    (
        "system-node-critical",
        2_000_001_000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    (
        "system-cluster-critical",
        2_000_000_000,
        "Used for system critical pods that must run in the cluster, but can be moved to another"
        " node if necessary.",
    ),
)

_FLOW_KINDS = {kind.kind: kind for kind in (kinds.FLOW_SCHEMA, kinds.PRIORITY_LEVEL_CONFIGURATION)}


@dataclass(frozen=True, slots=True)
class Settings:
    """The addresses a cluster is made with."""

    service_cidr: str
    cluster_dns: str
    api_address: tuple[str, int] | None
    alone: bool = True
    """No other server can be there: where the API is needs no more than this."""


async def ensure(registry: Registry, settings: Settings) -> None:
    """Safe to run at every start."""
    for kind, obj in _objects(settings):
        await _create(registry, kind, obj)
    async with asyncio.TaskGroup() as group:
        for obj in flow_defaults.objects():
            group.create_task(_create(registry, _FLOW_KINDS[obj["kind"]], obj))
    address = settings.api_address
    # The API refuses loopback addresses as endpoints: no pod could reach them.
    if settings.alone and address is not None and not ip_address(address[0]).is_loopback:
        for kind, obj in server_endpoints.objects([address]):
            await _create_or_update(registry, kind, obj)


async def _create(registry: Registry, kind: Kind, obj: Object) -> None:
    options = WriteOptions(field_manager="meshkube")
    try:
        await registry.create(kind, obj, meta.namespace(obj), options)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise


async def _create_or_update(registry: Registry, kind: Kind, obj: Object) -> None:
    options = WriteOptions(field_manager="meshkube")
    name, namespace = meta.name(obj), meta.namespace(obj)
    try:
        await registry.create(kind, meta.copy(obj), namespace, options)
    except ApiError as error:
        if error.reason != "AlreadyExists":
            raise
        await registry.update(kind, obj, namespace, name, options)


def _objects(settings: Settings) -> Iterator[tuple[Kind, Object]]:
    for name in NAMESPACES:
        yield kinds.NAMESPACE, {"metadata": {"name": name}}
    for name, value, about in PRIORITIES:
        yield (
            kinds.PRIORITY_CLASS,
            {"metadata": {"name": name}, "value": value, "description": about},
        )
    yield kinds.SERVICE_CIDR, _service_cidr(settings)
    yield kinds.SERVICE, _api_service(settings)
    yield kinds.SERVICE, _dns_service(settings)
    yield kinds.STORAGE_CLASS, _storage_class()
    yield (
        kinds.INGRESS_CLASS,
        {
            "metadata": {"name": "meshkube", "annotations": {DEFAULT_INGRESS_CLASS: "true"}},
            "spec": {"controller": "meshkube.io/ingress"},
        },
    )


def _storage_class() -> Object:
    return {
        "metadata": {"name": "local-path", "annotations": {DEFAULT_STORAGE_CLASS[0]: "true"}},
        "provisioner": LOCAL_PATH,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
        "allowVolumeExpansion": True,
    }


def _service_cidr(settings: Settings) -> Object:
    return {"metadata": {"name": "kubernetes"}, "spec": {"cidrs": settings.service_cidr.split(",")}}


def _api_service(settings: Settings) -> Object:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    port = settings.api_address[1] if settings.api_address else 6443
    return {
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "clusterIP": str(ip_network(settings.service_cidr.split(",")[0])[1]),
            "ports": [{"name": "https", "port": 443, "targetPort": port, "protocol": "TCP"}],
        },
    }


def _dns_service(settings: Settings) -> Object:
    labels = {
        "k8s-app": "kube-dns",
        "kubernetes.io/cluster-service": "true",
        "kubernetes.io/name": "CoreDNS",
    }
    ports = [
        {"name": "dns", "port": 53, "targetPort": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "targetPort": 53, "protocol": "TCP"},
    ]
    return {
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": labels},
        "spec": {"clusterIP": settings.cluster_dns, "ports": ports},
    }
