"""From the cluster's Nodes to what this host's kernel needs so that pods reach each other.

Pure. Each node's pods have a range of their own (`spec.podCIDRs`). Towards a node on the same link
that range is a route by way of the node's address. Towards any other it is a route into one VXLAN
device, whose forwarding entries are all given: nothing is flooded, nothing is learned.
Sources: Kubernetes document "Cluster Networking"; RFC 7348 (VXLAN).
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.dataplane.services import family_of

Mode = Literal["auto", "routes", "vxlan"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

DEVICE = "meshkube.vx"
VNI = 77
PORT = 8472
"""Linux's own choice for VXLAN; 4789 is what Docker Swarm listens on."""
ROUTE_PROTOCOL = 78
"""Marks the routes, addresses and rules of the pod network (see rtnetlink(7))."""
MAIN_TABLE, POD_TABLE = 254, 78
OVERHEAD: Mapping[int, int] = {4: 50, 6: 70}
"""Bytes that VXLAN adds to a packet, by the family that carries it."""


class Peer(NamedTuple):
    """One node of the cluster."""

    name: str
    addresses: tuple[str, ...]
    """Its InternalIPs."""
    cidrs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hop:
    """How this host reaches an address, as its routing table says."""

    link: str
    gateway: str = ""
    """Empty: on the link itself."""
    source: str = ""
    mtu: int = 1500
    ethernet: bool = True
    """Whether frames on the link have Ethernet addresses: a tunnel's packets for pods may be
    refused by its other end."""
    local: bool = False
    """It is an address of this host."""


class Route(NamedTuple):
    """`via` is on the link even where no address of the link says so."""

    table: int
    destination: str
    via: str
    link: str
    source: str = ""


class Neighbor(NamedTuple):
    """Who has an address behind the VXLAN device."""

    address: str
    mac: str


class Forward(NamedTuple):
    """To which host a frame for that MAC goes."""

    mac: str
    host: str


class Rule(NamedTuple):
    """Packets from these sources look into this table first."""

    source: str
    table: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """The VXLAN device of this host."""

    mac: str
    local: str
    """The address of this host that its packets come from; empty where the node is known by one
    that no link of it has (behind a translation of its own): then the kernel picks one."""
    mtu: int
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All that the pod network is on one host. `problems` are sentences for the log."""

    routes: frozenset[Route] = frozenset()
    tunnel: Tunnel | None = None
    neighbors: frozenset[Neighbor] = frozenset()
    forwards: frozenset[Forward] = frozenset()
    rules: frozenset[Rule] = frozenset()
    problems: tuple[str, ...] = ()


def mac_of(name: str) -> str:
    """The same on every host, from the node's name alone: locally administered, unicast."""
    digest = hashlib.sha256(f"meshkube/{name}".encode()).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def node_addresses(node: Object) -> tuple[str, ...]:
    """The addresses by which other nodes know it."""
    listed = (node.get("status") or {}).get("addresses") or ()
    return tuple(
        str(entry["address"])
        for entry in listed
        if entry.get("type") == "InternalIP" and _is_address(entry.get("address"))
    )


def peers(nodes: Iterable[Object]) -> tuple[dict[str, Peer], list[str]]:
    """Every node that has pods and an address, by name, and what is wrong with others. Of two that
    claim the same addresses for their pods, the older one has them."""
    found: dict[str, Peer] = {}
    problems: list[str] = []
    taken: list[tuple[Network, str]] = []
    ordered = sorted(nodes, key=lambda node: (_age(node), meta.name(node)))
    hosts = [ipaddress.ip_address(a) for node in ordered for a in node_addresses(node)]
    for node in ordered:
        name, cidrs = meta.name(node), []
        for network in _networks(node, problems):
            other = next((owner for held, owner in taken if _overlap(held, network)), "")
            inside = next((host for host in hosts if host in network), None)
            if other:
                problems.append(f"node {name}: pod addresses {network} overlap those of {other}")
            elif inside is not None:
                problems.append(f"node {name}: pod addresses {network} hold node address {inside}")
            else:
                taken.append((network, name))
                cidrs.append(str(network))
        addresses = node_addresses(node)
        if cidrs and addresses:
            found[name] = Peer(name, addresses, tuple(cidrs))
    return found, problems


def make(me: Peer, others: Iterable[Peer], hops: Mapping[str, Hop], mode: Mode) -> Plan:
    """The plan of node `me`. `hops` has an entry for every address that can be reached."""
    problems: list[str] = []
    direct: set[Route] = set()
    tunnelled: list[tuple[Peer, str]] = []
    for peer in others:
        known = [(address, hops[address]) for address in peer.addresses if address in hops]
        same = next((address for address, hop in known if hop.local), "")
        if same:
            problems.append(f"node {peer.name} has an address of this host: {same}")
        elif not known:
            problems.append(f"no route to node {peer.name} ({', '.join(peer.addresses)})")
        elif mode == "vxlan" or (mode == "auto" and not _all_direct(peer, known)):
            tunnelled.append((peer, _outer(me, known)))
        else:
            direct |= set(_direct(peer, known))
    plan = Plan(routes=frozenset(direct), problems=tuple(problems))
    return _with_tunnel(plan, me, tunnelled, hops) if tunnelled else plan


