"""Which addresses of a pool a Service gets, keeps, and is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.address_pool import Pool, parse
from meshkube.api.balancing import FROM_POOL
from meshkube.api.types import Object
from meshkube.control.cloud.bare_metal import ASK, NODES_CLASS, BareMetal, choose
from meshkube.control.cloud.provider import CloudError

POOL = parse(["192.0.2.1-192.0.2.3"])
NODES = [
    {"status": {"addresses": [{"type": "InternalIP", "address": "198.51.100.1"}]}},
    {
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "198.51.100.2"},
                {"type": "ExternalIP", "address": "203.0.113.2"},
            ]
        }
    },
]


def service(name: str, *held: str, ask: str = "", created: str = "1", **spec: Any) -> Object:
    conditions = [{"type": FROM_POOL, "status": "True"}] if held else []
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "creationTimestamp": created,
            "annotations": {ASK: ask} if ask else {},
        },
        "spec": {"type": "LoadBalancer", **spec},
        "status": {
            "loadBalancer": {"ingress": [{"ip": address} for address in held]},
            "conditions": conditions,
        },
    }


def test_each_service_gets_the_first_free_address() -> None:
    others = [service("a", "192.0.2.1"), service("b", "192.0.2.3")]
    assert choose(service("c"), others, POOL) == ["192.0.2.2"]


def test_a_service_keeps_what_it_has() -> None:
    assert choose(service("c", "192.0.2.3"), [service("a", "192.0.2.1")], POOL) == ["192.0.2.3"]


def test_an_address_that_left_the_pool_is_replaced() -> None:
    assert choose(service("c", "192.0.2.99"), [], POOL) == ["192.0.2.1"]


def test_an_address_may_be_asked_for() -> None:
    assert choose(service("c", "192.0.2.1", ask="192.0.2.3"), [], POOL) == ["192.0.2.3"]
    assert choose(service("c", loadBalancerIP="192.0.2.2"), [], POOL) == ["192.0.2.2"]


@pytest.mark.parametrize(
    ("wanting", "reason"),
    [
        (service("c"), "NoFreeAddress"),
        (service("c", ask="192.0.2.2"), "AddressTaken"),
        (service("c", ask="192.0.2.7"), "AddressOutsidePool"),
        (service("c", ask="web.example"), "AddressOutsidePool"),
    ],
)
def test_what_cannot_be_given_is_refused_with_a_reason(wanting: Object, reason: str) -> None:
    others = [service(str(n), f"192.0.2.{n}") for n in (1, 2, 3)]
    with pytest.raises(CloudError) as refused:
        choose(wanting, others, POOL)
    assert refused.value.reason == reason


def test_of_two_services_with_one_address_the_older_keeps_it() -> None:
    old, young = service("o", "192.0.2.1", created="1"), service("y", "192.0.2.1", created="2")
    assert choose(old, [young], POOL) == ["192.0.2.1"]
    assert choose(young, [old], POOL) == ["192.0.2.2"]


def test_both_families_where_the_pool_has_them() -> None:
    both = service("c", ipFamilies=["IPv4", "IPv6"])
    assert choose(both, [], parse(["192.0.2.1", "2001:db8::/126"])) == ["192.0.2.1", "2001:db8::"]
    assert choose(both, [], POOL) == ["192.0.2.1"]


@given(st.lists(st.sampled_from("abcdef"), max_size=20))
def test_no_address_is_ever_given_twice(asking: list[str]) -> None:
    held: dict[str, Object] = {}
    for name in asking:
        others = [other for key, other in held.items() if key != name]
        try:
            held[name] = service(name, *choose(held.get(name, service(name)), others, POOL))
        except CloudError:
            assert len(held) == 3
    given_out = [s["status"]["loadBalancer"]["ingress"][0]["ip"] for s in held.values()]
    assert len(given_out) == len(set(given_out))


async def test_without_a_pool_the_nodes_are_where_a_service_is_reached() -> None:
    balancer = await BareMetal().ensure(service("c"), NODES, [])
    assert [entry["ip"] for entry in balancer.ingress] == ["198.51.100.1", "203.0.113.2"]
    assert balancer.conditions == ()
    by_class = service("c", loadBalancerClass=NODES_CLASS)
    assert (await BareMetal(POOL).ensure(by_class, NODES, [])).ingress == balancer.ingress


async def test_a_port_of_the_nodes_goes_to_one_service() -> None:
    web = [{"port": 80}]
    first = service("a", "198.51.100.1", created="1", ports=web)
    late = service("b", created="2", ports=[{"port": 81}, *web])
    with pytest.raises(CloudError, match=r"port 80/TCP .* is that of the Service shop/a"):
        await BareMetal().ensure(late, NODES, [first])
    for ports in ([{"port": 81}], [{"port": 80, "protocol": "UDP"}]):
        assert (await BareMetal().ensure(service("b", ports=ports), NODES, [first])).ingress
    # Who has none keeps nobody out, and of two that have it the older is in the right.
    assert (await BareMetal().ensure(first, NODES, [late])).ingress
    both = service("b", "198.51.100.1", created="2", ports=web)
    assert (await BareMetal().ensure(first, NODES, [both])).ingress
    with pytest.raises(CloudError):
        await BareMetal().ensure(both, NODES, [first])


async def test_who_takes_a_port_from_the_ingress_is_warned() -> None:
    provider = BareMetal(ingress_ports=(80, 443))
    found = await provider.ensure(service("c", ports=[{"port": 443}, {"port": 80}]), NODES, [])
    assert found.ingress
    assert found.warning is not None
    reason, message = found.warning
    assert reason == "IngressPortTaken"
    assert "on port 80, 443 goes to this Service" in message
    assert (await provider.ensure(service("c", ports=[{"port": 81}]), NODES, [])).warning is None


async def test_an_address_of_the_pool_is_marked_as_such() -> None:
    balancer = await BareMetal(POOL).ensure(service("c"), NODES, [])
    assert balancer.ingress == [{"ip": "192.0.2.1", "ipMode": "VIP"}]
    assert [condition["type"] for condition in balancer.conditions] == [FROM_POOL]
    pool_class = service("c", loadBalancerClass="meshkube.io/pool")
    with pytest.raises(CloudError, match="no --load-balancer-pool"):
        await BareMetal(Pool()).ensure(pool_class, NODES, [])


async def test_nodes_of_both_families_are_reached_by_those_of_the_service() -> None:
    listed = [("InternalIP", "192.0.2.1"), ("InternalIP", "fd00::1"), ("ExternalIP", "2001:db8::1")]
    addresses = [{"type": kind, "address": address} for kind, address in listed]
    nodes = [{"metadata": {"name": "n"}, "status": {"addresses": addresses}}]

    async def found(*families: str) -> list[str]:
        balancer = await BareMetal().ensure(service("c", ipFamilies=list(families)), nodes, [])
        return [entry["ip"] for entry in balancer.ingress]

    assert await found("IPv4") == ["192.0.2.1"]
    assert await found("IPv6", "IPv4") == ["2001:db8::1", "192.0.2.1"]
