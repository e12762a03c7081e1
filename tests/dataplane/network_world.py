"""Several hosts of one cluster, each with a pod and a pod network of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.dataplane.network import PodNetwork
from meshkube.dataplane.network_plan import Mode
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.parts import Part
from tests.lab.host import Host, lab
from tests.lab.pods import Pod, inside, pods
from tests.support.memory_client import MemoryClient


class StatusClient(MemoryClient):
    """Remembers what was written to the status of Nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[Object] = []

    async def patch(self, kind: Kind, name: str, patch: Object, *_: Any, **__: Any) -> Any:
        self.written += patch["status"]["conditions"]


class Hosts:
    """Hosts with a pod each: host N has pod addresses 10.42.N.0/24, its pod is 10.42.N.2."""

    def __init__(self, hosts: Sequence[Host], made: list[Pod]) -> None:
        self.hosts, self.pods = hosts, made
        self.api = StatusClient()
        for number in range(len(hosts)):
            self.join(number)

    def join(self, number: int) -> None:
        """Its Node is there."""
        self.api.put(kinds.NODE, node(number, self.hosts[number].address))

    def leave(self, number: int) -> None:
        """Its Node is gone."""
        self.api.delete(kinds.NODE, f"h{number}")

    @contextlib.asynccontextmanager
    async def network(self, mode: Mode = "auto", proxies: bool = False) -> AsyncIterator[None]:
        """The pod network on every host; with the rules of Services too, if asked for."""
        async with contextlib.AsyncExitStack() as stack:
            for number, host in enumerate(self.hosts):
                name = f"h{number}"
                with inside(host.name):
                    client = self.api.as_client()
                    part = PodNetwork(
                        client=client, status_client=client, node_name=name, mode=mode
                    )
                    await stack.enter_async_context(running(host, part))
                    if proxies:
                        proxy = ServiceProxy(
                            client=client,
                            kernel=NftKernel(),
                            node_name=name,
                            node_ip=host.address,
                            pod_cidrs=["10.42.0.0/16"],
                            service_cidrs=["10.43.0.0/16"],
                        )
                        await stack.enter_async_context(running(host, proxy))
            yield

    def routes(self, number: int) -> dict[str, str]:
        """Destination -> link, of the pod network's routes on a host."""
        shown = self.hosts[number].run("ip", "-j", "route", "show", "proto", "78").stdout
        return {route["dst"]: route["dev"] for route in json.loads(shown)}


def node(number: int, address: str) -> Object:
    cidr = f"10.42.{number}.0/24"
    return {
        "metadata": {"name": f"h{number}", "creationTimestamp": f"2026-01-01T00:00:0{number}Z"},
        "spec": {"podCIDR": cidr, "podCIDRs": [cidr]},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


@contextlib.asynccontextmanager
async def running(host: Host, part: Part) -> AsyncIterator[None]:
    """The part, in the network of that host, from when it is ready."""
    ready = asyncio.Event()
    with inside(host.name):
        task = asyncio.ensure_future(part.run(ready.set))
        waiting = asyncio.ensure_future(ready.wait())
        async with asyncio.timeout(20):
            await asyncio.wait([task, waiting], return_when="FIRST_COMPLETED")
    if task.done():
        waiting.cancel()
        task.result()
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextlib.contextmanager
def hosts(count: int) -> Iterator[Hosts]:
    with lab(count) as made, contextlib.ExitStack() as stack:
        served = []
        for number, host in enumerate(made):
            host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
            (pod,) = stack.enter_context(pods(host, f"10.42.{number}", 1))
            served.append(pod.serve(8080))
        yield Hosts(made, served)
