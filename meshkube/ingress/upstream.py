"""The pod's side in HTTP/1.1: one connection, its requests one after the other."""

from __future__ import annotations

import asyncio
import socket
from time import monotonic
from typing import TYPE_CHECKING, Protocol, cast

from meshkube.ingress.backends import Backend
from meshkube.ingress.chunked import ChunkedBody
from meshkube.ingress.endpoints import Endpoint
from meshkube.ingress.http1 import CHUNKED, UNTIL_CLOSE, HeadError
from meshkube.ingress.response_head import NO_BODY, ResponseHead, parse_head
from meshkube.ingress.settings import Settings

if TYPE_CHECKING:
    from meshkube.ingress.exchange import Exchange


class Peer(Protocol):
    """The client's end of a tunnel."""

    def write(self, data: bytes, /) -> None: ...
    def close(self) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


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
        self.peer: Peer | None = None
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
                head = parse_head(data, end)
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
        if head.status in NO_BODY or exchange.method == b"HEAD":
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
                if data[start:] and self.exchange is exchange:
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
            if chunks.trailers:
                exchange.downstream.trailers(chunks.trailers)
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

    def write_body(self, data: bytes, framed: bytes, end: bool, trailers: bytes) -> None:
        self.transport.write(framed)

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

    def left(self, backend: Backend) -> None:
        """The pod does not serve this backend any longer, and may be gone without a word."""
        exchange = self.exchange
        if exchange is not None:
            if exchange.route.backend is backend:
                exchange.pod_left()
        elif self in self.endpoint.idle:
            self.endpoint.idle.remove(self)
            self.release(False)

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
