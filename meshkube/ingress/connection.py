"""The client's side in HTTP/1: one connection, its requests one after the other.

The hot path is `data_received` -> `_request` -> `Exchange.start`, and back `Exchange.respond_whole`
-> `respond_whole`: four calls, one write each way. Of a request that tells what the last one did
(`http1.telling_lines`) only the path and the lines that just go on are looked at; any other shape
goes through `_any_request`, which takes nothing for granted.
"""

from __future__ import annotations

import asyncio
import re
from time import monotonic
from typing import TYPE_CHECKING, cast

from meshkube.ingress import tracing
from meshkube.ingress.admission import give, judge
from meshkube.ingress.answering import BODY, GONE, HEAD, LINGER, TUNNEL, WAIT, Answering
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.http1 import (
    ORIGIN_LINE,
    HeadError,
    check_partial,
    parse_request_line,
    telling_lines,
)
from meshkube.ingress.http2 import Http2Connection
from meshkube.ingress.managed import exchange_for
from meshkube.ingress.outgoing import asked, changed
from meshkube.ingress.prepared import Prepared, prepare
from meshkube.ingress.problems import Problem
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.request_body import RequestBody
from meshkube.ingress.route import Miss, Route

if TYPE_CHECKING:
    from meshkube.ingress.upstream import Upstream

PREFACE_LINE = b"PRI * HTTP/2.0\r\n"
_NO_TAIL = b"\0"
"""No request ends with a NUL here."""


