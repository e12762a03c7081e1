"""Services of both families: real IPv6 packets through real rules."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.dataplane.proxy import REPAIRS
from tests.dataplane.world import ADDRESS, World, service, slice_of
from tests.lab.host import lab
from tests.lab.pods import ask, connect, pods, run, serve

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]
ADDRESS_6 = "fd00:43::50"
HOST, OTHER = "fd00:250::11", "fd00:250::12"
BOTH = {
    "pod_cidrs": ("10.42.0.0/16", "fd00:42::/56"),
    "service_cidrs": ("10.43.0.0/16", "fd00:43::/112"),
}


@pytest.fixture(scope="module")
def place() -> Iterator[World]:
    with lab(2) as (host, other), pods(host, "10.42.0", 3) as made:
        for machine, address in ((host, HOST), (other, OTHER)):
            machine.run("ip", "address", "add", f"{address}/64", "dev", "eth0", "nodad")
        host.run("ip", "address", "add", "fd00:42::1/64", "dev", "meshkube0", "nodad")
        for number, pod in enumerate(made, 2):
            inside = ("nsenter", f"--net=/run/netns/{pod.namespace}", "ip")
            address = f"fd00:42::{number}"
            run(*inside, "address", "add", f"{address}/64", "dev", "eth0", "nodad")
            run(*inside, "-6", "route", "add", "default", "via", "fd00:42::1")
            pod.serve(8080)
            pod.processes.append(serve(pod.namespace, address, 8080, address))
        made_world = World(host, other, made)
        settle(made_world)
        yield made_world


@pytest.fixture
def world(place: World) -> World:
    """The same hosts and pods, with an API of its own."""
    return World(place.host, place.other, place.pods)


def settle(world: World) -> None:
    """Waits until the links have made sure that nobody else has their addresses."""
    end = time.monotonic() + 20
    for number in (2, 3, 4):
        while True:
            try:
                ask(world.host.name, f"fd00:42::{number}", 8080)
                break
            except OSError:
                assert time.monotonic() < end, "the links are not ready"
                time.sleep(0.1)


def dual(**spec: Any) -> Object:
    both = {"clusterIPs": [ADDRESS, ADDRESS_6], "ipFamilies": ["IPv4", "IPv6"]}
    return service(**{**both, **spec})


def slice_6(*numbers: int) -> Object:
    made = slice_of(*(f"fd00:42::{number}" for number in numbers))
    made["metadata"]["name"] = "web-6"
    return {**made, "addressType": "IPv6"}


def answers(world: World, who: str, address: str, port: int, udp: bool = False) -> set[str]:
    return {ask(who, address, port, udp)[0] for _ in range(30)}


async def test_both_families_are_balanced_each_among_its_own(world: World) -> None:
    world.api.put(kinds.SERVICE, dual())
    world.api.put(kinds.ENDPOINT_SLICE, slice_of(world.pods[0].address), slice_6(2, 3, 4))
    expected = {"fd00:42::2", "fd00:42::3", "fd00:42::4"}
    async with world.proxy(**BOTH):
        for who in (world.host.name, world.pods[0].namespace):
            for udp, port in ((False, 80), (True, 53)):
                assert answers(world, who, ADDRESS_6, port, udp) == expected
                assert answers(world, who, ADDRESS, port, udp) == {world.pods[0].name}


async def test_node_ports_and_external_addresses_answer_other_hosts(world: World) -> None:
    balanced = dual(type="LoadBalancer", externalIPs=["fd00:250::77"])
    balanced["status"] = {"loadBalancer": {"ingress": [{"ip": "fd00:250::78"}]}}
    world.api.put(kinds.SERVICE, balanced)
    world.api.put(kinds.ENDPOINT_SLICE, slice_6(2, 3))
    world.other.run("ip", "-6", "route", "replace", "fd00:250::70/124", "via", HOST)
    async with world.proxy(**BOTH):
        for address, port in ((HOST, 30080), ("fd00:250::77", 80), ("fd00:250::78", 80)):
            found = [ask(world.other.name, address, port) for _ in range(20)]
            assert {name for name, _ in found} == {"fd00:42::2", "fd00:42::3"}
            assert {client for _, client in found} == {OTHER}


async def test_a_pod_reaches_itself_and_sees_who_asks(world: World) -> None:
    world.api.put(kinds.SERVICE, dual())
    world.api.put(kinds.ENDPOINT_SLICE, slice_6(2))
    async with world.proxy(**BOTH):
        assert ask(world.pods[0].namespace, ADDRESS_6, 80)[0] == "fd00:42::2"
        assert ask(world.pods[1].namespace, ADDRESS_6, 80) == ["fd00:42::2", "fd00:42::3"]


async def test_what_pods_send_out_comes_from_the_host(world: World) -> None:
    server = serve(world.other.name, "out", 9000, OTHER)
    try:
        async with world.proxy(**BOTH):
            assert ask(world.pods[0].namespace, OTHER, 9000) == ["out", HOST]
    finally:
        server.kill()
        server.wait()
        assert server.stdout is not None
        server.stdout.close()


async def test_without_endpoints_connections_are_refused(world: World) -> None:
    world.api.put(kinds.SERVICE, dual())
    async with world.proxy(**BOTH):
        for who in (world.host.name, world.pods[0].namespace):
            for address in (ADDRESS_6, "fd00:43::99"):
                with pytest.raises(ConnectionRefusedError):
                    ask(who, address, 80)
        with pytest.raises(ConnectionRefusedError):
            ask(world.other.name, HOST, 30080)


def bound(world: World) -> str:
    """The kernel's memory of clients with affinity, as nft prints it."""
    return world.host.run("nft", "list", "map", "inet", "meshkube", "affinity6").stdout


