"""Services of several hosts on real kernels: who answers whom, and under which address."""

from __future__ import annotations

import asyncio
import copy
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from tests.dataplane.network_world import Hosts, hosts, node
from tests.dataplane.world import ADDRESS, service, slice_of
from tests.lab.pods import ask

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]
BALANCER = "192.0.2.100"


@pytest.fixture
def world() -> Iterator[Hosts]:
    with hosts(2) as made:
        for host in made.hosts:
            # The client: a machine that knows no way to pods, and sends the balancer's traffic on.
            host.switch.run("ip", "route", "replace", BALANCER, "via", made.hosts[0].address)
        yield made


def balanced(**spec: Any) -> Object:
    made = service(type="LoadBalancer", **spec)
    made["status"] = {"loadBalancer": {"ingress": [{"ip": BALANCER, "ipMode": "VIP"}]}}
    return made


def client(world: Hosts) -> str:
    return world.hosts[0].switch.name


def gateway(world: Hosts) -> str:
    return world.hosts[0].address.rpartition(".")[0] + ".1"


def answers(world: Hosts, address: str, port: int) -> set[tuple[str, ...]]:
    return {tuple(ask(client(world), address, port)) for _ in range(20)}


def silent(world: Hosts, address: str, port: int) -> bool:
    """No answer at all; a refusal raises."""
    try:
        ask(client(world), address, port, timeout=0.5)
    except TimeoutError:
        return True
    return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.05)


def endpoints(world: Hosts, *numbers: int) -> Object:
    made = slice_of()
    made["endpoints"] = [
        {"addresses": [world.pods[n].address], "nodeName": f"h{n}"} for n in numbers
    ]
    return made


async def test_a_local_policy_keeps_the_clients_address_and_leaves_pods_free(world: Hosts) -> None:
    here, there = world.hosts
    world.api.put(kinds.SERVICE, balanced(externalTrafficPolicy="Local"))
    world.api.put(kinds.ENDPOINT_SLICE, endpoints(world, 0))
    async with world.network(proxies=True):
        seen = (world.pods[0].name, gateway(world))
        assert answers(world, BALANCER, 80) == {seen}
        assert answers(world, here.address, 30080) == {seen}
        # Another node could only pass it on under its own address: it does not answer.
        assert silent(world, there.address, 30080)
        # Pods of another node are outside of this one, but inside of their own.
        far = world.pods[1]
        assert ask(far.namespace, here.address, 30080) == [world.pods[0].name, far.address]
        with pytest.raises(TimeoutError):
            ask(world.pods[0].namespace, there.address, 30080, timeout=0.5)
        assert ask(far.namespace, BALANCER, 80) == [world.pods[0].name, far.address]
        assert ask(there.name, there.address, 30080)[0] == world.pods[0].name
        world.api.put(kinds.ENDPOINT_SLICE, endpoints(world))
        await until(lambda: not silent_or_refused(world, there.address, 30080))


def silent_or_refused(world: Hosts, address: str, port: int) -> bool:
    """False once it is refused: nobody answers anywhere."""
    try:
        ask(client(world), address, port, timeout=0.3)
    except ConnectionRefusedError:
        return False
    except OSError:
        return True
    return True


async def test_a_node_port_of_another_node_leads_a_client_back_to_its_own(world: Hosts) -> None:
    """The answer must come the way that the question went, past where it was translated."""
    here, there = world.hosts
    pod = world.pods[1]
    world.api.put(kinds.SERVICE, service())
    world.api.put(kinds.ENDPOINT_SLICE, endpoints(world, 1))
    async with world.network(proxies=True):
        assert ask(pod.namespace, here.address, 30080) == [pod.name, here.address]
        assert ask(there.name, here.address, 30080) == [pod.name, here.address]
        assert ask(world.pods[0].namespace, there.address, 30080)[0] == pod.name


async def test_source_ranges_let_only_those_through(world: Hosts) -> None:
    world.api.put(kinds.ENDPOINT_SLICE, endpoints(world, 0, 1))
    world.api.put(kinds.SERVICE, balanced(loadBalancerSourceRanges=["198.51.100.0/24"]))
    async with world.network(proxies=True):
        assert silent(world, BALANCER, 80)
        # The node port is another way, and not guarded, as in Kubernetes.
        assert answers(world, world.hosts[0].address, 30080)
        ranges = ["198.51.100.0/24", f"{gateway(world)}/32", "203.0.113.0/24", "203.0.113.128/25"]
        world.api.put(kinds.SERVICE, balanced(loadBalancerSourceRanges=ranges))
        await until(lambda: not silent(world, BALANCER, 80))
        names = {name for name, _ in answers(world, BALANCER, 80)}
        assert names == {pod.name for pod in world.pods}


async def test_an_internal_policy_binds_pods_to_their_node(world: Hosts) -> None:
    world.api.put(kinds.ENDPOINT_SLICE, endpoints(world, 0, 1))
    world.api.put(kinds.SERVICE, service(internalTrafficPolicy="Local"))
    async with world.network(proxies=True):
        for pod in world.pods:
            found = {ask(pod.namespace, ADDRESS, 80)[0] for _ in range(20)}
            assert found == {pod.name}


def zoned(world: Hosts, number: int, zone: str) -> None:
    made = node(number, world.hosts[number].address)
    made["metadata"]["labels"] = {"topology.kubernetes.io/zone": zone}
    world.api.put(kinds.NODE, made)


async def test_a_distribution_keeps_traffic_in_its_zone_while_it_can(world: Hosts) -> None:
    world.api.put(kinds.SERVICE, service(trafficDistribution="PreferClose"))
    made = endpoints(world, 0, 1)
    for one, zone in zip(made["endpoints"], ("a", "b"), strict=True):
        one["hints"] = {"forZones": [{"name": zone}]}
    world.api.put(kinds.ENDPOINT_SLICE, made)
    zoned(world, 0, "a")
    zoned(world, 1, "b")

    def seen(number: int) -> set[str]:
        return {ask(world.pods[number].namespace, ADDRESS, 80)[0] for _ in range(20)}

    async with world.network(proxies=True):
        assert [seen(0), seen(1)] == [{world.pods[0].name}, {world.pods[1].name}]
        # Its node is of another zone now, where nobody is close: everybody serves.
        zoned(world, 1, "c")
        await until(lambda: seen(1) == {pod.name for pod in world.pods})
        assert seen(0) == {world.pods[0].name}


async def test_a_distribution_keeps_traffic_on_its_node_while_it_can(world: Hosts) -> None:
    world.api.put(kinds.SERVICE, service(trafficDistribution="PreferSameNode"))
    made = endpoints(world, 0, 1)
    for one in made["endpoints"]:
        one["hints"] = {"forNodes": [{"name": one["nodeName"]}], "forZones": [{"name": "a"}]}
    world.api.put(kinds.ENDPOINT_SLICE, made)
    for number in (0, 1):
        zoned(world, number, "a")

    def seen(number: int) -> set[str]:
        return {ask(world.pods[number].namespace, ADDRESS, 80)[0] for _ in range(20)}

    async with world.network(proxies=True):
        assert [seen(0), seen(1)] == [{world.pods[0].name}, {world.pods[1].name}]
        gone = copy.deepcopy(made)
        gone["endpoints"][0]["conditions"] = {"ready": False}
        world.api.put(kinds.ENDPOINT_SLICE, gone)
        await until(lambda: seen(0) == {world.pods[1].name})
