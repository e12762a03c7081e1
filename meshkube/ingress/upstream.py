"""The pod's side: an HTTP/1.1 client connection, and the pool of them.

A connection is made when none is free, kept while it may be used again, and given out last in,
first out, so that those too many grow old and are closed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakValueDictionary

from meshkube.ingress.backends import Address, Backend
from meshkube.ingress.chunked import ChunkedBody
from meshkube.ingress.endpoints import Balancer, Endpoint, balancer_of
from meshkube.ingress.http1 import (
    CHUNKED,
    UNTIL_CLOSE,
    HeadError,
    parse_response_fields,
    parse_status_line,
)
from meshkube.ingress.settings import Settings

if TYPE_CHECKING:
    from meshkube.ingress.exchange import Exchange

log = logging.getLogger(__name__)

_NO_BODY = frozenset({204, 304})
_NEVER = -(1 << 62)

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine in the TaskGroup of the ingress."""


@dataclass(slots=True)
class ResponseHead:
    """A response's head, parsed once for as long as the pod repeats it byte for byte."""

    status: int
    line: bytes
    """The status line, in HTTP/1.1, with its CRLF."""
    kept: bytes
    length: int | None
    close: bool
    upgrade: bytes
    verbatim: bool
    """The head as it came may go to an HTTP/1.1 client."""
    wire: bytes
    """The head for an HTTP/1.1 client that stays connected."""
    size: int
    """Of the head as it came, in bytes."""
    body: int
    """The length of the body where it is usual: given, and neither forbidden nor the last thing on
    the connection; otherwise a number that no response can match."""


def _parse_head(data: bytes, end: int) -> ResponseHead:
    status, minor, line_end = parse_status_line(data)
    block = data[line_end : end + 2]
    fields = parse_response_fields(block)
    line = data[:line_end] if minor else b"HTTP/1.1 " + data[9:line_end]
    close = fields.close or (minor == 0 and not fields.keep_alive)
    usual = status >= 200 and status not in _NO_BODY and not close and fields.length is not None
    framing = b"Transfer-Encoding: chunked\r\n" if fields.length == CHUNKED else b""
    return ResponseHead(
        status,
        line,
        fields.kept,
        fields.length,
        close,
        fields.upgrade,
        bool(minor) and fields.verbatim,
        b"".join((line, fields.kept, framing, b"\r\n")),
        end + 4,
        fields.length if usual and fields.length is not None and fields.length >= 0 else _NEVER,
    )


