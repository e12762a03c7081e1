"""From a Service and its EndpointSlices to what its addresses and ports lead to.

Pure. Sources: Kubernetes documents "Service", "Virtual IPs and Service Proxies", "EndpointSlices".
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from meshkube.api.types import Object

Family = Literal[4, 6]
Reach = Literal["all", "node", "outside node"]
"""Any endpoint; those of this node; those of this node for clients outside the cluster."""

PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132}
"""By IP protocol number: a host may have no /etc/protocols for `nft` to look names up in."""
NOT_OURS = frozenset({"service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"})
"""Labels by which a Service is left to another proxy, or to none."""
AFFINITY_SECONDS = 10800
"""Where a Service with affinity names no time-out."""


class Front(NamedTuple):
    """What a client connects to."""

    family: Family
    address: str
    """Empty: every address of this host (a node port)."""
    protocol: int
    port: int
    outside: bool = False
    """Only what comes from outside the cluster: it keeps to endpoints of this node."""


class Backend(NamedTuple):
    """What answers it."""

    address: str
    port: int


class Left(NamedTuple):
    """A backend that clients of a front with affinity may still be bound to, and that left it."""

    front: Front
    backend: Backend


class Stale(NamedTuple):
    """Flows to a front that still go to a backend which left it."""

    front: Front
    backend: str
    """Its address; empty: whatever they go to."""


@dataclass(frozen=True, slots=True)
class Frontend:
    """One front and all it is spread over; without backends, connections are refused."""

    front: Front
    backends: tuple[Backend, ...]
    sticky: int = 0
    """Seconds that a client keeps its backend after its last connection; 0: not at all."""


class Health(NamedTuple):
    """What a balancer in front of the cluster asks each node for (`healthCheckNodePort`)."""

    port: int
    endpoints: int
    """Ready ones on this node."""


@dataclass(frozen=True, slots=True)
class Frontends:
    """All of one Service."""

    frontends: tuple[Frontend, ...] = ()
    members: frozenset[tuple[str, str]] = frozenset()
    """`(set, element)` that its backends need, shared with other Services: `hairpins` for those on
    this node (each may reach itself through the Service), `outsiders` for those with addresses
    outside the pod CIDRs (pods on a host's network, machines outside the cluster), `guarded` for
    fronts that only certain sources may reach and `allowed` for those."""
    rank: tuple[str, str] = ("", "")
    """Where two Services claim one front, the lower rank (the older Service) has it."""
    health: Health | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the rules depend on beside Services. CIDRs may be of both families."""

    node_name: str
    zone: str = ""
    """This node's, by its label; empty where it has none."""
    pod_cidrs: tuple[str, ...]
    service_cidrs: tuple[str, ...]
    skip: frozenset[str] = frozenset()
    """Service addresses that this process answers itself: they get no rules."""
    local: frozenset[str] = frozenset()
    """Those that another process of this host may answer: they are not refused where they have no
    endpoint."""
    bridge: str = "meshkube0"
    """The link behind which this node's pods are."""
    bridged: bool = True
    """Whether the kernel translates what crosses that bridge (br_netfilter)."""

    @property
    def families(self) -> tuple[Family, ...]:
        return tuple(sorted({family_of(cidr) for cidr in self.service_cidrs}))

    def is_pod(self, address: str) -> bool:
        """Whether an address is of a pod's own network."""
        return any(_within(address, cidr) for cidr in self.pod_cidrs)


@dataclass(frozen=True, slots=True)
class _Endpoint:
    address: str
    port: int
    node: str
    ready: bool
    serving: bool
    zones: tuple[str, ...] = ()
    """Whose clients it is meant for; empty: nobody has said."""
    nodes: tuple[str, ...] = ()
    """The same, more narrowly."""


def family_of(address: str) -> Family:
    """Of an address or a CIDR, by its looks."""
    return 6 if ":" in address else 4


@functools.lru_cache(maxsize=65536)
def _within(address: str, cidr: str) -> bool:
    try:
        return ipaddress.ip_address(address) in _network(cidr)
    except ValueError:
        return False


@functools.lru_cache(maxsize=64)
def _network(cidr: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    return ipaddress.ip_network(cidr)


def frontends(service: Object, slices: Iterable[Object], settings: Settings) -> Frontends:
    """What the Service's addresses lead to on this node. `slices` are all of this Service."""
    spec = service.get("spec") or {}
    metadata = service.get("metadata") or {}
    if spec.get("type") == "ExternalName" or not NOT_OURS.isdisjoint(metadata.get("labels") or ()):
        return Frontends()
    slices = list(slices)
    rank = (
        str(metadata.get("creationTimestamp") or ""),
        f"{metadata.get('namespace', '')}/{metadata.get('name', '')}",
    )
    sticky = _sticky(spec)
    found: dict[Front, Frontend] = {}
    members: set[tuple[str, str]] = set()
    for family in settings.families:
        for port in spec.get("ports") or ():
            fronts = list(_fronts(service, port, family, settings))
            if not fronts:
                continue
            endpoints = list(_endpoints(slices, port, family))
            close = _close(endpoints, settings)
            members |= set(_members(endpoints, family, settings))
            for front, reach in fronts:
                for made in _reached(front, reach, endpoints, close, settings.node_name):
                    if front.address in settings.local and not made.backends:
                        continue
                    found.setdefault(made.front, replace(made, sticky=sticky))
            members |= set(_guards(service, port, family))
    health = _health(spec, slices, settings.node_name)
    return Frontends(tuple(found.values()), frozenset(members), rank, health)


def _sticky(spec: Mapping[str, Any]) -> int:
    if spec.get("sessionAffinity") != "ClientIP":
        return 0
    by_client = (spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}
    return int(by_client.get("timeoutSeconds") or AFFINITY_SECONDS)


def _reached(
    front: Front, reach: Reach, endpoints: list[_Endpoint], close: list[_Endpoint], node: str
) -> Iterator[Frontend]:
    """One front by its traffic policy. Clients inside the cluster are not bound to a node by the
    policy for those outside. `close`: the endpoints where no policy binds to a node."""
    everywhere = _choose(close, None)
    if reach == "node":
        yield Frontend(front, _choose(endpoints, node))
        return
    yield Frontend(front, everywhere)
    if reach == "outside node" and everywhere:
        yield Frontend(front._replace(outside=True), _choose(endpoints, node))


def _close(endpoints: list[_Endpoint], settings: Settings) -> list[_Endpoint]:
    """Those meant for clients of this node; else those for this zone; else all. A kind of hint
    counts only where each ready endpoint has one of it. Sources: Kubernetes documents "Traffic
    distribution", "Topology Aware Routing"."""
    ready = [endpoint for endpoint in endpoints if endpoint.ready]
    if all(endpoint.nodes for endpoint in ready):
        here = [endpoint for endpoint in ready if settings.node_name in endpoint.nodes]
        if here:
            return here
    if not settings.zone or not all(endpoint.zones for endpoint in ready):
        return endpoints
    return [endpoint for endpoint in ready if settings.zone in endpoint.zones] or endpoints


def _health(spec: Mapping[str, Any], slices: Iterable[Object], node: str) -> Health | None:
    port = spec.get("healthCheckNodePort")
    if not port or spec.get("externalTrafficPolicy") != "Local":
        return None
    here = {
        (endpoint.get("targetRef") or {}).get("uid") or endpoint["addresses"][0]
        for piece in slices
        for endpoint in piece.get("endpoints") or ()
        if endpoint.get("nodeName") == node
        and endpoint.get("addresses")
        and (endpoint.get("conditions") or {}).get("ready") is not False
    }
    return Health(int(port), len(here))


def _guards(service: Object, port: Mapping[str, Any], family: Family) -> Iterator[tuple[str, str]]:
    """`loadBalancerSourceRanges`: who may reach the balancer's addresses."""
    protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
    ranges = (service["spec"]).get("loadBalancerSourceRanges") or ()
    allowed = [net for text in ranges if (net := _network(text.strip())).version == family]
    if not allowed or any(network.prefixlen == 0 for network in allowed):
        return
    for address in _balancer_addresses(service):
        if family_of(address) != family:
            continue
        front = f"{address} . {protocol} . {port['port']}"
        yield f"guarded{family}", front
        # Ranges within others would be refused by the kernel as overlapping.
        for network in ipaddress.collapse_addresses(allowed):  # type: ignore[type-var]
            alone = network.prefixlen == network.max_prefixlen
            yield f"allowed{family}", f"{front} . {network.network_address if alone else network}"


def _fronts(
    service: Object, port: Mapping[str, Any], family: Family, settings: Settings
) -> Iterator[tuple[Front, Reach]]:
    """Each front of one port, and which backends may answer it."""
    spec = service["spec"]
    protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
    if protocol is None or not port.get("port"):
        return
    inside: Reach = "node" if spec.get("internalTrafficPolicy") == "Local" else "all"
    outside: Reach = "outside node" if spec.get("externalTrafficPolicy") == "Local" else "all"
    for address in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if _usable(address, family, settings):
            yield Front(family, address, protocol, port["port"]), inside
    for address in _external_addresses(service):
        if _usable(address, family, settings):
            yield Front(family, address, protocol, port["port"]), outside
    exposed = spec.get("type") in ("NodePort", "LoadBalancer")
    if exposed and port.get("nodePort") and family in _families(spec):
        yield Front(family, "", protocol, port["nodePort"]), outside


def _external_addresses(service: Object) -> Iterator[str]:
    spec = service["spec"]
    yield from spec.get("externalIPs") or ()
    yield from _balancer_addresses(service)


def _balancer_addresses(service: Object) -> Iterator[str]:
    if service["spec"].get("type") == "LoadBalancer":
        status = (service.get("status") or {}).get("loadBalancer") or {}
        for ingress in status.get("ingress") or ():
            # ipMode Proxy: the balancer wants its traffic back, even from inside the cluster.
            if ingress.get("ip") and ingress.get("ipMode", "VIP") == "VIP":
                yield ingress["ip"]


def _families(spec: Mapping[str, Any]) -> set[Family]:
    named = spec.get("ipFamilies")
    if named:
        return {6 if family == "IPv6" else 4 for family in named}
    return {family_of(spec.get("clusterIP") or "")}


def _usable(address: str | None, family: Family, settings: Settings) -> bool:
    if not address or address == "None" or address in settings.skip:
        return False
    try:
        return ipaddress.ip_address(address).version == family
    except ValueError:
        return False


def _endpoints(
    slices: Iterable[Object], port: Mapping[str, Any], family: Family
) -> Iterator[_Endpoint]:
    """All endpoints of one Service port: a slice names its ports as the Service does, with the
    number already resolved."""
    protocol = port.get("protocol") or "TCP"
    for piece in slices:
        if piece.get("addressType") != f"IPv{family}":
            continue
        for offered in piece.get("ports") or ():
            same_name = (offered.get("name") or "") == (port.get("name") or "")
            if not same_name or (offered.get("protocol") or "TCP") != protocol:
                continue
            if not offered.get("port"):
                continue
            for endpoint in piece.get("endpoints") or ():
                # The addresses of one endpoint are interchangeable; consumers use the first.
                if endpoint.get("addresses"):
                    yield _endpoint(endpoint, offered["port"])


def _endpoint(endpoint: Mapping[str, Any], port: int) -> _Endpoint:
    conditions = endpoint.get("conditions") or {}
    ready = conditions.get("ready") is not False
    serving = conditions.get("serving")
    hints = endpoint.get("hints") or {}
    return _Endpoint(
        address=endpoint["addresses"][0],
        port=port,
        node=endpoint.get("nodeName") or "",
        ready=ready,
        serving=ready if serving is None else bool(serving),
        zones=tuple(zone["name"] for zone in hints.get("forZones") or ()),
        nodes=tuple(node["name"] for node in hints.get("forNodes") or ()),
    )


def _members(
    endpoints: Iterable[_Endpoint], family: Family, settings: Settings
) -> Iterator[tuple[str, str]]:
    for endpoint in endpoints:
        address = endpoint.address
        if not settings.is_pod(address):
            yield f"outsiders{family}", address
        elif endpoint.node in ("", settings.node_name):
            yield f"hairpins{family}", f"{address} . {address}"


def _choose(endpoints: Iterable[_Endpoint], node: str | None) -> tuple[Backend, ...]:
    """Ready ones; while there are none, those that still serve while they terminate."""
    here = [endpoint for endpoint in endpoints if node is None or endpoint.node == node]
    chosen = [e for e in here if e.ready] or [e for e in here if e.serving]
    return tuple(sorted({Backend(e.address, e.port) for e in chosen}))
