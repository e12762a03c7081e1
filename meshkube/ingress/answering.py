"""A client's connection in HTTP/1, as whoever answers on it sees it.

Here is what all of the connection shares, and the `Downstream` of its exchanges: how a response
gets its framing for this client, and what follows when it is out.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from meshkube.ingress.chunked import LAST_CHUNK, chunk
from meshkube.ingress.dressing import with_line
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.forwarded import Peer
from meshkube.ingress.http1 import CHUNKED, UNTIL_CLOSE, field_value
from meshkube.ingress.prepared import Prepared
from meshkube.ingress.problems import Problem, phrase, render
from meshkube.ingress.proxy import Proxy

if TYPE_CHECKING:
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.upstream import Upstream

# States of a connection, by what the next bytes from the client are.
HEAD, BODY, WAIT, TUNNEL, LINGER, GONE = range(6)


class Answering(asyncio.Protocol):
    """One client, and the answer to its request."""

    __slots__ = (
        "_added",
        "_block",
        "_buffer",
        "_exchange",
        "_keep_alive",
        "_length",
        "_method",
        "_minor",
        "_prepared",
        "_proxy",
        "_request_number",
        "_state",
        "_stepping",
        "_target",
        "_tunnel",
        "_write_paused",
        "deadline",
        "peer",
        "takes_chunks",
        "transport",
    )

    transport: asyncio.Transport
    peer: Peer

    def __init__(self, proxy: Proxy, scheme: bytes) -> None:
        self._proxy = proxy
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
        self._method = self._target = self._block = b""
        self._minor = 1
        self._keep_alive = True
        self._request_number = 0
        self._prepared: Prepared | None = None
        """Of the request; None: what there is of it is bad."""
        # The response
        self.takes_chunks = True
        self._length = 0
        """Of its body: bytes (whatever number), `CHUNKED`, `UNTIL_CLOSE`."""
        self._tunnel: Upstream | None = None

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
        accept = field_value(self._block, b"accept") if self._prepared else b""
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
        raise NotImplementedError

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

    # The request's facts

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
        return field_value(self._block, name).decode("latin-1") if self._prepared else ""