class Upstream(asyncio.Protocol):
    """One connection to a pod."""

    __slots__ = (
        "_buffer",
        "_chunks",
        "_closed",
        "_idle",
        "_in_body",
        "_last_bytes",
        "_last_head",
        "_left",
        "_max_idle",
        "_plain",
        "_reusable",
        "_reused",
        "_settings",
        "endpoint",
        "exchange",
        "idle_since",
        "last_byte",
        "peer",
        "transport",
        "write_paused",
    )

    transport: asyncio.Transport

    def __init__(self, endpoint: Endpoint, settings: Settings) -> None:
        self.endpoint = endpoint
        self.exchange: Exchange | None = None
        self.peer: asyncio.Transport | None = None
        """The client's transport, once this is a tunnel."""
        self.idle_since = self.last_byte = 0.0
        self.write_paused = False
        self._settings = settings
        self._idle = endpoint.idle
        self._max_idle = settings.max_idle
        self._reused = self._closed = False
        self._buffer = b""
        self._left = 0
        """Of the response's body; `CHUNKED`, `UNTIL_CLOSE`."""
        self._in_body = False
        self._chunks: ChunkedBody | None = None
        self._reusable = True
        self._last_bytes = b"\0"
        """The last head, to know it again. No head begins with a NUL."""
        self._last_head: ResponseHead | None = None
        self._plain = True
        """What comes next is the beginning of a response."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.endpoint.connections.add(self)
        watch_over(transport.get_extra_info("socket"), self._settings.silence_timeout)

    @property
    def answering(self) -> bool:
        """Whether some of the response is there."""
        return self._in_body or bool(self._buffer)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None and self._plain and data.startswith(self._last_bytes):
            head = self._last_head
            assert head is not None
            if (
                len(data) == head.size + head.body
                and exchange.request_done
                and exchange.method != b"HEAD"
            ):
                self.exchange = None
                now = monotonic()
                if len(self._idle) < self._max_idle:
                    self._reused = True
                    self.idle_since = now
                    self._idle.append(self)
                else:
                    self.release(False)
                exchange.respond_whole(head, data, now)
                return
        if self._in_body:
            self._body(data)
        elif self.peer is not None:
            self.last_byte = monotonic()
            self.peer.write(data)
        elif self.exchange is not None:
            if self._buffer:
                data = self._buffer + data
            self._head(data)
        else:
            # Nobody asked: whatever this is, it must not become the next one's answer.
            self._closed = True
            self.transport.abort()

    def _head(self, data: bytes) -> None:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self._buffer = data
            self._plain = False
            if len(data) > self._settings.max_head:
                self._break(f"sent a head larger than {self._settings.max_head} bytes")
            return
        if data.startswith(self._last_bytes):
            head = cast(ResponseHead, self._last_head)
            start = head.size
        else:
            try:
                head = _parse_head(data, end)
            except HeadError as error:
                self._break(error.reason.removeprefix("it "))
                return
            start = end + 4
            self._last_bytes = data[:start]
            self._last_head = head
        self._buffer = b""
        self._plain = True
        if head.status < 200:
            self._interim(head, data[start:])
        else:
            self._begin(head, data, start)

    def _begin(self, head: ResponseHead, data: bytes, start: int) -> None:
        exchange = cast("Exchange", self.exchange)
        length = head.length
        if head.status in _NO_BODY or exchange.method == b"HEAD":
            length = 0
        elif length is None:
            length = UNTIL_CLOSE
        self._reusable = not head.close
        size = len(data) - start
        if length >= 0 and size >= length:
            if size > length:
                self._reusable = False
                data = data[: start + length]
            self._finish(exchange)
            exchange.respond(head, length, data, start, True)
            return
        self._in_body = True
        self._plain = False
        self._left = length
        if length == CHUNKED:
            self._chunks = ChunkedBody()
            if not exchange.downstream.takes_chunks:
                exchange.respond(head, length, b"", 0, False)
                if data[start:]:
                    self._body(data[start:])
                return
            self._begin_chunked(exchange, head, data, start)
            return
        if length > 0:
            self._left = length - size
        exchange.respond(head, length, data, start, False)

    def _begin_chunked(
        self, exchange: Exchange, head: ResponseHead, data: bytes, start: int
    ) -> None:
        chunks = cast(ChunkedBody, self._chunks)
        try:
            used = chunks.feed(data[start:])
        except HeadError as error:
            self._break(f"sent a malformed body: {error.reason}")
            return
        if start + used < len(data):
            self._reusable = False
            data = data[: start + used]
        if chunks.done:
            self._finish(exchange)
        exchange.respond(head, CHUNKED, data, start, chunks.done)

    def _body(self, data: bytes) -> None:
        exchange = cast("Exchange", self.exchange)
        left = self._left
        if left == CHUNKED:
            self._chunked(exchange, data)
        elif left == UNTIL_CLOSE:
            exchange.respond_more(data, False)
        elif len(data) < left:
            self._left = left - len(data)
            exchange.respond_more(data, False)
        else:
            if len(data) > left:
                self._reusable = False
                data = data[:left]
            self._finish(exchange)
            exchange.respond_more(data, True)

    def _chunked(self, exchange: Exchange, data: bytes) -> None:
        chunks = cast(ChunkedBody, self._chunks)
        payload: list[bytes] | None = None if exchange.downstream.takes_chunks else []
        try:
            used = chunks.feed(data, payload)
        except HeadError as error:
            self._break(f"sent a malformed body: {error.reason}")
            return
        if used < len(data):
            self._reusable = False
            data = data[:used]
        if payload is not None:
            data = b"".join(payload)
        if chunks.done:
            self._finish(exchange)
        exchange.respond_more(data, chunks.done)

    def _interim(self, head: ResponseHead, rest: bytes) -> None:
        exchange = cast("Exchange", self.exchange)
        if head.status == 101:
            if not exchange.upgrade:
                self._break("switched protocols without having been asked to")
                return
            self._in_body = False
            self.exchange = None
            self.last_byte = monotonic()
            exchange.tunnel(head, self, rest)
            return
        exchange.interim(head)
        if rest and self.exchange is exchange:
            self._head(rest)

    def _finish(self, exchange: Exchange) -> None:
        """The response is whole: free the connection before the client's next request needs it."""
        self._in_body = False
        self._plain = True
        self._chunks = None
        self.exchange = None
        exchange.upstream = None
        self.release(self._reusable and exchange.request_done)

    def release(self, reusable: bool) -> None:
        """Back to the pool, or closed."""
        idle = self.endpoint.idle
        if not reusable or self._closed or len(idle) >= self._settings.max_idle:
            self._closed = True
            self.transport.close()
            return
        self._reused = True
        self.idle_since = monotonic()
        idle.append(self)

    def _break(self, reason: str) -> None:
        self._closed = True
        exchange, self.exchange = self.exchange, None
        self._in_body = False
        self.transport.abort()
        if exchange is not None:
            exchange.upstream_failed(502, reason)

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self.endpoint.connections.discard(self)
        exchange, self.exchange = self.exchange, None
        silent_host = isinstance(exc, TimeoutError)
        if silent_host:
            self._distrust()
        if self.peer is not None:
            self.peer.close()
        elif exchange is None:
            if self in self.endpoint.idle:
                self.endpoint.idle.remove(self)
        elif self._in_body and self._left == UNTIL_CLOSE and exc is None:
            exchange.upstream = None
            exchange.respond_more(b"", True)
        elif self._in_body:
            exchange.upstream_failed(502, "closed the connection in its response")
        elif self._buffer:
            exchange.upstream_failed(502, "closed the connection in the head of its response")
        else:
            how = "closed the connection without an answer"
            if silent_host:
                how = "was not heard of any more"
            exchange.upstream_failed(502, how, silent=True, reused=self._reused and not silent_host)

    def _distrust(self) -> None:
        """The pod's host is silent: its unused connections would only cost the next ones as long
        to find that out."""
        self.endpoint.failed(monotonic(), self._settings)
        while self.endpoint.idle:
            self.endpoint.idle.pop().release(False)

    def pause_writing(self) -> None:
        self.write_paused = True
        if self.peer is not None:
            self.peer.pause_reading()
        elif self.exchange is not None:
            self.exchange.downstream.pause_body()

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.peer is not None:
            self.peer.resume_reading()
        elif self.exchange is not None:
            self.exchange.downstream.resume_body()


