"""Raw HTTP requests to a served API."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from meshkube.api.types import Object
from tests.support.api import Served


class Asker:
    """Requests to one API server."""

    def __init__(self, served: Served, session: aiohttp.ClientSession) -> None:
        self.served = served
        self._session = session

    @contextlib.asynccontextmanager
    async def __call__(
        self, method: str, path: str, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response while its body may still come. `body=` is sent as JSON."""
        if "body" in more:
            more["json"] = more.pop("body")
        async with self._session.request(method, self.served.url + path, **more) as response:
            yield response

    async def json(self, method: str, path: str, expect: int = 200, **more: Any) -> Any:
        """The decoded answer, which must have the status `expect`."""
        async with self(method, path, **more) as response:
            content = await response.json()
            assert response.status == expect, content
            return content

    async def make(self, path: str, obj: Object) -> Object:
        made: Object = await self.json("POST", path, 201, body=obj)
        return made


@contextlib.asynccontextmanager
async def asking(served: Served, tls: Any = None) -> AsyncIterator[Asker]:
    """As the admin, or with another TLS context."""
    connector = aiohttp.TCPConnector(ssl=tls or served.tls)
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Asker(served, session)
