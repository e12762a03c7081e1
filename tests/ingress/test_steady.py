"""Under steady load no request fails: not while certificates change, nor while pods are replaced,
nor while ten thousand routes come, change and go. On the real API, with real sockets, over HTTP/1.1
and HTTP/2, with listener workers and without."""

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube import pki
from meshkube.api import kinds
from meshkube.client.base import Client
from meshkube.ingress.controller import Ingress
from tests.ingress.test_controller import running, settled, shop
from tests.support import http2
from tests.support.api import running_api
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    host_address,
    ingress,
    path,
    slice_,
)

GET = b"GET /user HTTP/1.1\r\nHost: shop.io\r\n\r\n"


class Load:
    """One client after the other on new connections, and some that stay on theirs."""

    def __init__(self, part: Ingress, authority: pki.Pair, workers: int) -> None:
        self._part = part
        self._workers = workers
        self._authority = authority.certificate.decode()
        self.answers = 0
        self.serials: set[int] = set()
        self.slowest = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        kinds = (self._staying, self._coming, self._staying_http2, self._coming_http2)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(kind(tls)) for kind in kinds for tls in (True, False)]
            yield
            for task in tasks:
                task.cancel()

    async def served(self) -> bool:
        """Whether the rule and its certificate are known wherever a connection may lead."""
        for tls in (True, False) * (10 if self._workers else 1):
            with contextlib.suppress(OSError, AssertionError, asyncio.IncompleteReadError):
                async with client(self._part.ports[tls], **self._options(tls)) as c:
                    await self._ask(c)
                    continue
            return False
        return True

    async def _staying(self, tls: bool) -> None:
        async with client(self._part.ports[tls], **self._options(tls)) as c:
            while True:
                await self._ask(c)

    async def _coming(self, tls: bool) -> None:
        while True:
            async with client(self._part.ports[tls], **self._options(tls)) as c:
                if tls:
                    found = c.writer.get_extra_info("ssl_object").getpeercert()
                    self.serials.add(int(found["serialNumber"], 16))
                await self._ask(c)

    async def _staying_http2(self, tls: bool) -> None:
        async with self._http2(tls) as c:
            while True:
                await self._ask_http2(c)

    async def _coming_http2(self, tls: bool) -> None:
        while True:
            async with self._http2(tls) as c:
                await self._ask_http2(c)

    def _http2(self, tls: bool) -> Any:
        context = self._context() if tls else None
        return http2.client(self._part.ports[tls], context, "shop.io")

    async def _ask_http2(self, c: http2.Client) -> None:
        started = time.monotonic()
        asked = [c.request("GET", "/user", authority="shop.io") for _ in range(3)]
        for each in asked:
            answer = await c.answer(each)
            assert answer.reset is None
            assert answer.status == 200, bytes(answer.body)
            self.answers += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
        await asyncio.sleep(0.01)

    def _options(self, tls: bool) -> dict[str, Any]:
        return {"ssl": self._context(), "server_hostname": "shop.io"} if tls else {}

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._authority)

    async def _ask(self, c: Any) -> None:
        started = time.monotonic()
        answer = await c.ask(GET)
        self.slowest = max(self.slowest, time.monotonic() - started)
        assert answer.status == 200, answer.head + answer.body
        self.answers += 1
        await asyncio.sleep(0.01)


def secret(authority: pki.Pair) -> dict[str, Any]:
    pair = pki.issue(authority, "shop.io", names=["shop.io"])
    data = {"tls.crt": pair.certificate, "tls.key": pair.key}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "shop-tls", "namespace": "shop"},
        "type": "kubernetes.io/tls",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }


async def roll(api: Client, old: Origin, new: Origin) -> None:
    """A pod takes another's place, which ends at once: it closes the connections that it has."""

    def piece(origin: Origin, **conditions: bool) -> dict[str, Any]:
        return slice_("user", [endpoint(origin.host, **conditions)], origin.port, name=name(origin))

    def name(origin: Origin) -> str:
        return f"user-{origin.port}"

    await api.create(kinds.ENDPOINT_SLICE, piece(new))
    ending = piece(old, ready=False, serving=True, terminating=True)
    change = {"endpoints": ending["endpoints"]}
    await api.patch(kinds.ENDPOINT_SLICE, name(old), change, "shop")
    await settled(lambda: new.requests)
    await old.__aexit__()
    await asyncio.sleep(0.05)
    await api.delete(kinds.ENDPOINT_SLICE, name(old), "shop")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workers", [0, 2])
async def test_certificates_pods_and_ten_thousand_routes_change(
    tmp_path: Path, workers: int
) -> None:
    authority = pki.new_authority("test")
    tls = [{"hosts": ["shop.io"], "secretName": "shop-tls"}]
    async with (
        running_api(tmp_path) as api,
        Origin(host=host_address()) as origin,
        running(api, workers=workers) as part,
        contextlib.AsyncExitStack() as later,
    ):
        await shop(api, origin, tls=tls)
        await api.create(kinds.SECRET, secret(authority))
        await settled(lambda: part._certificates.find("shop.io"))
        load = Load(part, authority, workers)
        # Not before every worker serves: the kernel deals connections out.
        await settled(lambda: load.served())
        load = Load(part, authority, workers)
        async with load.running():
            for _ in range(4):
                await api.patch(
                    kinds.SECRET, "shop-tls", {"data": secret(authority)["data"]}, "shop"
                )
                seen = len(load.serials)
                await settled(lambda seen=seen: len(load.serials) > seen)
            assert len(load.serials) >= 4
            pod = origin
            for _ in range(4):
                pod, old = await later.enter_async_context(Origin(host=host_address())), pod
                await roll(api, old, pod)
            for number in range(100):
                paths = [path(f"/{number}/{each}", "user") for each in range(100)]
                await api.create(kinds.INGRESS, ingress(f"many-{number}", {"shop.io": paths}))
            await settled(lambda: len(part.table.ingresses) == 101)
            assert sum(1 for _ in part.table.routes) == 10_001
            before = load.answers
            for number in range(100):
                change = {"metadata": {"annotations": {"changed": "yes"}}}
                await api.patch(kinds.INGRESS, f"many-{number}", change, "shop")
            await settled(lambda: load.answers > before + 20)
            for number in range(100):
                await api.delete(kinds.INGRESS, f"many-{number}", "shop")
            await settled(lambda: len(part.table.ingresses) == 1)
        assert load.answers > 200
        assert load.slowest < 10