async def test_affinity_holds_while_the_backend_lives_and_no_longer(world: World) -> None:
    world.api.put(kinds.SERVICE, dual(sessionAffinity="ClientIP"))
    world.api.put(kinds.ENDPOINT_SLICE, slice_6(2))
    client = world.pods[1].namespace
    ways = [(ADDRESS_6, 80, False), (ADDRESS_6, 53, True), (HOST, 30080, False)]

    def found() -> set[str]:
        return {ask(client, *way)[0] for way in ways for _ in range(3)}

    async with world.proxy(**BOTH):
        assert found() == {"fd00:42::2"}
        world.api.put(kinds.ENDPOINT_SLICE, slice_6(2, 3, 4))
        elements = "list map inet meshkube services6_3"
        await world.until(lambda: world.host.run("nft", *elements.split(), check=False).stdout)
        assert found() == {"fd00:42::2"}
    # A daemon that starts again knows whom its clients keep to.
    async with world.proxy(**BOTH):
        assert found() == {"fd00:42::2"}
        world.api.put(kinds.ENDPOINT_SLICE, slice_6(3, 4))
        await world.until(lambda: "fd00:42::2" not in found())
        await world.until(lambda: ": fd00:42::2 ." not in bound(world))


async def test_a_silent_client_is_forgotten_and_the_rules_are_known_as_ours(world: World) -> None:
    soon = {"clientIP": {"timeoutSeconds": 2}}
    world.api.put(kinds.SERVICE, dual(sessionAffinity="ClientIP", sessionAffinityConfig=soon))
    world.api.put(kinds.ENDPOINT_SLICE, slice_6(2))
    repaired = REPAIRS._value.get()
    async with world.proxy(**BOTH) as proxy:
        ask(world.pods[1].namespace, ADDRESS_6, 80)
        assert f"fd00:42::3 . {ADDRESS_6} . tcp . 80 timeout 2s" in bound(world)
        await world.until(lambda: "elements" not in bound(world))
        # Nothing of it looks like somebody else's change; what is, is put right.
        await proxy._check()
        assert REPAIRS._value.get() == repaired
        world.host.run("nft", "flush", "chain", "inet", "meshkube", "remember6_2")
        await proxy._check()
        assert REPAIRS._value.get() == repaired + 1
        ask(world.pods[1].namespace, ADDRESS_6, 80)
        assert "elements" in bound(world)


async def test_a_udp_flow_moves_when_its_backend_leaves(world: World) -> None:
    world.api.put(kinds.SERVICE, dual())
    world.api.put(kinds.ENDPOINT_SLICE, slice_6(2))
    async with world.proxy(**BOTH):
        with connect(world.host.name, ADDRESS_6, 53, udp=True) as flow:

            def asked() -> str:
                flow.send(b"hello")
                try:
                    return flow.recv(100).split()[0].decode()
                except TimeoutError:
                    return "nobody, yet"

            assert asked() == "fd00:42::2"
            world.api.put(kinds.ENDPOINT_SLICE, slice_6(3))
            await world.until(lambda: asked() == "fd00:42::3")


async def test_source_ranges_are_those_of_their_family(world: World) -> None:
    balanced = dual(type="LoadBalancer", loadBalancerSourceRanges=["fd00:99::/64"])
    balanced["status"] = {"loadBalancer": {"ingress": [{"ip": "fd00:250::78"}]}}
    world.api.put(kinds.SERVICE, balanced)
    world.api.put(kinds.ENDPOINT_SLICE, slice_6(2))
    world.other.run("ip", "-6", "route", "replace", "fd00:250::70/124", "via", HOST)
    async with world.proxy(**BOTH):
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(ask, world.other.name, "fd00:250::78", 80, False, 0.5)
        balanced["spec"]["loadBalancerSourceRanges"].append("fd00:250::/64")
        world.api.put(kinds.SERVICE, balanced)

        def through() -> bool:
            try:
                return ask(world.other.name, "fd00:250::78", 80, timeout=0.3)[0] == "fd00:42::2"
            except OSError:
                return False

        await world.until(through)