def pod_mtu(link_mtu: int, plan: Plan, mode: Mode, family: int = 4) -> int:
    """The largest packet that pods may send unbroken to each other."""
    if plan.tunnel is not None:
        return min(plan.tunnel.mtu, link_mtu)
    return link_mtu - OVERHEAD[family] if mode == "vxlan" else link_mtu


def _all_direct(peer: Peer, known: list[tuple[str, Hop]]) -> bool:
    families = {family_of(address) for address, hop in known if _on_link(hop)}
    return all(family_of(cidr) in families for cidr in peer.cidrs)


def _on_link(hop: Hop) -> bool:
    return not hop.gateway and hop.ethernet


def _direct(peer: Peer, known: list[tuple[str, Hop]]) -> Iterable[Route]:
    """Where the node is not on the link (mode `routes`), the routers between know the way."""
    for cidr in peer.cidrs:
        for address, hop in known:
            if family_of(address) == family_of(cidr) and not hop.gateway:
                yield Route(MAIN_TABLE, cidr, address, hop.link, hop.source)
                break


def _outer(me: Peer, known: list[tuple[str, Hop]]) -> str:
    """The peer's address to send to: of the family of the device, which is our first address's."""
    same = [address for address, _ in known if family_of(address) == family_of(me.addresses[0])]
    return same[0] if same else ""


def _with_tunnel(
    plan: Plan, me: Peer, tunnelled: list[tuple[Peer, str]], hops: Mapping[str, Hop]
) -> Plan:
    local = me.addresses[0]
    ours = {family_of(a): a for a in reversed(me.addresses) if a in hops and hops[a].local}
    routes, neighbors, forwards = set(plan.routes), set(), set()
    problems = list(plan.problems)
    mtus = []
    for peer, outer in tunnelled:
        if not outer:
            problems.append(f"node {peer.name} has no address of the family of {local}")
            continue
        mac = mac_of(peer.name)
        mtus.append(hops[outer].mtu)
        forwards.add(Forward(mac, outer))
        for cidr in peer.cidrs:
            via = _tunnel_address(cidr)
            neighbors.add(Neighbor(via, mac))
            source = ours.get(family_of(cidr), "")
            routes.add(Route(MAIN_TABLE, cidr, via, DEVICE, source))
            # From pods to the node itself, lest it be reached by a way that knows no pods. What the
            # host sends there (the tunnel's own packets among it) looks into the main table only.
            for address in peer.addresses:
                if family_of(address) == family_of(cidr):
                    routes.add(Route(POD_TABLE, _single(address), via, DEVICE))
    if not forwards:
        return Plan(routes=plan.routes, problems=tuple(problems))
    return Plan(
        routes=frozenset(routes),
        tunnel=Tunnel(
            mac=mac_of(me.name),
            local=local if local in hops and hops[local].local else "",
            mtu=min(mtus) - OVERHEAD[family_of(local)],
            addresses=tuple(_tunnel_address(cidr) for cidr in me.cidrs),
        ),
        neighbors=frozenset(neighbors),
        forwards=frozenset(forwards),
        rules=frozenset(Rule(cidr, POD_TABLE) for cidr in me.cidrs),
        problems=tuple(problems),
    )


def _tunnel_address(cidr: str) -> str:
    """The network address of a node's pods: no pod has it."""
    return str(ipaddress.ip_network(cidr).network_address)


def _single(address: str) -> str:
    return str(ipaddress.ip_network(address))


def _networks(node: Object, problems: list[str]) -> Iterable[Network]:
    spec: Mapping[str, Any] = node.get("spec") or {}
    for text in spec.get("podCIDRs") or filter(None, [spec.get("podCIDR")]):
        try:
            network = ipaddress.ip_network(text)
        except ValueError as error:
            problems.append(f"node {meta.name(node)}: {error}")
            continue
        if network.prefixlen == 0:
            problems.append(f"node {meta.name(node)}: {network} is no range of pod addresses")
        else:
            yield network


def _overlap(one: Network, other: Network) -> bool:
    return one.version == other.version and one.overlaps(other)


def _is_address(text: object) -> bool:
    try:
        ipaddress.ip_address(str(text))
    except ValueError:
        return False
    return True


def _age(node: Object) -> str:
    return str((node.get("metadata") or {}).get("creationTimestamp") or "~")