class Http1Connection(Answering):
    """One client."""

    __slots__ = (
        "_body_left",
        "_body_limit",
        "_head_begun",
        "_last",
        "_last_lines",
        "_last_tail",
        "_last_telling",
        "_port",
        "_scheme",
        "_unsent",
        "source",
    )

    def __init__(self, proxy: Proxy, port: int, scheme: bytes) -> None:
        super().__init__(proxy, scheme)
        self._port = port
        self._scheme = scheme
        self.source: tuple[str, int] | None = None
        """The client's address, where a load balancer in front has said it."""
        self._head_begun = False
        """A request's first bytes are there, its head is not whole."""
        self._body_left: RequestBody | None = None
        self._body_limit = 0
        # The last usual request: in HTTP/1.1, kept alive, without a body.
        self._last: Prepared | None = None
        self._last_telling: list[bytes] = []
        """Its lines that told something, with the two empty ones at its end."""
        self._last_tail = _NO_TAIL
        """All that followed its first line."""
        self._last_lines = b""
        """The lines for the pod, up to the value of X-Request-Id."""
        self._unsent = 0
        """Bytes that the client had not read when it was last out of time."""

    # The event loop's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        proxy = self._proxy
        self.peer = proxy.peer(transport, self._port, self._scheme, self.source)
        proxy.connections += 1
        # A client must begin at once; only after a first request may it take its time.
        self.deadline = monotonic() + proxy.settings.head_timeout
        full = len(proxy.clients) >= proxy.settings.max_connections
        proxy.clients.add(self)
        if full:
            many = proxy.settings.max_connections
            self.fail(Problem(503, f"the ingress has {many} connections, its limit"))

    def data_received(self, data: bytes) -> None:
        state = self._state
        if state == HEAD:
            if self._buffer:
                data = self._buffer + data
                self._buffer = b""
            self._step(data)
        elif state == BODY:
            self._body(data)
        elif state == TUNNEL:
            upstream = cast("Upstream", self._tunnel)
            upstream.last_byte = monotonic()
            upstream.transport.write(data)
        elif state == WAIT:
            # The next request, before this one is answered.
            self._buffer += data
            if len(self._buffer) > self._proxy.settings.max_head:
                self.transport.pause_reading()

    def eof_received(self) -> None:
        """A client that closes its half is gone (RFC 9112, section 9.6 lets a proxy say so)."""

    def connection_lost(self, exc: Exception | None) -> None:
        self._proxy.gone(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.cancel()
        if self._tunnel is not None:
            self._tunnel.transport.close()

    def pause_writing(self) -> None:
        self._write_paused = True
        if self._tunnel is not None:
            self._tunnel.transport.pause_reading()
        elif self._exchange is not None:
            self._exchange.pause_response()

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._tunnel is not None:
            self._tunnel.transport.resume_reading()
        elif self._exchange is not None:
            self._exchange.resume_response()
        elif self._state == HEAD:
            self._go_on()

    # The request

    def _step(self, data: bytes) -> None:
        """Takes requests out of `data` while they can be begun."""
        self._stepping = True
        try:
            while data and self._state == HEAD and not self._write_paused:
                data = self._request(data)
        except HeadError as error:
            self.fail(Problem(error.status, error.reason))
            data = b""
        finally:
            self._stepping = False
        if data:
            self._buffer = data

    def _request(self, data: bytes) -> bytes:
        """Begins the request at the start of `data`; returns what is not used up."""
        match = ORIGIN_LINE.match(data)
        if match is not None:
            line_end = match.end()
            tail = data[line_end:]
            prepared = self._last if tail == self._last_tail else self._only_a_head(tail, len(data))
            if prepared is not None:
                proxy = self._proxy
                self._prepared = prepared
                number = self._request_number = next(proxy.id_numbers)
                self._method, self._target = match.groups()
                route = proxy.lookup(prepared.host, self._target)
                if not (prepared.usual and route.__class__ is Route and route.policy is None):
                    return self._begin(prepared, route, data[:line_end], data, len(data))
                self._state = WAIT
                if prepared.request_id:
                    ending = b"%b\r\n\r\n" % prepared.request_id
                else:
                    ending = b"%b%012x\r\n\r\n" % (proxy.id_prefix, number)
                head = data[:line_end] + self._last_lines + ending
                exchange = self._exchange = Exchange(proxy, self, route, head, self._method, b"")
                exchange.start(b"", True)
                return b""
        return self._any_request(data, match)

    def _only_a_head(self, tail: bytes, size: int) -> Prepared | None:
        """What follows from `tail`, all that came after a first line, where it is the whole rest
        of a request's head (of `size` bytes) and nothing else. If it tells what the last one did,
        none of that is worked out again."""
        proxy = self._proxy
        if tail.find(b"\r\n\r\n") != len(tail) - 4 or size > proxy.max_head or proxy.never_usual:
            return None
        telling = telling_lines(tail.split(b"\r\n"))
        prepared = self._last
        if prepared is None or telling != self._last_telling:
            # An empty line more, and it is the first: this head has no lines at all.
            if telling.count(b"") != 2:
                return None
            self._prepared = None
            prepared = prepare(tail[:-2], 1, None, self.peer, trace=False)
        self._minor = 1
        self._head_begun = False
        if prepared.usual:
            self._block = prepared.kept(tail[:-2])
            self._last = prepared
            self._last_telling = telling
            self._last_tail = tail
            self._last_lines = self._block + prepared.added
            self._keep_alive = self.takes_chunks = True
        else:
            self._last_tail = _NO_TAIL
            self._block = prepared.fields.kept
        return prepared

    def _any_request(self, data: bytes, match: re.Match[bytes] | None) -> bytes:
        """Begins a request of any kind."""
        self._prepared = None
        self._last_tail = _NO_TAIL
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > self._proxy.settings.max_head:
            return self._partial(data)
        if match is None:
            return self._unusual(data)
        self._method, self._target = match.groups()
        self._minor = 1
        line_end = match.end()
        prepared = self._prepare(data[line_end : end + 2], None)
        route = self._proxy.lookup(prepared.host, self._target)
        return self._begin(prepared, route, data[:line_end], data, end + 4)

    def _unusual(self, data: bytes) -> bytes:
        """A first line that is not `METHOD /path HTTP/1.x`."""
        if data.startswith(PREFACE_LINE):
            return self._switch_to_http2(data)
        if data.startswith(b"\r\n"):
            # Sent after a body by old clients (RFC 9112, section 2.2).
            return data[2:]
        line = parse_request_line(data)
        end = data.index(b"\r\n\r\n", line.end - 2)
        self._minor, self._method, self._target = line.minor, line.method, line.target
        prepared = self._prepare(data[line.end : end + 2], line.authority)
        out = b"%b %b HTTP/1.1\r\n" % (line.method, line.target)
        route = self._proxy.lookup(prepared.host, self._target)
        return self._begin(prepared, route, out, data, end + 4)

    def _switch_to_http2(self, data: bytes) -> bytes:
        """The client speaks HTTP/2 without having asked (RFC 9113, section 3.3)."""
        self._proxy.clients.discard(self)
        self._proxy.connections -= 1
        self._state = GONE
        successor = Http2Connection(self._proxy, self._port, self._scheme)
        successor.source = self.source
        self.transport.set_protocol(successor)
        successor.connection_made(self.transport)
        successor.data_received(data)
        return b""

    def _partial(self, data: bytes) -> bytes:
        if data.startswith(b"\r\n") and len(data) > 2:
            return data[2:]
        if data not in (b"\r", b"\r\n"):
            check_partial(data, self._proxy.settings.max_head)
        if not self._head_begun:
            self._head_begun = True
            self.deadline = monotonic() + self._proxy.settings.head_timeout
        self._buffer = data
        return b""

    def _prepare(self, block: bytes, authority: bytes | None) -> Prepared:
        proxy = self._proxy
        prepared = prepare(block, self._minor, authority, self.peer, trace=proxy.tracing)
        self._prepared = prepared
        self._request_number = next(proxy.id_numbers)
        self._block = prepared.fields.kept
        self._head_begun = False
        return prepared

    def _begin(
        self, prepared: Prepared, found: Route | Miss, line: bytes, data: bytes, start: int
    ) -> bytes:
        proxy = self._proxy
        self._keep_alive = prepared.keep_alive and not proxy.draining
        self.takes_chunks = self._minor == 1
        length = prepared.fields.length
        if isinstance(found, Miss):
            self._state = BODY if length else WAIT
            self.fail(Problem(404, found.reason))
            return data[start:]
        self._body_limit = proxy.settings.max_body
        out = self._block + prepared.added
        if found.policy is None:
            head = b"".join((line, out, self._ending(prepared)))
            exchange = Exchange(proxy, self, found, head, self._method, prepared.upgrade)
        else:
            question = asked(
                self.peer, prepared.fields, self._block, prepared.host, self._method, self._target
            )
            answer = judge(proxy, found, question)
            if answer is not None:
                self._state = BODY if length else WAIT
                found.stats.count(answer.status, 0.0)
                give(self, answer, found)
                return data[start:]
            if found.policy.max_body is not None:
                self._body_limit = found.policy.max_body
            line, out = changed(
                self.peer, found, found.policy, self._method, self._target, line, out
            )
            head = b"".join((line, out, self._ending(prepared)))
            exchange = exchange_for(proxy, self, found, question, head, prepared.upgrade)
        self._exchange = exchange
        if length == 0:
            self._state = WAIT
            exchange.start(b"", True)
            return data[start:] if len(data) > start else b""
        return self._begin_body(exchange, length, data[start:])

    def _begin_body(self, exchange: Exchange, length: int, data: bytes) -> bytes:
        try:
            body = self._body_left = RequestBody(length, self._body_limit)
        except HeadError:
            exchange.over = True
            raise
        self._state = BODY
        used = body.feed(data)
        if not body.done:
            exchange.start(body.sound(data), False)
            return b""
        self._state = WAIT
        exchange.start(data[:used], True)
        return data[used:]

    def _body(self, data: bytes) -> None:
        exchange, body = self._exchange, self._body_left
        if exchange is None or body is None:
            return
        try:
            used = body.feed(data)
        except HeadError as error:
            self._keep_alive = False
            exchange.refuse(error.status, error.reason)
            return
        if used < len(data):
            self._buffer = data[used:]
            data = data[:used]
        if body.done:
            self._state = WAIT
        exchange.more(body.sound(data), body.done)

    def _go_on(self) -> None:
        """Takes up requests that came early."""
        data, self._buffer = self._buffer, b""
        self.transport.resume_reading()
        self._step(data)

    def _ending(self, prepared: Prepared) -> bytes:
        """What ends the head for the pod: the request's id, a trace where one is to be begun."""
        request_id = self._request_id()
        if not self._proxy.tracing or prepared.traced:
            return request_id + b"\r\n\r\n"
        span = tracing.line(request_id, next(self._proxy.id_numbers))
        return b"%b\r\n%b\r\n" % (request_id, span)

    # What the proxy asks

    def check(self, now: float) -> None:
        exchange = self._exchange
        if exchange is not None:
            if exchange.deadline < now:
                exchange.expire()
        elif self._state == TUNNEL:
            upstream = cast("Upstream", self._tunnel)
            if upstream.last_byte + self._proxy.settings.tunnel_timeout < now:
                self.transport.close()
        elif not self.deadline:
            self.deadline = now + self._proxy.settings.keep_alive_timeout
        elif self.deadline < now:
            self._out_of_time(now)

    def _out_of_time(self, now: float) -> None:
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent != self._unsent:
            # It still reads its last response.
            self._unsent = unsent
            self.deadline = now + self._proxy.settings.body_timeout
        elif unsent or self._state == LINGER:
            self.transport.abort()
        elif self._state == HEAD and self._buffer:
            seconds = self._proxy.settings.head_timeout
            self.fail(Problem(408, f"the request's head did not end within {seconds:g} s"))
        else:
            self.transport.close()

    def drain(self) -> None:
        self._keep_alive = False
        self._last_tail = _NO_TAIL
        idle = self._state == HEAD and not self._buffer
        if idle or self._state == TUNNEL:
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()
