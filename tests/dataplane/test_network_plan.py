"""From Nodes and this host's routes to the plan of the pod network."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.dataplane.network_plan import (
    DEVICE,
    MAIN_TABLE,
    POD_TABLE,
    Forward,
    Hop,
    Mode,
    Neighbor,
    Peer,
    Plan,
    Route,
    Rule,
    mac_of,
    make,
    peers,
    pod_mtu,
)

ME = Peer("a", ("192.0.2.1",), ("10.42.0.0/24",))
B = Peer("b", ("192.0.2.2",), ("10.42.1.0/24",))
C = Peer("c", ("198.51.100.3",), ("10.42.2.0/24",))
OWN = Hop(link="lo", local=True, mtu=65536)
ON_LINK = Hop(link="eth0", source="192.0.2.1")
BEHIND = Hop(link="eth0", gateway="192.0.2.254", source="192.0.2.1")
HOPS = {"192.0.2.1": OWN, "192.0.2.2": ON_LINK, "198.51.100.3": BEHIND}
DIRECT = Route(MAIN_TABLE, "10.42.1.0/24", "192.0.2.2", "eth0", "192.0.2.1")


def node(name: str, address: str, cidr: str | list[str], created: str = "1") -> Object:
    cidrs = [cidr] if isinstance(cidr, str) else cidr
    return {
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"podCIDR": cidrs[0] if cidrs else None, "podCIDRs": cidrs},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


def plan(*others: Peer, mode: Mode = "auto", **hops: Hop) -> Plan:
    return make(ME, others, HOPS | hops, mode)


def test_a_node_on_the_link_is_a_route() -> None:
    assert plan(B) == Plan(routes=frozenset([DIRECT]))


def test_a_node_behind_a_router_is_a_tunnel() -> None:
    made = plan(B, C)
    assert made.routes == {
        DIRECT,
        Route(MAIN_TABLE, "10.42.2.0/24", "10.42.2.0", DEVICE, "192.0.2.1"),
        # What pods send to the node itself; the host's own packets to it stay outside.
        Route(POD_TABLE, "198.51.100.3/32", "10.42.2.0", DEVICE),
    }
    assert made.neighbors == {Neighbor("10.42.2.0", mac_of("c"))}
    assert made.forwards == {Forward(mac_of("c"), "198.51.100.3")}
    assert made.rules == {Rule("10.42.0.0/24", POD_TABLE)}
    assert made.tunnel is not None
    assert (made.tunnel.mac, made.tunnel.local) == (mac_of("a"), "192.0.2.1")
    assert made.tunnel.addresses == ("10.42.0.0",)
    assert made.tunnel.mtu == 1450


def test_modes_decide_for_all_nodes() -> None:
    assert plan(B, C, mode="routes").routes == {DIRECT}
    assert plan(B, C, mode="routes").tunnel is None
    forced = plan(B, C, mode="vxlan")
    assert {route.link for route in forced.routes} == {DEVICE}
    assert len(forced.forwards) == 2


def test_a_link_without_ethernet_carries_no_pod_addresses() -> None:
    wireguard = Hop(link="wg0", source="192.0.2.1", ethernet=False, mtu=1420)
    made = make(ME, [B], HOPS | {"192.0.2.2": wireguard}, "auto")
    assert made.tunnel is not None
    assert made.tunnel.mtu == 1370


def test_the_tunnels_packets_fit_the_smallest_link() -> None:
    small = Hop(link="eth1", gateway="192.0.2.254", mtu=1400)
    made = make(ME, [B, C], HOPS | {"192.0.2.2": BEHIND, "198.51.100.3": small}, "auto")
    assert made.tunnel is not None
    assert made.tunnel.mtu == 1350


@pytest.mark.parametrize(
    ("mode", "others", "expected"),
    [("auto", [B], 1500), ("auto", [C], 1450), ("vxlan", [], 1450), ("routes", [C], 1500)],
)
def test_the_mtu_of_pods(mode: Mode, others: list[Peer], expected: int) -> None:
    assert pod_mtu(1500, make(ME, others, HOPS, mode), mode) == expected


def test_six_and_four_side_by_side() -> None:
    me = Peer("a", ("192.0.2.1", "2001:db8::1"), ("10.42.0.0/24", "fd42::/64"))
    peer = Peer("b", ("192.0.2.2", "2001:db8::2"), ("10.42.1.0/24", "fd42:0:0:1::/64"))
    hops = {"2001:db8::2": Hop(link="eth0"), "2001:db8::1": OWN}
    direct = make(me, [peer], HOPS | hops, "auto")
    assert Route(MAIN_TABLE, "fd42:0:0:1::/64", "2001:db8::2", "eth0", "") in direct.routes
    # One device carries both, over addresses of one family.
    tunnel = make(me, [peer], HOPS | hops, "vxlan")
    assert tunnel.forwards == {Forward(mac_of("b"), "192.0.2.2")}
    assert {neighbor.address for neighbor in tunnel.neighbors} == {"10.42.1.0", "fd42:0:0:1::"}
    assert Route(POD_TABLE, "2001:db8::2/128", "fd42:0:0:1::", DEVICE) in tunnel.routes
    # A family without an on-link address of the peer's goes through the tunnel as a whole.
    alone = make(me, [Peer("b", ("192.0.2.2",), peer.cidrs)], HOPS, "auto")
    assert alone.tunnel is not None


def test_what_cannot_be_reached_is_said_and_harms_nobody_else() -> None:
    lost = Peer("x", ("203.0.113.9",), ("10.42.9.0/24",))
    twin = Peer("y", ("192.0.2.1",), ("10.42.8.0/24",))
    made = plan(B, lost, twin)
    assert made.routes == {DIRECT}
    assert made.problems == (
        "no route to node x (203.0.113.9)",
        "node y has an address of this host: 192.0.2.1",
    )


def test_macs_are_the_same_everywhere_and_differ_by_name() -> None:
    assert mac_of("a") == mac_of("a") != mac_of("b")
    assert int(mac_of("a")[:2], 16) & 0b11 == 0b10


def test_nodes_without_addresses_or_pods_are_no_peers_yet() -> None:
    waiting = node("w", "192.0.2.7", [])
    nameless: dict[str, Any] = {**node("n", "x", "10.42.3.0/24"), "status": {}}
    found, problems = peers([node("b", "192.0.2.2", "10.42.1.0/24"), waiting, nameless])
    assert found == {"b": B}
    assert problems == []


def test_of_two_nodes_with_the_same_pod_addresses_the_older_has_them() -> None:
    young = node("a", "192.0.2.7", "10.42.1.0/25", created="2")
    found, problems = peers([young, node("b", "192.0.2.2", "10.42.1.0/24")])
    assert found == {"b": B}
    assert problems == ["node a: pod addresses 10.42.1.0/25 overlap those of b"]


@pytest.mark.parametrize(
    ("cidr", "problem"),
    [
        ("0.0.0.0/0", "no range of pod addresses"),
        ("192.0.2.0/24", "hold node address 192.0.2.2"),
        ("nonsense", "does not appear to be"),
    ],
)
def test_a_node_cannot_draw_other_traffic_to_itself(cidr: str, problem: str) -> None:
    bad = node("z", "192.0.2.9", cidr, created="2")
    found, problems = peers([node("b", "192.0.2.2", "10.42.1.0/24"), bad])
    assert found == {"b": B}
    assert problem in problems[0]


def test_a_node_known_by_an_address_that_no_link_has_lets_the_kernel_pick() -> None:
    outside = Hop(link="eth0", gateway="192.0.2.254")
    made = make(ME, [C], HOPS | {"192.0.2.1": outside}, "auto")
    assert made.tunnel is not None
    assert made.tunnel.local == ""
    assert Route(MAIN_TABLE, "10.42.2.0/24", "10.42.2.0", DEVICE, "") in made.routes
