"""Under steady load no request fails: not while certificates change, nor while ten thousand routes
come, change and go. On the real API, with real sockets."""

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
from meshkube.ingress.controller import Ingress
from tests.ingress.test_controller import running, settled, shop
from tests.support.api import running_api
from tests.support.ingress import Origin, client, host_address, ingress, path

GET = b"GET /user HTTP/1.1\r\nHost: shop.io\r\n\r\n"


class Load:
    """One client after the other on new connections, and some that stay on theirs."""

    def __init__(self, part: Ingress, authority: pki.Pair) -> None:
        self._part = part
        self._tls = ssl.create_default_context(cadata=authority.certificate.decode())
        self.answers = 0
        self.serials: set[int] = set()
        self.slowest = 0.0

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._staying(tls)) for tls in (True, False)]
            tasks += [group.create_task(self._coming(tls)) for tls in (True, False)]
            yield
            for task in tasks:
                task.cancel()

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

    def _options(self, tls: bool) -> dict[str, Any]:
        return {"ssl": self._tls, "server_hostname": "shop.io"} if tls else {}

    async def _ask(self, c: Any) -> None:
        started = time.monotonic()
        answer = await c.ask(GET)
        self.slowest = max(self.slowest, time.monotonic() - started)
        assert answer.status == 200, answer.head + answer.body
        self.answers += 1
        await asyncio.sleep(0.002)


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


@pytest.mark.timeout(240)
async def test_certificates_change_and_ten_thousand_routes_come_and_go(tmp_path: Path) -> None:
    authority = pki.new_authority("test")
    tls = [{"hosts": ["shop.io"], "secretName": "shop-tls"}]
    async with (
        running_api(tmp_path) as api,
        Origin(host=host_address()) as origin,
        running(api) as part,
    ):
        await shop(api, origin, tls=tls)
        await api.create(kinds.SECRET, secret(authority))
        await settled(lambda: part._certificates.find("shop.io"))
        await settled(lambda: part.table.match("shop.io", "/user"))
        load = Load(part, authority)
        async with load.running():
            for _ in range(4):
                await api.patch(
                    kinds.SECRET, "shop-tls", {"data": secret(authority)["data"]}, "shop"
                )
                seen = len(load.serials)
                await settled(lambda seen=seen: len(load.serials) > seen)
            assert len(load.serials) >= 4
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
        assert load.slowest < 5
