"""LoadBalancer addresses on a real link: taken, announced, moved, given up."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.balancing import FROM_POOL
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.auth import component_roles
from meshkube.control.auth.users import NODE_PREFIX
from meshkube.dataplane import link_addresses
from meshkube.dataplane.announcements import owner
from meshkube.dataplane.announcer import Announcer
from tests.dataplane.network_world import running
from tests.lab.host import Host, lab
from tests.lab.pods import inside
from tests.support.api import running_registry

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]


class Cable(LocalClient):
    """A client whose way to the API can be cut."""

    cut = False

    async def patch(self, *arguments: Any, **named: Any) -> Object:
        if self.cut:
            raise ApiError(503, "ServiceUnavailable", "no way to the API")
        return await super().patch(*arguments, **named)


class World:
    """Hosts that may announce, a client's host beside them, and a real API."""

    def __init__(self, hosts: Sequence[Host], registry: Any) -> None:
        *self.hosts, self.outside = hosts
        self.registry = registry
        self.client = LocalClient(registry)
        self.address = self.hosts[0].address.rpartition(".")[0] + ".240"
        self.serving = True
        names = range(len(self.hosts))
        self.cables = [Cable(registry, f"{NODE_PREFIX}h{number}") for number in names]

    async def add_node(self, number: int) -> None:
        node: Object = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": f"h{number}"}}
        status = {"conditions": [{"type": "Ready", "status": "True"}]}
        await self.client.create(kinds.NODE, {**node, "status": status})

    async def add_service(self) -> None:
        made = await self.client.create(
            kinds.SERVICE,
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
            },
        )
        condition = {
            "type": FROM_POOL,
            "status": "True",
            "reason": "Allocated",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        status = {
            "loadBalancer": {"ingress": [{"ip": self.address, "ipMode": "VIP"}]},
            "conditions": [condition],
        }
        await self.client.update(kinds.SERVICE, {**made, "status": status}, subresource="status")

    @contextlib.asynccontextmanager
    async def announcers(self, *numbers: int) -> AsyncIterator[contextlib.AsyncExitStack]:
        """On these hosts, each as its own node."""
        async with contextlib.AsyncExitStack() as stack:
            for number in numbers:
                await stack.enter_async_context(self.announcer(number))
            yield stack

    @contextlib.asynccontextmanager
    async def announcer(self, number: int) -> AsyncIterator[None]:
        host = self.hosts[number]
        part = Announcer(
            client=LocalClient(self.registry, component_roles.PROXY),
            lease_client=self.cables[number],
            node_name=f"h{number}",
            node_ip=host.address,
            serves=lambda: self.serving,
        )
        async with running(host, part):
            yield

    def held_by(self) -> list[int]:
        found = []
        for number, host in enumerate(self.hosts):
            if f"{self.address}/32" in host.run("ip", "address", "show", "dev", "eth0").stdout:
                found.append(number)
        return found

    def mac_seen(self) -> str:
        """Whose the address is, as the client's host believes."""
        shown = self.outside.run("ip", "neigh", "show", self.address).stdout.split()
        return shown[shown.index("lladdr") + 1] if "lladdr" in shown else ""

    def mac_of(self, number: int) -> str:
        shown = self.hosts[number].run("ip", "-o", "link", "show", "eth0").stdout.split()
        return shown[shown.index("link/ether") + 1]

    async def until(self, condition: Callable[[], bool], timeout: float = 15) -> None:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.05)


@pytest.fixture
def hosts() -> Iterator[Sequence[Host]]:
    with lab(3) as made:
        yield made


@contextlib.asynccontextmanager
async def world_of(hosts: Sequence[Host], tmp_path: Path) -> AsyncIterator[World]:
    async with running_registry(tmp_path) as registry:
        made = World(hosts, registry)
        for number in range(len(made.hosts)):
            await made.add_node(number)
        yield made


