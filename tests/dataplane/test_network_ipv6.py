"""Pods of two hosts reach each other over IPv6: by routes, and through a tunnel."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator

import pytest

from meshkube.api import kinds
from meshkube.dataplane.network_plan import Mode
from tests.dataplane.network_world import Hosts, hosts, node
from tests.lab.pods import ask, run, serve

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("nft"), reason="needs root and nft"),
]


def pod_address(number: int) -> str:
    return f"fd00:42:0:{number + 1}::2"


@pytest.fixture
def world() -> Iterator[Hosts]:
    with hosts(2) as made:
        for number, host in enumerate(made.hosts):
            own = f"fd00:250::1{number}"
            host.run("ip", "address", "add", f"{own}/64", "dev", "eth0", "nodad")
            host.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
            bridge = f"fd00:42:0:{number + 1}::1"
            host.run("ip", "address", "add", f"{bridge}/64", "dev", "meshkube0", "nodad")
            pod, address = made.pods[number], pod_address(number)
            inside = ("nsenter", f"--net=/run/netns/{pod.namespace}", "ip")
            run(*inside, "address", "add", f"{address}/64", "dev", "eth0", "nodad")
            run(*inside, "-6", "route", "add", "default", "via", bridge)
            pod.processes.append(serve(pod.namespace, address, 8080, address))
            both = node(number, host.address)
            both["spec"]["podCIDRs"].append(f"fd00:42:0:{number + 1}::/64")
            both["status"]["addresses"].append({"type": "InternalIP", "address": own})
            made.api.put(kinds.NODE, both)
        yield made


def settled(namespace: str, address: str) -> list[str]:
    """The answer, once the links have made sure that nobody else has their addresses."""
    end = time.monotonic() + 20
    while True:
        try:
            return ask(namespace, address, 8080)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("mode", ["routes", "vxlan"])
async def test_pods_see_each_other_by_their_own_addresses(world: Hosts, mode: Mode) -> None:
    async with world.network(mode):
        for here, there in ((0, 1), (1, 0)):
            near, far = world.pods[here], world.pods[there]
            seen = settled(near.namespace, pod_address(there))
            assert seen == [pod_address(there), pod_address(here)]
            assert ask(near.namespace, far.address, 8080) == [far.address, near.address]
            assert settled(world.hosts[here].name, pod_address(there))[0] == pod_address(there)
