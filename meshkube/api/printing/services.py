"""Services, what is behind them and what leads to them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.printing.ages import age
from meshkube.api.printing.columns import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    UNSET,
    Column,
    Printer,
    first,
    pairs,
    wide,
)
from meshkube.api.types import Object

_SHOWN = 3

_SERVICE = (
    NAME,
    Column("Type", "How the service is reached: ClusterIP, NodePort, LoadBalancer, ExternalName."),
    Column("Cluster-IP", "The service's address inside the cluster."),
    Column("External-IP", "Addresses at which the service is reached from outside."),
    Column("Port(s)", "The service's ports; after a colon, the port on every node."),
    AGE,
    wide("Selector", "Labels of the pods that serve."),
)


def _service(service: Object, now: datetime) -> list[Any]:
    spec = service.get("spec") or {}
    type_ = spec.get("type") or "ClusterIP"
    return [
        meta.name(service),
        type_,
        spec.get("clusterIP") or NONE,
        _external(service, spec, type_),
        ",".join(map(_port, spec.get("ports") or ())) or NONE,
        age(service, now),
        pairs(spec.get("selector")),
    ]


def _external(service: Object, spec: Object, type_: str) -> str:
    external = ",".join(spec.get("externalIPs") or ())
    if type_ == "ExternalName":
        return spec.get("externalName") or NONE
    if type_ == "LoadBalancer":
        balancer = _balancer(service)
        return ",".join(filter(None, (balancer, external))) or "<pending>"
    if type_ in ("ClusterIP", "NodePort"):
        return external or NONE
    return UNKNOWN


def _balancer(obj: Object) -> str:
    """Addresses that a load balancer or an ingress has got."""
    status = (obj.get("status") or {}).get("loadBalancer") or {}
    found = (held.get("ip") or held.get("hostname") for held in status.get("ingress") or ())
    return ",".join(sorted(set(filter(None, found))))


def _port(port: Object) -> str:
    node = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port.get('port')}{node}/{port.get('protocol') or 'TCP'}"


_ENDPOINTS = (
    NAME,
    Column("Endpoints", "Addresses and ports that serve."),
    AGE,
)


def _endpoints(endpoints: Object, now: datetime) -> list[Any]:
    found = first(_host_ports(endpoints), _SHOWN) if endpoints.get("subsets") else NONE
    return [meta.name(endpoints), found, age(endpoints, now)]


def _host_ports(endpoints: Object) -> Iterator[str]:
    for subset in endpoints.get("subsets") or ():
        addresses = [_host(held.get("ip", "")) for held in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            yield from addresses
        for port in ports:
            yield from (f"{address}:{port.get('port')}" for address in addresses)


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


_SLICE = (
    NAME,
    Column("AddressType", "What the addresses are: IPv4, IPv6 or FQDN."),
    Column("Ports", "The ports of every endpoint."),
    Column("Endpoints", "The addresses of the endpoints."),
    AGE,
)


def _slice(slice_: Object, now: datetime) -> list[Any]:
    ports = [str(held.get("port") or "*") for held in slice_.get("ports") or ()]
    addresses = [
        address
        for endpoint in slice_.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]
    return [
        meta.name(slice_),
        slice_.get("addressType") or "",
        first(ports, _SHOWN) or UNSET,
        first(addresses, _SHOWN) or UNSET,
        age(slice_, now),
    ]


_INGRESS = (
    NAME,
    Column("Class", "The ingress class that serves it."),
    Column("Hosts", "Host names that the rules are for."),
    Column("Address", "Addresses at which the ingress is reached."),
    Column("Ports", "Ports at which the ingress is reached."),
    AGE,
)


def _ingress(ingress: Object, now: datetime) -> list[Any]:
    spec = ingress.get("spec") or {}
    annotated = meta.annotations(ingress).get("kubernetes.io/ingress.class")
    hosts = (rule.get("host") for rule in spec.get("rules") or ())
    return [
        meta.name(ingress),
        spec.get("ingressClassName") or annotated or NONE,
        first(filter(None, hosts), _SHOWN) or "*",
        _balancer(ingress),
        "80, 443" if spec.get("tls") else "80",
        age(ingress, now),
    ]


_CLASS = (
    NAME,
    Column("Controller", "What serves ingresses of this class."),
    Column("Parameters", "The object with further settings for the controller."),
    AGE,
)


def _class(class_: Object, now: datetime) -> list[Any]:
    spec = class_.get("spec") or {}
    return [meta.name(class_), spec.get("controller") or "", _parameters(spec), age(class_, now)]


def _parameters(spec: Object) -> str:
    parameters = spec.get("parameters")
    if not parameters:
        return NONE
    group = f".{parameters['apiGroup']}" if parameters.get("apiGroup") else ""
    return f"{parameters.get('kind')}{group}/{parameters.get('name')}"


PRINTERS = {
    kinds.SERVICE: Printer(_SERVICE, _service),
    kinds.ENDPOINTS: Printer(_ENDPOINTS, _endpoints),
    kinds.ENDPOINT_SLICE: Printer(_SLICE, _slice),
    kinds.INGRESS: Printer(_INGRESS, _ingress),
    kinds.INGRESS_CLASS: Printer(_CLASS, _class),
}
