"""What the addresses and ports of a Service lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.dataplane.services import Backend, Front, Frontends, Health, Settings, frontends

SETTINGS = Settings(
    node_name="h1",
    pod_cidrs=("10.42.0.0/16",),
    service_cidrs=("10.43.0.0/16",),
    skip=frozenset({"10.43.0.10"}),
)
TCP, UDP, SCTP = 6, 17, 132


def service(*ports: Object, **spec: Any) -> Object:
    given = ports or ({"port": 80, "protocol": "TCP"},)
    return {
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "creationTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"type": "ClusterIP", "clusterIP": "10.43.0.80", "ports": list(given), **spec},
    }


def endpoint(address: str, node: str = "h1", **conditions: bool) -> Object:
    return {"addresses": [address], "nodeName": node, "conditions": conditions}


def piece(*endpoints: Object, ports: list[Object] | None = None, family: str = "IPv4") -> Object:
    return {
        "metadata": {"name": "web-1", "namespace": "shop"},
        "addressType": family,
        "ports": ports or [{"port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def found(service: Object, *pieces: Object, settings: Settings = SETTINGS) -> dict[Front, Any]:
    compiled = frontends(service, pieces, settings)
    return {frontend.front: frontend.backends for frontend in compiled.frontends}


def test_a_cluster_ip_leads_to_ready_endpoints_in_a_fixed_order() -> None:
    slices = piece(endpoint("10.42.0.3"), endpoint("10.42.0.2"), endpoint("10.42.0.4", ready=False))
    assert found(service(), slices) == {
        Front(4, "10.43.0.80", TCP, 80): (Backend("10.42.0.2", 8080), Backend("10.42.0.3", 8080))
    }


def test_endpoints_of_all_slices_are_taken_once() -> None:
    one, two = piece(endpoint("10.42.0.2")), piece(endpoint("10.42.0.2"), endpoint("10.42.0.3"))
    (backends,) = found(service(), one, two).values()
    assert [backend.address for backend in backends] == ["10.42.0.2", "10.42.0.3"]


def test_ports_match_by_name_and_protocol() -> None:
    ports = (
        {"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web"},
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "sig", "port": 99, "protocol": "SCTP"},
        {"name": "none", "port": 7},
    )
    offered = [
        {"name": "http", "port": 8080, "protocol": "TCP"},
        {"name": "dns", "port": 5353, "protocol": "UDP"},
        {"name": "sig", "port": 9999, "protocol": "SCTP"},
        {"name": "none", "port": 77, "protocol": "UDP"},
    ]
    result = found(service(*ports), piece(endpoint("10.42.0.2"), ports=offered))
    assert {(front.protocol, front.port): [b.port for b in bs] for front, bs in result.items()} == {
        (TCP, 80): [8080],
        (UDP, 53): [5353],
        (SCTP, 99): [9999],
        (TCP, 7): [],
    }


def test_one_named_port_may_differ_between_slices() -> None:
    port = {"name": "http", "port": 80}
    old = piece(endpoint("10.42.0.2"), ports=[{"name": "http", "port": 8080}])
    new = piece(endpoint("10.42.0.3"), ports=[{"name": "http", "port": 9090}])
    (backends,) = found(service(port), old, new).values()
    assert backends == (Backend("10.42.0.2", 8080), Backend("10.42.0.3", 9090))


def test_terminating_endpoints_serve_only_while_nothing_is_ready() -> None:
    leaving = endpoint("10.42.0.2", ready=False, serving=True, terminating=True)
    gone = endpoint("10.42.0.3", ready=False, serving=False, terminating=True)
    fresh = endpoint("10.42.0.4", ready=True, serving=True)
    (backends,) = found(service(), piece(leaving, gone)).values()
    assert [backend.address for backend in backends] == ["10.42.0.2"]
    (backends,) = found(service(), piece(leaving, gone, fresh)).values()
    assert [backend.address for backend in backends] == ["10.42.0.4"]


def test_node_ports_are_of_every_address_of_the_host() -> None:
    port = {"port": 80, "nodePort": 30080}
    assert Front(4, "", TCP, 30080) in found(service(port, type="NodePort"))
    assert Front(4, "", TCP, 30080) in found(service(port, type="LoadBalancer"))
    assert Front(4, "", TCP, 30080) not in found(service(port, type="ClusterIP"))


def test_external_and_balancer_addresses_are_fronts() -> None:
    subject = service(type="LoadBalancer", externalIPs=["192.0.2.1"])
    ingress = [{"ip": "192.0.2.2"}, {"ip": "192.0.2.3", "ipMode": "Proxy"}, {"hostname": "lb"}]
    subject["status"] = {"loadBalancer": {"ingress": ingress}}
    addresses = {front.address for front in found(subject)}
    assert addresses == {"10.43.0.80", "192.0.2.1", "192.0.2.2"}


@pytest.mark.parametrize(
    "spec",
    [
        {"clusterIP": "None"},
        {"clusterIP": ""},
        {"clusterIP": "10.43.0.10"},
        {"clusterIP": "2001:db8::1"},
        {"type": "ExternalName", "externalName": "example.com", "clusterIP": ""},
    ],
)
def test_a_service_without_an_address_of_ours_has_no_front(spec: Object) -> None:
    assert found(service(**spec), piece(endpoint("10.42.0.2"))) == {}


OUTSIDE = Front(4, "", TCP, 30080, outside=True)


def test_a_local_policy_for_outside_binds_only_clients_from_there() -> None:
    port = {"port": 80, "nodePort": 30080}
    slices = piece(endpoint("10.42.0.2", "h1"), endpoint("10.42.1.2", "h2"))
    result = found(service(port, type="NodePort", externalTrafficPolicy="Local"), slices)
    assert [b.address for b in result[OUTSIDE]] == ["10.42.0.2"]
    assert len(result[Front(4, "", TCP, 30080)]) == 2
    assert len(result[Front(4, "10.43.0.80", TCP, 80)]) == 2


def test_a_local_policy_without_endpoints_here_or_anywhere() -> None:
    port = {"port": 80, "nodePort": 30080}
    local = service(port, type="NodePort", externalTrafficPolicy="Local")
    assert found(local, piece(endpoint("10.42.1.2", "h2")))[OUTSIDE] == ()
    # Nobody answers anywhere: that is refused, to whoever asks.
    nowhere = found(local, piece())
    assert OUTSIDE not in nowhere
    assert nowhere[Front(4, "", TCP, 30080)] == ()


def test_a_local_policy_for_inside_binds_everybody() -> None:
    slices = piece(endpoint("10.42.0.2", "h1"), endpoint("10.42.1.2", "h2"))
    result = found(service(internalTrafficPolicy="Local"), slices)
    assert [b.address for b in result[Front(4, "10.43.0.80", TCP, 80)]] == ["10.42.0.2"]


def test_the_health_check_counts_ready_endpoints_of_this_node() -> None:
    local = service(type="LoadBalancer", externalTrafficPolicy="Local", healthCheckNodePort=32000)
    both = [{"name": name, "port": 8080, "protocol": "TCP"} for name in ("", "other")]
    slices = piece(
        endpoint("10.42.0.2", "h1"),
        endpoint("10.42.0.3", "h1", ready=False),
        endpoint("10.42.1.2", "h2"),
        ports=both,
    )
    assert frontends(local, [slices], SETTINGS).health == Health(32000, 1)
    assert frontends(service(), [slices], SETTINGS).health is None


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        ([], set()),
        (["0.0.0.0/0", "192.0.2.0/24"], set()),
        (["2001:db8::/32"], set()),
        (["192.0.2.0/24", " 192.0.2.128/25", "203.0.113.7/32"], {"192.0.2.0/24", "203.0.113.7"}),
    ],
)
def test_source_ranges_guard_the_balancers_addresses(ranges: list[str], expected: set[str]) -> None:
    balancer = service(type="LoadBalancer", loadBalancerSourceRanges=ranges)
    balancer["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.9"}]}}
    members = frontends(balancer, [piece(endpoint("10.42.0.2"))], SETTINGS).members
    front = "198.51.100.9 . 6 . 80"
    guarded = {value for name, value in members if name == "guarded4"}
    assert guarded == ({front} if expected else set())
    allowed = {value for name, value in members if name == "allowed4"}
    assert allowed == {f"{front} . {source}" for source in expected}


def test_both_families_get_their_own_fronts() -> None:
    both = Settings(
        node_name="h1",
        pod_cidrs=("10.42.0.0/16", "fd00:42::/56"),
        service_cidrs=("10.43.0.0/16", "fd00:43::/112"),
    )
    subject = service(
        {"port": 80, "nodePort": 30080},
        type="NodePort",
        clusterIPs=["10.43.0.80", "fd00:43::80"],
        ipFamilies=["IPv4", "IPv6"],
    )
    slices = (piece(endpoint("10.42.0.2")), piece(endpoint("fd00:42::2"), family="IPv6"))
    result = found(subject, *slices, settings=both)
    assert {front: [b.address for b in bs] for front, bs in result.items()} == {
        Front(4, "10.43.0.80", TCP, 80): ["10.42.0.2"],
        Front(4, "", TCP, 30080): ["10.42.0.2"],
        Front(6, "fd00:43::80", TCP, 80): ["fd00:42::2"],
        Front(6, "", TCP, 30080): ["fd00:42::2"],
    }


def test_backends_that_need_translation_back_are_named() -> None:
    here, far, host = (
        endpoint("10.42.0.2"),
        endpoint("10.42.1.2", "h2"),
        endpoint("192.168.0.7", "h2"),
    )
    result = frontends(service(), [piece(here, far, host)], SETTINGS)
    assert result.members == {
        ("hairpins4", "10.42.0.2 . 10.42.0.2"),
        ("outsiders4", "192.168.0.7"),
    }


def test_nothing_comes_of_an_external_name() -> None:
    assert frontends(service(type="ExternalName"), [], SETTINGS) == Frontends()


@pytest.mark.parametrize("label", ["service-proxy-name", "headless"])
def test_a_service_of_another_proxy_is_left_to_it(label: str) -> None:
    theirs = service()
    theirs["metadata"]["labels"] = {f"service.kubernetes.io/{label}": ""}
    assert frontends(theirs, [piece(NEAR)], SETTINGS) == Frontends()


def hinted(address: str, *zones: str, node: str = "", **conditions: bool) -> Object:
    hints = {"forZones": [{"name": zone} for zone in zones]} if zones else {}
    hints |= {"forNodes": [{"name": node}]} if node else {}
    return {**endpoint(address, **conditions), "hints": hints}


NEAR, FAR, PLAIN = (
    hinted("10.42.0.2", "a"),
    hinted("10.42.0.3", "b"),
    hinted("10.42.0.4"),
)
CLOSE: list[tuple[str, list[Object], set[str]]] = [
    ("a", [NEAR, FAR], {"10.42.0.2"}),
    ("b", [NEAR, FAR], {"10.42.0.3"}),
    # None for this zone, none of this node, one for everybody: then all serve.
    ("c", [NEAR, FAR], {"10.42.0.2", "10.42.0.3"}),
    ("", [NEAR, FAR], {"10.42.0.2", "10.42.0.3"}),
    ("a", [NEAR, FAR, PLAIN], {"10.42.0.2", "10.42.0.3", "10.42.0.4"}),
    # Those that are not ready have no say.
    ("a", [NEAR, FAR, hinted("10.42.0.4", ready=False)], {"10.42.0.2"}),
    ("a", [hinted("10.42.0.2", "a", ready=False), FAR], {"10.42.0.3"}),
    # This node goes before its zone, where each has a node.
    (
        "b",
        [hinted("10.42.0.2", "a", node="h1"), hinted("10.42.0.3", "b", node="h2")],
        {"10.42.0.2"},
    ),
    ("", [hinted("10.42.0.2", node="h1"), hinted("10.42.0.3", node="h2")], {"10.42.0.2"}),
    (
        "a",
        [hinted("10.42.0.2", "a", node="h3"), hinted("10.42.0.3", "b", node="h2")],
        {"10.42.0.2"},
    ),
    ("b", [hinted("10.42.0.2", "a", node="h1"), FAR], {"10.42.0.3"}),
]


@pytest.mark.parametrize(("zone", "endpoints", "expected"), CLOSE)
def test_hints_keep_clients_to_endpoints_of_their_zone(
    zone: str, endpoints: list[Object], expected: set[str]
) -> None:
    settings = replace(SETTINGS, zone=zone)
    (backends,) = found(service(), piece(*endpoints), settings=settings).values()
    assert {backend.address for backend in backends} == expected


def test_a_policy_for_this_node_goes_before_hints() -> None:
    settings = replace(SETTINGS, zone="b")
    local = service(internalTrafficPolicy="Local")
    (backends,) = found(local, piece(NEAR), settings=settings).values()
    assert backends == (Backend("10.42.0.2", 8080),)


def test_an_address_that_a_process_of_this_host_may_answer_is_refused_to_nobody() -> None:
    settings = replace(SETTINGS, skip=frozenset(), local=frozenset({"10.43.0.10"}))
    dns = service(clusterIP="10.43.0.10")
    assert found(dns, settings=settings) == {}
    assert found(dns, piece(endpoint("10.42.0.2")), settings=settings) == {
        Front(4, "10.43.0.10", TCP, 80): (Backend("10.42.0.2", 8080),)
    }
