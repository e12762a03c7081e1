"""Addresses and node ports of Services."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.errors import ApiError
from meshkube.control.apiserver.service_families import family_of
from meshkube.control.apiserver.services import ServiceAllocator, prepare

Service = dict[str, Any]


def service(name: str = "web", **spec: Any) -> Service:
    spec = {"type": "ClusterIP", "ports": [{"port": 80, "protocol": "TCP"}], **spec}
    return {"metadata": {"name": name, "namespace": "default"}, "spec": spec}


@pytest.fixture
def allocator() -> ServiceAllocator:
    return ServiceAllocator("10.43.0.0/24", range(30000, 30003))


def store(allocator: ServiceAllocator, new: Service, old: Service | None = None) -> Service:
    """As the registry does."""
    prepare(new, old)
    allocator.claim(new)
    allocator.changed(old, new)
    return new


def test_a_service_gets_an_address_and_its_families(allocator: ServiceAllocator) -> None:
    spec = store(allocator, service())["spec"]
    assert spec["clusterIP"].startswith("10.43.0.")
    assert spec["clusterIPs"] == [spec["clusterIP"]]
    assert spec["ipFamilies"] == ["IPv4"]
    assert spec["ipFamilyPolicy"] == "SingleStack"
    assert allocator.owner(spec["clusterIP"]) == "default/web"


def test_no_address_is_handed_out_twice_and_the_range_ends() -> None:
    allocator = ServiceAllocator("10.43.0.0/29", range(30000, 30001))
    found = {store(allocator, service(f"s{n}"))["spec"]["clusterIP"] for n in range(6)}
    assert len(found) == 6
    assert not {"10.43.0.0", "10.43.0.7"} & found
    with pytest.raises(ApiError, match="range is full"):
        allocator.claim(service("one-more"))


def test_a_headless_service_and_an_external_name_take_none(allocator: ServiceAllocator) -> None:
    spec = store(allocator, service(clusterIP="None"))["spec"]
    assert spec["clusterIPs"] == ["None"]
    spec = store(allocator, service("x", type="ExternalName", externalName="example.com"))["spec"]
    assert "clusterIP" not in spec
    assert "ipFamilies" not in spec


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (
            "10.44.0.1",
            "the provided IP (10.44.0.1) is not in the valid range. The range of valid IPs is"
            " 10.43.0.0/24",
        ),
        ("10.43.0.9", "provided IP is already allocated"),
    ],
)
def test_an_address_asked_for_is_honoured_or_refused(
    allocator: ServiceAllocator, address: str, why: str
) -> None:
    assert store(allocator, service(clusterIP="10.43.0.9"))["spec"]["clusterIP"] == "10.43.0.9"
    with pytest.raises(ApiError) as error:
        allocator.claim(service("other", clusterIP=address))
    assert error.value.code == 422
    assert error.value.message == (
        f'Service "other" is invalid: spec.clusterIPs: Invalid value: ["{address}"]: failed to '
        f"allocate IP {address}: {why}"
    )


def test_node_ports_come_from_the_range_and_are_shared_by_protocols(
    allocator: ServiceAllocator,
) -> None:
    ports = [
        {"name": "t", "port": 53, "protocol": "TCP"},
        {"name": "u", "port": 53, "protocol": "UDP"},
        {"name": "w", "port": 80, "protocol": "TCP"},
    ]
    spec = store(allocator, service(type="NodePort", ports=ports))["spec"]
    tcp, udp, web = (port["nodePort"] for port in spec["ports"])
    assert tcp == udp != web
    assert {tcp, web} <= set(range(30000, 30003))


@pytest.mark.parametrize(
    ("port", "why"),
    [
        (
            80,
            "80: provided port is not in the valid range. The range of valid ports is 30000-30002",
        ),
        (30001, "30001: provided port is already allocated"),
    ],
)
def test_a_node_port_asked_for_is_honoured_or_refused(
    allocator: ServiceAllocator, port: int, why: str
) -> None:
    store(allocator, service(type="NodePort", ports=[{"port": 80, "nodePort": 30001}]))
    with pytest.raises(ApiError) as error:
        allocator.claim(service("x", type="NodePort", ports=[{"port": 80, "nodePort": port}]))
    assert error.value.message.endswith(f"spec.ports[0].nodePort: Invalid value: {why}")


def test_a_refused_claim_takes_nothing(allocator: ServiceAllocator) -> None:
    bad = service(type="NodePort", clusterIP="10.43.0.9", ports=[{"port": 80, "nodePort": 1}])
    with pytest.raises(ApiError):
        allocator.claim(bad)
    assert allocator.owner("10.43.0.9") == ""


def test_an_undone_claim_is_free_again(allocator: ServiceAllocator) -> None:
    new = service(type="NodePort", clusterIP="10.43.0.9")
    allocator.undo(allocator.claim(new))
    assert allocator.owner("10.43.0.9") == ""
    assert allocator.owner(new["spec"]["ports"][0]["nodePort"]) == ""


def test_an_update_that_leaves_them_out_keeps_address_and_ports(
    allocator: ServiceAllocator,
) -> None:
    old = store(allocator, service(type="NodePort"))
    new = store(allocator, service(type="NodePort"), old)
    assert new["spec"]["clusterIP"] == old["spec"]["clusterIP"]
    assert new["spec"]["ports"][0]["nodePort"] == old["spec"]["ports"][0]["nodePort"]


def test_a_change_of_type_gives_back_what_the_new_one_has_no_use_for(
    allocator: ServiceAllocator,
) -> None:
    old = store(allocator, service(type="NodePort", externalTrafficPolicy="Cluster"))
    port = old["spec"]["ports"][0]["nodePort"]
    spec = {**old["spec"], "type": "ClusterIP", "ports": [{**old["spec"]["ports"][0]}]}
    new = store(allocator, service(**spec), old)
    assert "nodePort" not in new["spec"]["ports"][0]
    assert "externalTrafficPolicy" not in new["spec"]
    assert allocator.owner(port) == ""
    external = {**new["spec"], "type": "ExternalName", "externalName": "example.com"}
    gone = store(allocator, service(**external), new)
    assert "clusterIP" not in gone["spec"]
    assert allocator.owner(new["spec"]["clusterIP"]) == ""


def test_a_local_load_balancer_gets_a_health_check_port(allocator: ServiceAllocator) -> None:
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local"}
    old = store(allocator, service(**local))
    held = old["spec"]["healthCheckNodePort"]
    assert held in range(30000, 30003)
    new = store(allocator, service(**{**local, "externalTrafficPolicy": "Cluster"}), old)
    assert "healthCheckNodePort" not in new["spec"]
    assert allocator.owner(held) == ""


def test_what_is_stored_is_held_after_a_restart(allocator: ServiceAllocator) -> None:
    held = store(allocator, service(type="NodePort"))
    again = ServiceAllocator("10.43.0.0/24", range(30000, 30003))
    again.rebuild([held])
    assert again.owner(held["spec"]["clusterIP"]) == "default/web"
    assert again.owner(held["spec"]["ports"][0]["nodePort"]) == "default/web"


def test_a_deleted_service_frees_all(allocator: ServiceAllocator) -> None:
    held = store(allocator, service(type="NodePort"))
    allocator.changed(held, None)
    assert allocator.owner(held["spec"]["clusterIP"]) == ""
    assert allocator.owner(held["spec"]["ports"][0]["nodePort"]) == ""


@pytest.fixture
def dual() -> ServiceAllocator:
    return ServiceAllocator("10.43.0.0/24,fd00:43::/112", range(30000, 30003))


DUAL = [
    ({}, ["IPv4"], "SingleStack"),
    ({"ipFamilies": ["IPv6"]}, ["IPv6"], "SingleStack"),
    ({"ipFamilyPolicy": "PreferDualStack"}, ["IPv4", "IPv6"], "PreferDualStack"),
    ({"ipFamilyPolicy": "RequireDualStack"}, ["IPv4", "IPv6"], "RequireDualStack"),
    (
        {"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]},
        ["IPv6", "IPv4"],
        "PreferDualStack",
    ),
    ({"ipFamilies": ["IPv6", "IPv4"]}, ["IPv6", "IPv4"], "RequireDualStack"),
    ({"clusterIP": "fd00:43::99"}, ["IPv6"], "SingleStack"),
    ({"clusterIPs": ["10.43.0.99", "fd00:43::99"]}, ["IPv4", "IPv6"], "RequireDualStack"),
]


@pytest.mark.parametrize(("asked", "families", "policy"), DUAL)
def test_a_dual_stack_cluster_gives_what_the_policy_asks_for(
    dual: ServiceAllocator, asked: dict[str, Any], families: list[str], policy: str
) -> None:
    spec = store(dual, service(**asked))["spec"]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (families, policy)
    assert [family_of(address) for address in spec["clusterIPs"]] == families
    assert spec["clusterIP"] == spec["clusterIPs"][0]
    for address in [*asked.get("clusterIPs", ()), *filter(None, [asked.get("clusterIP")])]:
        assert address in spec["clusterIPs"]
    assert all(dual.owner(address) == "default/web" for address in spec["clusterIPs"])


def test_a_service_gains_its_second_address_and_lets_go_of_it(dual: ServiceAllocator) -> None:
    single = store(dual, service())
    asked = {**single["spec"], "ipFamilyPolicy": "PreferDualStack"}
    both = store(dual, {**single, "spec": asked}, single)
    assert both["spec"]["clusterIPs"][0] == single["spec"]["clusterIP"]
    assert both["spec"]["ipFamilies"] == ["IPv4", "IPv6"]
    second = both["spec"]["clusterIPs"][1]
    asked = {**both["spec"], "ipFamilyPolicy": "SingleStack"}
    again = store(dual, {**both, "spec": asked}, both)
    assert again["spec"]["clusterIPs"] == [single["spec"]["clusterIP"]]
    assert again["spec"]["ipFamilies"] == ["IPv4"]
    assert dual.owner(second) == ""


REFUSED = [
    ({"ipFamilyPolicy": "RequireDualStack"}, "not configured for dual-stack services"),
    ({"ipFamilies": ["IPv6"]}, "not configured on this cluster"),
    ({"clusterIP": "fd00:43::99"}, "not configured on this cluster"),
]


@pytest.mark.parametrize(("asked", "why"), REFUSED)
def test_a_cluster_of_one_family_says_what_it_cannot_give(
    allocator: ServiceAllocator, asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(ApiError, match=why):
        store(allocator, service(**asked))


def test_a_service_that_prefers_two_families_takes_the_one_there_is(
    allocator: ServiceAllocator,
) -> None:
    spec = store(allocator, service(ipFamilyPolicy="PreferDualStack"))["spec"]
    assert (spec["ipFamilies"], spec["ipFamilyPolicy"]) == (["IPv4"], "PreferDualStack")
