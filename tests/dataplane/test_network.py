"""The pod network between real kernels: routes, tunnels, repair, and what nodes leave behind."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator

import pytest

from meshkube.api import kinds
from meshkube.dataplane import network_kernel
from meshkube.dataplane.network_plan import Mode
from tests.dataplane.network_world import Hosts, hosts
from tests.dataplane.world import ADDRESS, service, slice_of
from tests.lab.host import Host
from tests.lab.links import behind_router
from tests.lab.pods import Pod, ask, connect, inside, serve, stop

# Linux's numbers (ip(7)) for what `socket` has no names for.
_MTU_DISCOVER, _NEVER_FRAGMENT, _MTU = 10, 2, 14

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]


@pytest.fixture
def world() -> Iterator[Hosts]:
    with hosts(2) as made:
        yield made


def seen(who: Host | Pod, address: str, port: int = 8080) -> list[str]:
    return ask(who.name if isinstance(who, Host) else who.namespace, address, port)


def reaches(who: Host | Pod, address: str) -> bool:
    try:
        return bool(seen(who, address))
    except OSError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.05)


def all_see_each_other(world: Hosts) -> None:
    """Pods and hosts, each by its own address."""
    for host, pod in zip(world.hosts, world.pods, strict=True):
        for number, (other, far) in enumerate(zip(world.hosts, world.pods, strict=True)):
            if other is host:
                continue
            assert seen(pod, far.address) == [far.name, pod.address]
            assert seen(host, far.address) == [far.name, host.address]
            assert seen(pod, other.address, 9000) == [f"host{number}", pod.address]


@pytest.fixture
def host_servers(world: Hosts) -> Iterator[None]:
    made = [serve(host.name, f"host{n}", 9000) for n, host in enumerate(world.hosts)]
    yield
    for process in made:
        stop(process)


@pytest.mark.parametrize(("mode", "routed"), [("auto", False), ("auto", True), ("vxlan", False)])
async def test_pods_and_nodes_see_each_other_by_their_own_addresses(
    world: Hosts, host_servers: None, mode: Mode, routed: bool
) -> None:
    if routed:
        behind_router(*world.hosts)
    link = "meshkube.vx" if routed or mode == "vxlan" else "eth0"
    async with world.network(mode, proxies=True):
        all_see_each_other(world)
        assert world.routes(0) == {"10.42.1.0/24": link}
        assert {c["status"] for c in world.api.written} == {"False"}
    # What it made outlives it.
    all_see_each_other(world)


async def test_on_one_link_and_behind_a_router_side_by_side() -> None:
    with hosts(3) as world:
        behind_router(world.hosts[2])
        # The two on the link take the third for a neighbor: it never answers them there.
        for host in world.hosts[:2]:
            far = world.hosts[2].address
            router = far.rpartition(".")[0] + ".1"
            host.run("ip", "route", "add", far, "via", router)
        async with world.network():
            assert world.routes(0) == {"10.42.1.0/24": "eth0", "10.42.2.0/24": "meshkube.vx"}
            for pod in world.pods:
                for far_pod in world.pods:
                    assert seen(pod, far_pod.address)[0] == far_pod.name


@pytest.mark.parametrize("mode", ["auto", "vxlan"])
async def test_services_reach_pods_of_other_hosts(world: Hosts, mode: Mode) -> None:
    near, far = world.pods
    world.api.put(kinds.SERVICE, service())
    world.api.put(kinds.ENDPOINT_SLICE, slice_of(far.address))
    async with world.network(mode, proxies=True):
        host = world.hosts[0]
        assert seen(near, ADDRESS, 80) == [far.name, near.address]
        assert seen(host, ADDRESS, 80) == [far.name, host.address]
        assert seen(far, ADDRESS, 80)[0] == far.name
        assert ask(host.switch.name, host.address, 30080)[0] == far.name


async def test_big_packets_arrive_through_the_tunnel(world: Hosts) -> None:
    behind_router(*world.hosts)
    near, far = world.pods
    async with world.network():
        with connect(near.namespace, far.address, 8080, udp=True) as flow:
            flow.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _NEVER_FRAGMENT)
            flow.send(bytes(1450 - 28))
            assert flow.recv(100).split()[0].decode() == far.name
            # The host says how much fits, once; the kernel of the pod keeps to it.
            flow.send(bytes(1451 - 28))
            with pytest.raises(OSError, match="Message too long"):
                flow.recv(100)
            assert flow.getsockopt(socket.IPPROTO_IP, _MTU) == 1450


async def test_nodes_that_come_and_leave(world: Hosts) -> None:
    behind_router(*world.hosts)
    world.leave(1)
    async with world.network():
        assert world.routes(0) == {}
        world.join(1)
        await until(lambda: reaches(world.pods[0], world.pods[1].address))
        world.leave(1)
        await until(lambda: world.routes(0) == {})
        await until(lambda: "meshkube.vx" not in world.hosts[0].run("ip", "link").stdout)
        assert "proto 78" not in world.hosts[0].run("ip", "rule").stdout


@pytest.mark.parametrize(
    "damage",
    [
        "ip route delete 10.42.1.0/24",
        "ip link delete meshkube.vx",
        "ip link set meshkube.vx down",
        "ip rule delete pref 5078",
        "ip address delete 10.42.0.0/32 dev meshkube.vx",
        "ip route replace 10.42.1.0/24 dev lo proto 78",
    ],
)
async def test_damage_by_others_is_repaired(world: Hosts, damage: str) -> None:
    host = world.hosts[0]

    def state() -> str:
        commands = ("ip route show table all proto 78", "ip rule", "ip address show meshkube.vx")
        shown = [host.run(*command.split(), check=False).stdout for command in commands]
        return " ".join(word for word in " ".join(shown).split() if not word.endswith(":"))

    behind_router(*world.hosts)
    async with world.network():
        before = state()
        host.run(*damage.split())
        await until(lambda: state() == before)
        await until(lambda: reaches(world.pods[0], world.pods[1].address))


async def test_lost_forwards_are_repaired_now_and_then(
    world: Hosts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkube.dataplane.network.CHECK_EVERY", 0.2)
    host = world.hosts[0]
    async with world.network("vxlan"):
        for damage in ("bridge fdb delete {0} dst {1}", "ip neigh delete 10.42.1.0"):
            shown = host.run("bridge", "fdb", "show", "dev", "meshkube.vx").stdout.split()
            command = damage.format(shown[0], world.hosts[1].address)
            host.run(*command.split(), "dev", "meshkube.vx")
            await until(lambda: reaches(world.pods[0], world.pods[1].address))


async def test_a_restart_changes_nothing(world: Hosts, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for mode in ("auto", "vxlan", "auto"):
        async with world.network(mode):
            pass
        caplog.clear()
        async with world.network(mode):
            assert reaches(world.pods[0], world.pods[1].address)
        assert [record.step for record in caplog.records if "step" in record.__dict__] == []


async def test_a_route_of_somebody_else_is_left_and_said(world: Hosts) -> None:
    world.hosts[0].run("ip", "route", "add", "10.42.1.0/24", "dev", "lo")
    with pytest.raises(ExceptionGroup) as failed:
        async with world.network():
            pass
    assert failed.value.subgroup(network_kernel.NetworkError)
    assert [c["status"] for c in world.api.written] == ["True"]
    assert "not ours" in world.api.written[0]["message"]


async def test_teardown_leaves_the_host_as_it_was(world: Hosts) -> None:
    host = world.hosts[0]
    shown = ("ip -4 route show table all", "ip rule", "ip link show type vxlan")
    before = [host.run(*command.split()).stdout for command in shown]
    async with world.network("vxlan"):
        pass
    with inside(host.name):
        removed = set(network_kernel.teardown())
        assert removed >= {"route 10.42.1.0/24", "rule from 10.42.0.0/24", "device meshkube.vx"}
        assert network_kernel.teardown() == []
    assert [host.run(*command.split()).stdout for command in shown] == before


async def test_a_node_alone_loads_no_netlink_library(world: Hosts) -> None:
    world.leave(1)
    script = (
        "import sys, asyncio\n"
        "from meshkube.dataplane.network import PodNetwork\n"
        "from meshkube.api import kinds\n"
        "from tests.dataplane.network_world import StatusClient, node\n"
        "api = StatusClient(); client = api.as_client()\n"
        "api.put(kinds.NODE, node(0, sys.argv[1]))\n"
        "part = PodNetwork(client=client, status_client=client, node_name='h0')\n"
        "async def main():\n"
        "    ready = asyncio.Event()\n"
        "    task = asyncio.ensure_future(part.run(ready.set))\n"
        "    await asyncio.wait_for(ready.wait(), 10)\n"
        "    print(await part.pod_mtu(), 'pyroute2' in sys.modules)\n"
        "    task.cancel()\n"
        "asyncio.run(main())\n"
    )
    done = world.hosts[0].run(sys.executable, "-c", script, world.hosts[0].address)
    assert done.stdout.split() == ["1500", "False"]
