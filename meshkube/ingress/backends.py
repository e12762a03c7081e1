"""From a Service and its EndpointSlices to the addresses one port of it has now. Pure.

Source: Kubernetes' API reference, Service v1 and EndpointSlice discovery.k8s.io/v1 ("conditions").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, TypeAlias

from meshkube.api.types import Object
from meshkube.ingress.via import PLAIN, Via, of_port

Address: TypeAlias = tuple[str, int]
"""A pod's address and port."""

PortRef: TypeAlias = int | str
"""A Service port as an Ingress names it: by number or by name."""

FIRST: PortRef = ""
"""The first port of a Service, where nobody names one."""


@dataclass(slots=True, eq=False)
class Backend:
    """One port of one Service. It lives as long as a rule names it; what it holds is replaced in
    place when pods come and go, so that no route has to be built again."""

    namespace: str
    service: str
    port: PortRef
    through_service: bool = False
    """Pods are reached by the Service's own address, not by theirs."""
    addresses: tuple[Address, ...] = ()
    serving: frozenset[Address] = frozenset()
    """Those, and the ones that still serve while they terminate: requests that are there stay."""
    problem: str = ""
    """Why there is no address, in a person's words; empty while there is one."""
    broken: bool = False
    """The reason is a fault in what was written, not pods that are not ready."""
    balancer: Any = None
    """What the proxy keeps beside it; nothing here looks at it."""
    asked: Via | None = None
    """What the Ingress says about how to speak to the pods; None: the Service does."""
    via: Via = PLAIN
    """How the pods are spoken to."""
    external: str = ""
    """The name that the Service stands for, of type ExternalName."""

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.service}"

    def __str__(self) -> str:
        return f"{self.key}:{self.port}" if self.port else self.key


@dataclass(slots=True)
class _Found:
    """The endpoints of one port and one address family."""

    ready: set[Address] = field(default_factory=set)
    draining: set[Address] = field(default_factory=set)
    not_ready: int = 0