def watch_over(connection: socket.socket, silence: float) -> None:
    """Has the kernel end a connection (`ETIMEDOUT`) whose peer acknowledges neither data nor probes
    for `silence` seconds. Source: tcp(7)."""
    probe = max(1, int(silence / 3))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probe)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, probe)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(silence * 1000))


class Pool:
    """Every connection to every pod."""

    def __init__(self, settings: Settings, spawn: Spawn) -> None:
        self._settings = settings
        self._spawn = spawn
        # Balancers and connections keep an endpoint alive; with the last of them it goes.
        self._endpoints: WeakValueDictionary[Address, Endpoint] = WeakValueDictionary()

    def balancer(self, backend: Backend) -> Balancer:
        """The backend's balancer, up to date."""
        return balancer_of(backend, self._endpoint)

    def _endpoint(self, address: Address) -> Endpoint:
        endpoint = self._endpoints.get(address)
        if endpoint is None:
            endpoint = self._endpoints[address] = Endpoint(address)
        return endpoint

    def connect(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Makes a connection, and tells the exchange how that went."""
        self._spawn(self._connect(endpoint, exchange))

    async def _connect(self, endpoint: Endpoint, exchange: Exchange) -> None:
        try:
            await self._try(endpoint, exchange)
        except Exception:
            # One request's misfortune may not end the task group of all.
            log.exception("the connection to a pod failed", extra={"pod": str(endpoint)})
            exchange.refuse(500, "the ingress failed: its log says how")

    async def _try(self, endpoint: Endpoint, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        host, port = endpoint.address
        try:
            async with self._attempt(endpoint):
                _, upstream = await loop.create_connection(
                    lambda: Upstream(endpoint, self._settings), host, port
                )
        except TimeoutError:
            seconds = loop.time() - started
            self._connect_failed(endpoint, exchange, f"no connection within {seconds:.1f} s")
        except OSError as error:
            self._connect_failed(endpoint, exchange, _reason(error))
        else:
            endpoint.connected()
            exchange.connected(upstream)

    @asynccontextmanager
    async def _attempt(self, endpoint: Endpoint) -> AsyncIterator[None]:
        """Limits the time for one attempt to connect, which `left` can cut short."""
        async with asyncio.timeout(self._settings.connect_timeout) as limit:
            endpoint.attempts.add(limit)
            try:
                yield
            finally:
                endpoint.attempts.discard(limit)

    def left(self, backend: Backend, addresses: Iterable[Address]) -> None:
        """These do not serve the backend any longer, and may be gone without a word: what they
        have not begun to answer goes elsewhere, where that is safe."""
        for address in addresses:
            endpoint = self._endpoints.get(address)
            if endpoint is None:
                continue
            for limit in endpoint.attempts:
                if not limit.expired():
                    limit.reschedule(asyncio.get_running_loop().time())
            for upstream in tuple(endpoint.connections):
                exchange = upstream.exchange
                if exchange is None:
                    self._drop_idle(upstream)
                elif exchange.route.backend is backend:
                    exchange.pod_left()

    @staticmethod
    def _drop_idle(upstream: Upstream) -> None:
        if upstream in upstream.endpoint.idle:
            upstream.endpoint.idle.remove(upstream)
            upstream.release(False)

    def _connect_failed(self, endpoint: Endpoint, exchange: Exchange, reason: str) -> None:
        endpoint.failed(monotonic(), self._settings)
        exchange.connect_failed(reason)

    def sweep(self, now: float) -> None:
        """Closes what was unused for too long."""
        oldest = now - self._settings.upstream_idle
        for endpoint in list(self._endpoints.values()):
            while endpoint.idle and endpoint.idle[0].idle_since < oldest:
                endpoint.idle.pop(0).release(False)

    def close(self) -> None:
        """Closes every unused connection."""
        for endpoint in list(self._endpoints.values()):
            while endpoint.idle:
                endpoint.idle.pop().release(False)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error) or type(error).__name__
    return os.strerror(error.errno).lower()
