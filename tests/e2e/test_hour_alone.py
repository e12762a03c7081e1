"""The API is gone for an hour: names, Services and routes are served all the while, and what
changed meanwhile is taken up as soon as it is back. The hour is an hour of the process' own
clocks: they jump a minute at a time, and every timer with them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import dns.asyncquery
import dns.message
import pytest

from meshkube import credentials, pki
from meshkube.api import kinds
from meshkube.client.http import HttpClient
from meshkube.clock import SystemClock
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dataplane.userspace import UserKernel
from meshkube.dns.server import DnsServer
from meshkube.ingress.controller import Ingress
from tests.dns.servers import ADDRESS, free_port, running_upstream
from tests.ingress.test_controller import running as running_ingress
from tests.ingress.test_controller import settled
from tests.ingress.test_steady import secret
from tests.support import http2
from tests.support.api import serving_api
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    host_address,
    ingress,
    path,
    response,
    service,
    slice_,
)
from tests.support.link import Link

MINUTES = 60
RANGE = "127.77.0.0/16"
PORT = 18080


class Clocks:
    """The steady clock and the time of day, as far as this process' own code asks for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        for name in ("monotonic", "time"):
            real: Callable[[], float] = getattr(time, name)

            def moved(real: Callable[[], float] = real) -> float:
                return real() + self.ahead

            monkeypatch.setattr(time, name, moved)
            for module in [m for n, m in sys.modules.items() if n.startswith("meshkube.")]:
                for key, value in list(vars(module).items()):
                    if value is real:
                        monkeypatch.setattr(module, key, moved)


class Served:
    """The three parts that traffic needs, as a client of each sees them."""

    def __init__(self, part: Ingress, dns_port: int, authority: pki.Pair) -> None:
        self.part = part
        self.dns_port = dns_port
        self.context = authority.certificate.decode()

    async def route(self) -> bytes:
        async with client(self.part.ports[0]) as c:
            return (await c.ask(b"GET /user HTTP/1.1\r\nHost: shop.io\r\n\r\n")).body

    async def route_over_tls(self) -> bytes:
        context = ssl.create_default_context(cadata=self.context)
        async with http2.client(self.part.ports[1], context, "shop.io") as c:
            return bytes((await c.ask("GET", "/user", authority="shop.io")).body)

    async def name(self, name: str) -> list[str]:
        query = dns.message.make_query(name, "A")
        got = await dns.asyncquery.udp(query, ADDRESS, timeout=5, port=self.dns_port)
        return [str(data) for rrset in got.answer for data in rrset]

    @staticmethod
    async def service(address: str) -> bytes:
        reader, writer = await asyncio.open_connection(address, PORT)
        try:
            writer.write(b"GET / HTTP/1.1\r\nHost: user\r\n\r\n")
            return (await reader.readuntil(b"\r\n\r\n")) + await reader.readexactly(3)
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def serving(kubeconfig: Path, authority: pki.Pair) -> AsyncIterator[Served]:
    port = free_port()
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(HttpClient.from_kubeconfig(kubeconfig))
        _, upstream = await stack.enter_async_context(running_upstream())
        part = await stack.enter_async_context(running_ingress(api))
        names = DnsServer(
            client=api, address=ADDRESS, domain="cluster.local", networks=[RANGE],
            upstreams=[upstream], clock=SystemClock(), port=port,
        )  # fmt: skip
        rules = ServiceProxy(
            client=api, kernel=UserKernel(), node_name="h1", node_ip=host_address(),
            pod_cidrs=["10.42.0.0/16"], service_cidrs=[RANGE],
        )  # fmt: skip
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = []
        for each in (names, rules):
            ready = asyncio.Event()
            tasks.append(group.create_task(each.run(ready.set)))
            await asyncio.wait_for(ready.wait(), 30)
        yield Served(part, port, authority)
        for task in tasks:
            task.cancel()


async def fill(api: Any, origin: Origin, authority: pki.Pair) -> str:
    """A namespace with a Service, its pod and its route; returns the Service's address."""
    await api.create(kinds.NAMESPACE, {"metadata": {"name": "shop"}})
    user = service("user", [{"port": PORT}])
    del user["spec"]["selector"]
    made = await api.create(kinds.SERVICE, user)
    await api.create(kinds.ENDPOINT_SLICE, slice_("user", [endpoint(origin.host)], origin.port))
    tls = [{"hosts": ["shop.io"], "secretName": "shop-tls"}]
    rule = ingress("web", {"shop.io": [path("/user", "user", port=PORT)]}, tls=tls)
    await api.create(kinds.INGRESS, rule)
    await api.create(kinds.SECRET, secret(authority))
    return str(made["spec"]["clusterIP"])


async def test_an_hour_without_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = pki.new_authority("test")
    clocks = Clocks(monkeypatch)
    settings = {"service_cidr": RANGE, "cluster_dns": "127.77.0.10"}
    async with (
        serving_api(tmp_path, **settings) as api,
        Link(int(api.url.rpartition(":")[2])) as link,
        Origin(response(b"one"), host_address()) as origin,
        Origin(response(b"two"), host_address()) as other,
        api.client() as admin,
    ):
        kubeconfig = tmp_path / "through-the-link.yaml"
        credentials.write_kubeconfig(kubeconfig, api.credentials, f"https://127.0.0.1:{link.port}")
        async with serving(kubeconfig, authority) as served:
            address = await fill(admin, origin, authority)
            name = "user.shop.svc.cluster.local"

            def all_say(body: bytes, extra: list[str]) -> Callable[[], Awaitable[bool]]:
                async def check() -> bool:
                    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                        return (
                            await served.route() == body
                            and await served.route_over_tls() == body
                            and (await served.service(address)).endswith(body)
                            and await served.name(name) == [address]
                            and await served.name("more.shop.svc.cluster.local") == extra
                        )
                    return False

                return check

            await settled(all_say(b"one", []))
            link.cut()
            # Nobody who is cut off hears of these.
            piece = slice_("user", [endpoint(other.host)], other.port)
            change = {"endpoints": piece["endpoints"], "ports": piece["ports"]}
            await admin.patch(kinds.ENDPOINT_SLICE, "user-abcde", change, "shop")
            more = service("more", [{"port": PORT}])
            more = await admin.create(kinds.SERVICE, more)
            begun = asyncio.get_running_loop().time()
            for minute in range(MINUTES):
                clocks.ahead += 60
                await asyncio.sleep(0.02)
                assert await all_say(b"one", [])(), f"minute {minute}"
            assert asyncio.get_running_loop().time() - begun > 3600
            link.heal()
            clocks.ahead += 60
            await settled(all_say(b"two", [more["spec"]["clusterIP"]]))