def resolve(
    backend: Backend,
    service: Object | None,
    slices: Iterable[Object],
    names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> frozenset[Address]:
    """Brings `backend` up to date: ready endpoints, or, where there is none, those that still
    serve while they terminate, or the reason why there are none at all. `names` holds the addresses
    of external names, as far as they are known. Returns the addresses that do not serve any longer.
    """
    addresses: tuple[Address, ...] = ()
    serving: frozenset[Address] = frozenset()
    port, problem = _service_port(backend, service)
    backend.broken = port is None
    if port is not None and service is not None:
        _set_via(backend, port)
    backend.external = _external_name(service)
    if port is not None and backend.external:
        addresses, problem = _external(backend, port, names)
        serving = frozenset(addresses)
    elif port is not None and service is not None and backend.through_service:
        addresses, problem = _service_address(backend, service, port)
        serving = frozenset(addresses)
    elif port is not None and service is not None:
        families = _families(port, slices)
        addresses, problem = _addresses(backend, service, families)
        serving = frozenset().union(*(found.ready | found.draining for found in families.values()))
    backend.problem = problem
    gone, backend.serving = backend.serving - serving, serving
    # The balancer sees a change by identity: an equal tuple keeps its state.
    if addresses != backend.addresses:
        backend.addresses = addresses
    return gone


def _set_via(backend: Backend, port: Mapping[str, Any]) -> None:
    via = backend.asked or of_port(port)
    if via != backend.via:
        backend.via = via
        backend.balancer = None


def _service_port(backend: Backend, service: Object | None) -> tuple[Mapping[str, Any] | None, str]:
    if service is None:
        return None, f"service {backend.key} not found"
    spec = service.get("spec") or {}
    wanted = "name" if isinstance(backend.port, str) else "port"
    for port in spec.get("ports") or ():
        if port.get(wanted) == backend.port or backend.port == FIRST:
            if port.get("protocol", "TCP") != "TCP":
                return None, f"port {backend.port} of service {backend.key} is not TCP"
            return port, ""
    if spec.get("type") == "ExternalName" and isinstance(backend.port, int) and backend.port:
        # Such a Service needs no ports: the Ingress says which one is meant.
        return {"port": backend.port}, ""
    named = f"port named {backend.port}" if wanted == "name" else f"port {backend.port}"
    return None, f"service {backend.key} has no {named}"


def _external_name(service: Object | None) -> str:
    spec = (service or {}).get("spec") or {}
    if spec.get("type") != "ExternalName":
        return ""
    return str(spec.get("externalName") or "").lower().rstrip(".")


def _external(
    backend: Backend, port: Mapping[str, Any], names: Mapping[str, Sequence[str]]
) -> tuple[tuple[Address, ...], str]:
    """The addresses of the name. Those of the host itself are left out: whoever may write a Service
    may not reach what listens there for nobody else."""
    name = backend.external
    found = names.get(name)
    if found is None:
        return (), f"the name {name} of service {backend.key} is not resolved yet"
    number = int(port.get("targetPort") or 0) if isinstance(port.get("targetPort"), int) else 0
    number = number or int(port.get("port") or 0)
    allowed = tuple((each, number) for each in sorted(found) if _is_elsewhere(each))
    if not allowed:
        what = "has no address" if not found else "leads to this host"
        return (), f"the name {name} of service {backend.key} {what}"
    return allowed, ""


def _is_elsewhere(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return not (
        mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified or mapped.is_multicast
    )


def _service_address(
    backend: Backend, service: Object, port: Mapping[str, Any]
) -> tuple[tuple[Address, ...], str]:
    address = (service.get("spec") or {}).get("clusterIP")
    if not address or address == "None":
        return (), f"service {backend.key} has no address of its own to send requests through"
    return ((str(address), int(port.get("port") or 0)),), ""


def _families(port: Mapping[str, Any], slices: Iterable[Object]) -> dict[str, _Found]:
    families: dict[str, _Found] = {}
    for piece in slices:
        number = _slice_port(piece, port)
        if number is not None:
            _collect(families.setdefault(piece.get("addressType", ""), _Found()), piece, number)
    return families


def _addresses(
    backend: Backend, service: Object, families: Mapping[str, _Found]
) -> tuple[tuple[Address, ...], str]:
    for found in _by_preference(families, service):
        if found.ready:
            return tuple(sorted(found.ready)), ""
    for found in _by_preference(families, service):
        if found.draining:
            return tuple(sorted(found.draining)), ""
    not_ready = sum(found.not_ready for found in families.values())
    if not_ready:
        pods = "1 pod" if not_ready == 1 else f"{not_ready} pods"
        return (), f"service {backend.key} has no ready endpoints ({pods} not ready)"
    if not (service.get("spec") or {}).get("selector"):
        return (), f"service {backend.key} has no endpoints, and no selector to find pods by"
    return (), f"service {backend.key} has no endpoints (no pod matches its selector)"


def _by_preference(families: Mapping[str, _Found], service: Object) -> list[_Found]:
    """A pod of a dual-stack Service has an address in each family: take one family, its first."""
    wanted = [*((service.get("spec") or {}).get("ipFamilies") or ()), "IPv4", "IPv6"]
    return [families[name] for name in dict.fromkeys(wanted) if name in families]


def _slice_port(piece: Object, port: Mapping[str, Any]) -> int | None:
    for entry in piece.get("ports") or ():
        same_name = (entry.get("name") or "") == (port.get("name") or "")
        if same_name and entry.get("protocol", "TCP") == "TCP":
            number = entry.get("port")
            return int(number) if number else None
    return None


def _collect(found: _Found, piece: Object, number: int) -> None:
    for endpoint in piece.get("endpoints") or ():
        conditions = endpoint.get("conditions") or {}
        # An absent condition means ready (EndpointSlice v1: "nil should be interpreted as true").
        ready = conditions.get("ready") is not False
        serving = conditions.get("serving", ready) is not False
        addresses = {(str(address), number) for address in (endpoint.get("addresses") or ())[:1]}
        if ready:
            found.ready |= addresses
        elif serving and conditions.get("terminating"):
            found.draining |= addresses
        else:
            found.not_ready += 1
