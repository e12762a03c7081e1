"""Before a connection from a load balancer's network is served: its PROXY header."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

from meshkube.ingress.forwarded import address_of, within
from meshkube.ingress.proxy_protocol import BadHeader, parse

if TYPE_CHECKING:
    from meshkube.ingress.proxy import Proxy

log = logging.getLogger(__name__)


class Served(Protocol):
    """A protocol that can be told whose connection it is."""

    source: tuple[str, int] | None

    def connection_made(self, transport: asyncio.BaseTransport, /) -> None: ...
    def data_received(self, data: bytes, /) -> None: ...


class Gate(asyncio.Protocol):
    """Reads the header, and makes way for the connection it announces. Clients of other networks
    pass as they are: what they say in such a header is nothing but a bad request."""

    def __init__(self, proxy: Proxy, inner: Callable[[], asyncio.Protocol]) -> None:
        self._proxy = proxy
        self._inner = inner
        self._early = b""
        self._deadline = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address = address_of(transport.get_extra_info("peername"))
        if not within(address, self._proxy.settings.proxy_protocol):
            self._open(None, b"")
            return
        self._deadline = monotonic() + self._proxy.settings.head_timeout
        self._proxy.clients.add(self)

    def data_received(self, data: bytes) -> None:
        self._early += data
        try:
            header = parse(self._early)
        except BadHeader as error:
            log.warning("connection refused", extra={"reason": str(error)})
            self._transport.abort()
            return
        if header is not None:
            self._proxy.clients.discard(self)
            self._open(header.client, self._early[header.size :])

    def _open(self, client: tuple[str, int] | None, rest: bytes) -> None:
        made = self._inner()
        inner = cast(Served, made)
        inner.source = client
        self._transport.set_protocol(made)
        inner.connection_made(self._transport)
        if rest:
            inner.data_received(rest)

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.gone(self)

    # What the proxy asks, until the header is there

    def check(self, now: float) -> None:
        if self._deadline < now:
            self._transport.abort()

    def drain(self) -> None:
        self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()
