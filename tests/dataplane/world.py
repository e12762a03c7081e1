"""Two hosts, pods on the first, a real proxy over the real kernel."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence

from meshkube.api.types import Object
from meshkube.dataplane import teardown
from meshkube.dataplane.nftables import NftKernel
from meshkube.dataplane.proxy import ServiceProxy
from tests.lab.host import Host
from tests.lab.pods import Pod, ask, inside
from tests.support.memory_client import MemoryClient

ADDRESS = "10.43.0.80"
DNS = "10.43.0.10"


def service(
    name: str = "web", address: str = ADDRESS, node_port: int = 30080, **spec: object
) -> Object:
    ports = [
        {"name": "http", "protocol": "TCP", "port": 80, "nodePort": node_port},
        {"name": "dns", "protocol": "UDP", "port": 53, "nodePort": node_port},
    ]
    return {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"type": "NodePort", "clusterIP": address, "ports": ports, **spec},
    }


def slice_of(*addresses: str, name: str = "web", node: str = "h1") -> Object:
    return {
        "metadata": {
            "name": f"{name}-x",
            "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [
            {"name": "http", "protocol": "TCP", "port": 8080},
            {"name": "dns", "protocol": "UDP", "port": 8080},
        ],
        "endpoints": [{"addresses": [address], "nodeName": node} for address in addresses],
    }


class World:
    """Two hosts; on the first, three pods that serve on 8080, and a proxy."""

    def __init__(self, host: Host, other: Host, pods: list[Pod]) -> None:
        self.host, self.other, self.pods = host, other, pods
        self.api = MemoryClient()

    def ask(self, who: Host | Pod, address: str, port: int, udp: bool = False) -> list[str]:
        namespace = who.name if isinstance(who, Host) else who.namespace
        return ask(namespace, address, port, udp)

    def serves(self, address: str, port: int) -> bool:
        """Whether a connection from the host is answered."""
        try:
            return bool(ask(self.host.name, address, port, timeout=0.3))
        except OSError:
            return False

    def state(self) -> list[str]:
        commands = ("nft list tables", "ip route", "ip rule", "iptables-save")
        return [self.host.run(*command.split()).stdout for command in commands]

    @contextlib.asynccontextmanager
    async def proxy(
        self,
        pod_cidrs: Sequence[str] = ("10.42.0.0/16",),
        service_cidrs: Sequence[str] = ("10.43.0.0/16",),
    ) -> AsyncIterator[ServiceProxy]:
        ready = asyncio.Event()
        proxy = ServiceProxy(
            client=self.api.as_client(),
            kernel=NftKernel(),
            node_name="h1",
            node_ip=self.host.address,
            pod_cidrs=pod_cidrs,
            service_cidrs=service_cidrs,
            skip={DNS},
        )
        with inside(self.host.name):
            task = asyncio.ensure_future(proxy.run(ready.set))
            try:
                async with asyncio.timeout(20):
                    await asyncio.wait(
                        [task, asyncio.ensure_future(ready.wait())], return_when="FIRST_COMPLETED"
                    )
                if task.done():
                    task.result()
                yield proxy
            finally:
                task.cancel()
                await asyncio.wait([task])

    def teardown(self) -> list[str]:
        with inside(self.host.name):
            return teardown()

    async def until(self, condition: Callable[[], bool], timeout: float = 10) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, "it did not come true"
            await asyncio.sleep(0.05)