async def test_one_node_has_the_address_and_the_next_takes_it_over(
    hosts: Sequence[Host], tmp_path: Path
) -> None:
    async with world_of(hosts, tmp_path) as world:
        await world.add_service()
        async with contextlib.AsyncExitStack() as first, contextlib.AsyncExitStack() as second:
            stacks = [first, second]
            for number, stack in enumerate(stacks):
                await stack.enter_async_context(world.announcer(number))
            await world.until(lambda: len(world.held_by()) == 1)
            (holder,) = world.held_by()
            other = 1 - holder
            # The client's host learns by asking, and then by being told.
            world.outside.run("bash", "-c", f"echo > /dev/udp/{world.address}/9", check=False)
            await world.until(lambda: world.mac_seen() == world.mac_of(holder))
            await stacks[holder].aclose()
            # What the daemon leaves on the link goes with its host.
            world.hosts[holder].run("ip", "link", "set", "eth0", "down")
            await world.until(lambda: world.mac_seen() == world.mac_of(other), timeout=8)
        events = (await world.client.list(kinds.EVENT)).items
        assert "AddressAnnounced" in {event["reason"] for event in events}


async def test_an_address_goes_with_its_service(hosts: Sequence[Host], tmp_path: Path) -> None:
    async with world_of(hosts, tmp_path) as world, world.announcers(0, 1):
        await world.add_service()
        await world.until(lambda: len(world.held_by()) == 1)
        await world.client.delete(kinds.SERVICE, "web", "default")
        await world.until(lambda: world.held_by() == [])


async def test_a_restart_keeps_the_address_and_somebody_elses_removal_is_repaired(
    hosts: Sequence[Host], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkube.dataplane.announcer.LOOK", 0.3)
    async with world_of(hosts, tmp_path) as world:
        await world.add_service()
        async with world.announcers(0):
            await world.until(lambda: world.held_by() == [0])
            world.hosts[0].run("ip", "address", "del", f"{world.address}/32", "dev", "eth0")
            await world.until(lambda: world.held_by() == [0])
        assert world.held_by() == [0]
        async with world.announcers(0):
            for _ in range(20):
                assert world.held_by() == [0]
                await asyncio.sleep(0.05)
        with inside(world.hosts[0].name):
            assert link_addresses.teardown() == [f"address {world.address}"]
        assert world.held_by() == []


async def test_without_the_api_an_address_is_kept_until_another_host_has_it(
    hosts: Sequence[Host], tmp_path: Path
) -> None:
    async with world_of(hosts, tmp_path) as world:
        await world.add_service()
        async with world.announcers(0):
            await world.until(lambda: world.held_by() == [0])
            world.cables[0].cut = True
            await asyncio.sleep(5)
            assert world.held_by() == [0]
            taken = ("ip", "address", "add", f"{world.address}/32", "dev", "eth0")
            world.hosts[1].run(*taken)
            await world.until(lambda: world.held_by() == [1])


async def test_a_node_without_rules_takes_no_address(hosts: Sequence[Host], tmp_path: Path) -> None:
    async with world_of(hosts, tmp_path) as world:
        world.serving = False
        await world.add_service()
        async with world.announcers(0):
            await asyncio.sleep(4)
            assert world.held_by() == []
            world.serving = True
            await world.until(lambda: world.held_by() == [0])


async def test_a_node_that_comes_back_takes_over_before_the_other_lets_go(
    hosts: Sequence[Host], tmp_path: Path
) -> None:
    async with world_of(hosts, tmp_path) as world:
        await world.add_service()
        first = 0 if owner(world.address, ["h0", "h1"]) == "h1" else 1
        async with world.announcers(first):
            await world.until(lambda: world.held_by() == [first])
            async with world.announcers(1 - first):
                held = set()

                def moved() -> bool:
                    now = tuple(world.held_by())
                    held.add(now)
                    return now == (1 - first,)

                await world.until(moved)
                assert () not in held
                assert (0, 1) in held


async def test_a_node_alone_has_every_address_at_once_and_writes_no_lease(
    hosts: Sequence[Host], tmp_path: Path
) -> None:
    async with world_of(hosts, tmp_path) as world:
        await world.client.delete(kinds.NODE, "h1")
        await world.add_service()
        async with world.announcers(0):
            await world.until(lambda: world.held_by() == [0], timeout=2)
            leases = (await world.client.list(kinds.LEASE, "kube-system")).items
            assert not [lease for lease in leases if "announcer" in lease["metadata"]["name"]]
