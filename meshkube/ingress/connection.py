"""The client's side in HTTP/1: one connection, its requests one after the other.

The hot path is `data_received` -> `_request` -> `Exchange.start`, and back `Exchange.respond` ->
`respond`: four calls, one write each way, and nothing made for a header that was the same in this
connection's last request.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, cast

from meshkube.ingress import tracing
from meshkube.ingress.admission import give, judge
from meshkube.ingress.chunked import LAST_CHUNK, ChunkedBody, chunk
from meshkube.ingress.dressing import with_line
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.forwarded import Peer, lines, sane_id
from meshkube.ingress.http1 import (
    CHUNKED,
    ORIGIN_LINE,
    UNTIL_CLOSE,
    Fields,
    HeadError,
    check_partial,
    field_value,
    parse_fields,
    parse_request_line,
)
from meshkube.ingress.http2 import Http2Connection
from meshkube.ingress.managed import exchange_for
from meshkube.ingress.outgoing import asked, changed, with_host
from meshkube.ingress.problems import Problem, phrase, render
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.route import Miss, Route

if TYPE_CHECKING:
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.upstream import Upstream

# States of a connection, by what the next bytes from the client are.
HEAD, BODY, WAIT, TUNNEL, LINGER, GONE = range(6)
PREFACE_LINE = b"PRI * HTTP/2.0\r\n"


@dataclass(slots=True)
class Prepared:
    """What follows from the header lines alone, and so from one request to the next like it."""

    fields: Fields
    host: bytes
    out: bytes
    """The lines for the pod, up to the value of X-Request-Id."""
    request_id: bytes
    """Given by the client; empty: make one."""
    keep_alive: bool
    upgrade: bytes
    traced: bool
    """The client has begun a trace."""


class Http1Connection(asyncio.Protocol):
    """One client."""

    __slots__ = (
        "_added",
        "_body_limit",
        "_body_seen",
        "_buffer",
        "_chunks",
        "_exchange",
        "_head_begun",
        "_keep_alive",
        "_last",
        "_last_block",
        "_last_tail",
        "_left",
        "_length",
        "_lines",
        "_lines_host",
        "_method",
        "_minor",
        "_port",
        "_prepared",
        "_proxy",
        "_request_number",
        "_scheme",
        "_state",
        "_stepping",
        "_target",
        "_tunnel",
        "_unchecked",
        "_unsent",
        "_write_paused",
        "deadline",
        "peer",
        "source",
        "takes_chunks",
        "transport",
    )

    transport: asyncio.Transport
    peer: Peer

    def __init__(self, proxy: Proxy, port: int, scheme: bytes) -> None:
        self._proxy = proxy
        self._port = port
        self._scheme = scheme
        self.source: tuple[str, int] | None = None
        """The client's address, where a load balancer in front has said it."""
        self._added = proxy.hsts if scheme == b"https" else b""
        """A line for every response."""
        self._state = HEAD
        self._buffer = b""
        """What came early: part of a head, or the next request."""
        self._exchange: Exchange | None = None
        self.deadline = 0.0
        """While there is no exchange; 0: not set yet."""
        self._stepping = self._write_paused = False
        # The request
        self._head_begun = False
        """Its first bytes are there, its head is not whole."""
        self._method = self._target = b""
        self._minor = 1
        self._keep_alive = True
        self._request_number = 0
        self._prepared: Prepared | None = None
        self._left = 0
        """Of its body, in bytes."""
        self._chunks: ChunkedBody | None = None
        self._unchecked = b""
        """Of a chunked body: held back until it is known to be sound."""
        self._body_seen = self._body_limit = 0
        # The last header lines, and what follows from them
        self._last: Prepared | None = None
        self._last_block = b""
        self._lines = self._lines_host = b""
        """The X-Forwarded-* lines, and the Host they were made for."""
        self._last_tail = b"\0"
        """All that followed the first line of the last request, where that was the usual kind: in
        HTTP/1.1, kept alive, without a body. No request ends with a NUL here."""
        # The response
        self.takes_chunks = True
        self._length = 0
        """Of its body: bytes (whatever number), `CHUNKED`, `UNTIL_CLOSE`."""
        self._tunnel: Upstream | None = None
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
            prepared = self._last if tail == self._last_tail else self._usual(tail, len(data))
            if prepared is not None:
                proxy = self._proxy
                self._method, target = match.groups()
                route = proxy.remembered.get((prepared.host, target))
                if route is None:
                    route = proxy.lookup(prepared.host, target)
                if route.__class__ is Route and route.policy is None:
                    self._prepared = prepared
                    self._target = target
                    self._state = WAIT
                    if prepared.request_id:
                        ending = b"%b\r\n\r\n" % prepared.request_id
                    else:
                        number = self._request_number = next(proxy.id_numbers)
                        ending = b"%b%012x\r\n\r\n" % (proxy.id_prefix, number)
                    if proxy.tracing:
                        ending = self._ending(prepared)
                    head = data[:line_end] + prepared.out + ending
                    exchange = self._exchange = Exchange(
                        proxy, self, route, head, self._method, b""
                    )
                    exchange.start(b"", True)
                    return b""
        return self._any_request(data, match)

    def _usual(self, tail: bytes, size: int) -> Prepared | None:
        """What follows from `tail`, all that came after a first line, where it is the rest of a
        whole request (of `size` bytes) of the usual kind: kept alive, with no body or upgrade."""
        if tail.find(b"\r\n\r\n") != len(tail) - 4 or size > self._proxy.settings.max_head:
            return None
        self._prepared = None
        prepared = self._remember(tail[:-2])
        if self._last_tail != tail or self._proxy.draining:
            return None
        self._keep_alive = self.takes_chunks = True
        self._minor = 1
        self._head_begun = False
        return prepared

    def _remember(self, block: bytes) -> Prepared:
        prepared = self._prepare(block, 1, None)
        usual = prepared.keep_alive and not prepared.fields.length and not prepared.upgrade
        self._last = prepared
        self._last_block = block
        self._last_tail = block + b"\r\n" if usual else b"\0"
        return prepared

    def _any_request(self, data: bytes, match: re.Match[bytes] | None) -> bytes:
        """Begins a request of any kind."""
        self._prepared = None
        end = data.find(b"\r\n\r\n")
        if end < 0 or end > self._proxy.settings.max_head:
            return self._partial(data)
        if match is None:
            return self._unusual(data)
        self._method, self._target = match.groups()
        self._minor = 1
        line_end = match.end()
        block = data[line_end : end + 2]
        prepared = self._last
        if prepared is None or block != self._last_block:
            prepared = self._remember(block)
        return self._begin(prepared, data[:line_end], data, end + 4)

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
        # What is remembered is for a client that goes on in HTTP/1.1.
        self._last_tail, self._last_block = b"\0", b""
        prepared = self._prepare(data[line.end : end + 2], line.minor, line.authority)
        out = b"%b %b HTTP/1.1\r\n" % (line.method, line.target)
        return self._begin(prepared, out, data, end + 4)

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

    def _prepare(self, block: bytes, minor: int, authority: bytes | None) -> Prepared:
        fields = parse_fields(block, minor)
        host = fields.host or b""
        traced = False
        if self._proxy.tracing:
            fields.kept, traced = tracing.checked(fields.kept)
        kept = fields.kept
        if authority is not None and authority != host:
            host = authority
            kept = with_host(kept, authority)
        elif fields.host is None:
            kept += b"Host: \r\n"
        options = fields.connection
        upgrade = fields.upgrade if b"upgrade" in options and minor else b""
        if upgrade.lower() == b"h2c" or fields.length:
            upgrade = b""
        extra = b"Transfer-Encoding: chunked\r\n" if fields.length == CHUNKED else b""
        if upgrade:
            extra += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % upgrade
        if fields.expects_continue and minor:
            extra += b"Expect: 100-continue\r\n"
        peer = self.peer
        if peer.trusted or host != self._lines_host:
            self._lines = lines(peer, fields, host)
            self._lines_host = host
        out = b"%b%b%bX-Request-Id: " % (kept, extra, self._lines)
        keep_alive = b"close" not in options if minor else b"keep-alive" in options
        return Prepared(fields, host, out, sane_id(fields.request_id), keep_alive, upgrade, traced)

    def _begin(self, prepared: Prepared, line: bytes, data: bytes, start: int) -> bytes:
        proxy = self._proxy
        self._keep_alive = prepared.keep_alive and not proxy.draining
        self.takes_chunks = self._minor == 1
        self._request_number = next(proxy.id_numbers)
        self._prepared = prepared
        self._head_begun = False
        found = proxy.lookup(prepared.host, self._target)
        length = prepared.fields.length
        if isinstance(found, Miss):
            self._state = BODY if length else WAIT
            self.fail(Problem(404, found.reason))
            return data[start:]
        self._body_limit = proxy.settings.max_body
        out = prepared.out
        if found.policy is None:
            head = b"".join((line, out, self._ending(prepared)))
            exchange = Exchange(proxy, self, found, head, self._method, prepared.upgrade)
        else:
            question = asked(self.peer, prepared.fields, prepared.host, self._method, self._target)
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
        limit = self._body_limit
        if limit and length > limit:
            exchange.over = True
            raise HeadError(413, f"the body is larger than {limit} bytes")
        self._state = BODY
        self._body_seen = 0
        self._chunks = ChunkedBody() if length == CHUNKED else None
        self._left = length
        self._unchecked = b""
        used = self._count_body(data)
        if self._state == BODY:
            exchange.start(self._checked(data), False)
            return b""
        exchange.start(data[:used], True)
        return data[used:]

    def _checked(self, data: bytes) -> bytes:
        """What of the body may go to the pod now. A pod gets no line of a chunked body before it is
        known to be sound."""
        chunks = self._chunks
        if chunks is None:
            return data
        if self._unchecked:
            data = self._unchecked + data
        late = chunks.unchecked
        self._unchecked = data[len(data) - late :]
        return data[: len(data) - late]

    def _body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        try:
            used = self._count_body(data)
        except HeadError as error:
            self._keep_alive = False
            exchange.refuse(error.status, error.reason)
            return
        if used < len(data):
            self._buffer = data[used:]
            data = data[:used]
        exchange.more(self._checked(data), self._state == WAIT)

    def _count_body(self, data: bytes) -> int:
        """How much of `data` belongs to the body; moves to WAIT at its end. Raises `HeadError`."""
        chunks = self._chunks
        if chunks is None:
            used = min(len(data), self._left)
            self._left -= used
            if not self._left:
                self._state = WAIT
            return used
        used = chunks.feed(data)
        self._body_seen += used
        limit = self._body_limit
        if limit and self._body_seen > limit:
            raise HeadError(413, f"the body is larger than {limit} bytes")
        if chunks.done:
            self._state = WAIT
        return used

    def pause_body(self) -> None:
        self.transport.pause_reading()

    def resume_body(self) -> None:
        self.transport.resume_reading()

    # The response

    def respond(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        if self._added:
            head = with_line(head, self._added)
        if self._keep_alive and self._minor:
            self._length = length
            if length == UNTIL_CLOSE:
                first = chunk(data[start:]) if len(data) > start else b""
                self.transport.write(
                    b"%bTransfer-Encoding: chunked\r\n\r\n%b" % (head.wire[:-2], first)
                )
            elif head.verbatim:
                self.transport.write(data)
            else:
                self.transport.write(head.wire + data[start:])
        else:
            self._respond_plainly(head, length, data[start:])
        if end:
            self._finished()
        elif self._write_paused and self._exchange is not None:
            self._exchange.pause_response()

    def respond_whole(self, head: ResponseHead, data: bytes) -> None:
        if self._added or not (self._keep_alive and self._minor):
            self.respond(head, head.body, data, head.size, True)
            return
        self._exchange = None
        self._state = HEAD
        self.deadline = 0.0
        self.transport.write(data if head.verbatim else head.wire + data[head.size :])
        if self._write_paused or self._buffer:
            self._finished()

    def _respond_plainly(self, head: ResponseHead, length: int, body: bytes) -> None:
        """For a client in HTTP/1.0, or one that leaves after this."""
        connection = b"Connection: close\r\n"
        framing = b""
        if self._minor:
            if length in (CHUNKED, UNTIL_CLOSE):
                framing = b"Transfer-Encoding: chunked\r\n"
                if length == UNTIL_CLOSE and body:
                    body = chunk(body)
        elif length < 0:
            self._keep_alive = False
            length = 0
        elif self._keep_alive:
            connection = b"Connection: keep-alive\r\n"
        self._length = length
        self.transport.write(b"".join((head.line, head.kept, framing, connection, b"\r\n", body)))

    def more(self, data: bytes, end: bool) -> None:
        if self._length == UNTIL_CLOSE:
            data = chunk(data) if data else b""
            if end:
                data += LAST_CHUNK
        if data:
            self.transport.write(data)
        if end:
            self._finished()

    def trailers(self, block: bytes) -> None:
        """Chunks hold theirs, and an old client has no place for any."""

    def interim(self, head: ResponseHead) -> None:
        if self._minor:
            self.transport.write(b"".join((head.line, head.kept, b"\r\n")))

    def tunnel(self, head: ResponseHead, upstream: Upstream, first: bytes) -> None:
        self._exchange = None
        self._state = TUNNEL
        self._tunnel = upstream
        upstream.peer = self.transport
        self.transport.write(
            b"%b%bConnection: Upgrade\r\nUpgrade: %b\r\n\r\n%b"
            % (head.line, head.kept, head.upgrade, first)
        )
        if self._buffer:
            upstream.transport.write(self._buffer)
            self._buffer = b""
        self.transport.resume_reading()

    def fail(self, problem: Problem) -> None:
        if self._prepared is None:
            self._request_number = next(self._proxy.id_numbers)
        request_id = self._request_id().decode("latin-1")
        self._proxy.note_problem(problem, self.describe())
        prepared = self._prepared
        accept = field_value(prepared.fields.kept, b"accept") if prepared else b""
        kind, body = render(problem, request_id, accept)
        block = b"Content-Type: %b\r\nCache-Control: no-store\r\nX-Request-Id: %b\r\n%b"
        self.reply(
            problem.status, block % (kind, request_id.encode("latin-1"), problem.lines), body
        )

    def reply(self, status: int, block: bytes, body: bytes) -> None:
        if self._exchange is None and self._proxy.sampled:
            self._proxy.log_answer(self, status, len(body))
        self._exchange = None
        if self._state != WAIT:
            self._keep_alive = False
        keep = b"" if self._minor else b"Connection: keep-alive\r\n"
        head = b"HTTP/1.1 %d %b\r\n%b%b%b\r\n" % (
            status,
            phrase(status),
            self._added + block,
            b"" if status == 204 else b"Content-Length: %d\r\n" % len(body),
            keep if self._keep_alive else b"Connection: close\r\n",
        )
        self.transport.write(head if self._method == b"HEAD" else head + body)
        self._finished()

    def broken(self, problem: Problem) -> None:
        """Closing without the end of the body tells an HTTP client that something is missing."""
        self._exchange = None
        self._proxy.note_problem(problem, self.describe())
        self.transport.abort()

    def _finished(self) -> None:
        """The response is out: on to the next request, or to the end."""
        self._exchange = None
        if not self._keep_alive or self._state == BODY or self._proxy.draining:
            self._leave()
            return
        self._state = HEAD
        # The sweep sets it: that is soon enough, and not for each request.
        self.deadline = 0.0
        if self._write_paused:
            # A client that sends requests and reads no answers gets nothing more to store.
            self.transport.pause_reading()
        elif self._buffer and not self._stepping:
            self._go_on()

    def _go_on(self) -> None:
        """Takes up requests that came early."""
        data, self._buffer = self._buffer, b""
        self.transport.resume_reading()
        self._step(data)

    def _leave(self) -> None:
        """Closes. What the client is still sending is read and dropped for a moment first: a
        reset would take the answer away from it (RFC 9112, section 9.6)."""
        if self._state == WAIT and not self._buffer:
            self._state = LINGER
            self.transport.close()
            return
        self._state = LINGER
        self._buffer = b""
        self.deadline = monotonic() + self._proxy.settings.linger
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()

    def _ending(self, prepared: Prepared) -> bytes:
        """What ends the head for the pod: the request's id, a trace where one is to be begun."""
        request_id = self._request_id()
        if not self._proxy.tracing or prepared.traced:
            return request_id + b"\r\n\r\n"
        span = tracing.line(request_id, next(self._proxy.id_numbers))
        return b"%b\r\n%b\r\n" % (request_id, span)

    # What the proxy asks

    def _request_id(self) -> bytes:
        """The current request's id: its client's, or our own."""
        if self._prepared is not None and self._prepared.request_id:
            return self._prepared.request_id
        return b"%b%012x" % (self._proxy.id_prefix, self._request_number)

    def describe(self) -> dict[str, str]:
        """The request's facts, for a log line."""
        prepared = self._prepared
        return {
            "client": self.peer.address.decode(),
            "method": self._method.decode("latin-1") if prepared else "",
            "host": prepared.host.decode("latin-1") if prepared else "",
            "path": self._target.decode("latin-1") if prepared else "",
            "protocol": f"HTTP/1.{self._minor}",
            "request_id": self._request_id().decode("latin-1"),
        }

    def header(self, name: bytes) -> str:
        block = self._prepared.fields.kept if self._prepared else b""
        return field_value(block, name).decode("latin-1")

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
        self._last_tail = b"\0"
        idle = self._state == HEAD and not self._buffer
        if idle or self._state == TUNNEL:
            self.transport.close()

    def abort(self) -> None:
        self.transport.abort()
