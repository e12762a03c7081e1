"""One request in HTTP/2: a `Downstream` whose bytes go through the windows of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshkube.ingress import http2_head, tracing
from meshkube.ingress.admission import give, judge
from meshkube.ingress.chunked import chunk, last_chunk
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.forwarded import lines, sane_id
from meshkube.ingress.http1 import CHUNKED, HeadError, field_value
from meshkube.ingress.http2_errors import ErrorCodes, H2Error
from meshkube.ingress.http2_head import Header, Request
from meshkube.ingress.http2_outbox import Outbox
from meshkube.ingress.http2_tunnel import Http2Tunnel, accepts, new_key
from meshkube.ingress.managed import exchange_for
from meshkube.ingress.outgoing import asked, changed
from meshkube.ingress.policies import Asked
from meshkube.ingress.problems import Problem, render
from meshkube.ingress.route import Miss

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshkube.ingress.http2 import Http2Connection
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.upstream import Upstream

AHEAD = 262_144
"""Bytes of a response that may wait for the client's window before the pod is held back."""


class Http2Stream:
    """One request and its response."""

    takes_chunks = False

    def __init__(self, connection: Http2Connection, number: int) -> None:
        self.number = number
        self._connection = connection
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._request_id = b""
        self._traced = True
        """The client has begun a trace, or nobody wants one."""
        # The request's body
        self._chunked = False
        self._done = False
        """Its last byte is there."""
        self._seen = self._limit = 0
        self._held = 0
        """Bytes that the pod has not made room for: the client's window stays as much smaller."""
        self._paused = False
        self._request_trailers = b""
        # The response's
        self._answering = False
        self._outbox = Outbox()
        self._ended = False
        self._trailers: list[Header] = []
        self._holding = False
        self._malformed = False
        """The response is followed by a reset that says so."""
        self._waited_for = -1
        self._waited_since = 0.0
        # Of a WebSocket
        self._key = b""
        self._early: list[tuple[bytes, int]] = []
        """What came of it before the pod has agreed, and what that takes of the window."""

    # The request

    def begin(self, request: Request, ended: bool) -> None:
        """Starts the exchange. Raises `HeadError`."""
        proxy = self._connection.proxy
        self._request = request
        self._done = ended
        self._request_id = sane_id(request.fields.request_id) or proxy.new_id()
        if proxy.tracing:
            request.fields.kept, self._traced = tracing.checked(request.fields.kept)
        found = proxy.lookup(request.host, request.target)
        if isinstance(found, Miss):
            self.fail(Problem(404, found.reason))
            return
        self._limit = proxy.settings.max_body
        line = b"%b %b HTTP/1.1\r\n" % (request.method, request.target)
        out = self._lines(request)
        policy = found.policy
        question: Asked | None = None
        if policy is not None:
            peer = self._connection.peer
            fields = request.fields
            question = asked(
                peer, fields, fields.kept, request.host, request.method, request.target
            )
            answer = judge(proxy, found, question)
            if answer is not None:
                found.stats.count(answer.status, 0.0)
                give(self, answer, found)
                return
            if policy.max_body is not None:
                self._limit = policy.max_body
            line, out = changed(
                self._connection.peer, found, policy, request.method, request.target, line, out
            )
        if self._limit and request.length > self._limit:
            raise HeadError(413, f"the body is larger than {self._limit} bytes")
        trace = b"" if self._traced else tracing.line(self._request_id, next(proxy.id_numbers))
        head = b"%b%bX-Request-Id: %b\r\n%b\r\n" % (line, out, self._request_id, trace)
        if question is None:
            exchange = Exchange(proxy, self, found, head, request.method, request.upgrade)
        else:
            exchange = exchange_for(proxy, self, found, question, head, request.upgrade)
        self._exchange = exchange
        exchange.start(b"", ended or bool(request.upgrade))

    def _lines(self, request: Request) -> bytes:
        """The header lines for the pod, but the request's id."""
        fields = request.fields
        framing = b""
        self._chunked = request.length == CHUNKED
        if self._chunked:
            framing = b"Transfer-Encoding: chunked\r\n"
        if request.upgrade:
            self._key = new_key()
            framing = b"Connection: Upgrade\r\nUpgrade: %b\r\nSec-WebSocket-Key: %b\r\n" % (
                request.upgrade,
                self._key,
            )
        elif fields.expects_continue:
            framing += b"Expect: 100-continue\r\n"
        return fields.kept + framing + lines(self._connection.peer, fields, request.host)

    def body(self, data: bytes, size: int) -> None:
        """Some of the body; `size` is what it takes of the window."""
        exchange = self._exchange
        if self._key:
            if exchange is not None:
                self._early.append((data, size))
            return
        self._seen += len(data)
        if self._limit and self._seen > self._limit:
            self._connection.take(size, self.number)
            if exchange is not None:
                exchange.refuse(413, f"the body is larger than {self._limit} bytes")
            return
        if exchange is not None and data:
            exchange.more(chunk(data) if self._chunked else data, False)
        if self._paused:
            self._held += size
        else:
            self._connection.take(size, self.number)

    def request_trailers(self, headers: Iterable[Header]) -> None:
        """What follows the body; it goes on where the pod's framing has a place for it."""
        try:
            self._request_trailers = http2_head.trailer_block(headers)
        except HeadError as error:
            if self._exchange is not None:
                self._exchange.refuse(error.status, error.reason)

    def request_ended(self) -> None:
        """The body's last byte is there."""
        if self._done:
            return
        self._done = True
        if self._exchange is not None and not self._key:
            ending = last_chunk(self._request_trailers) if self._chunked else b""
            self._exchange.more(ending, True)

    def pause_body(self) -> None:
        self._paused = True

    def resume_body(self) -> None:
        self._paused = False
        held, self._held = self._held, 0
        if held:
            self._connection.take(held, self.number)
            self._connection.flush()

    # The response

    def respond(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        if self._key and 200 <= head.status < 300:
            # In HTTP/2 this would mean that the pipe is there.
            exchange, self._exchange = self._exchange, None
            if exchange is not None:
                exchange.cancel()
            self.fail(Problem(502, "the pod did not switch to the protocol websocket"))
            return
        bare = end and len(data) == start
        self._headers(http2_head.response(head.status, head.kept), bare)
        if bare:
            # gRPC tells "no answer but its status" by the end being in the head.
            self._exchange = None
            self._over()
            self._connection.flush_soon()
        else:
            self._send(data[start:], end)

    def respond_whole(self, head: ResponseHead, data: bytes) -> None:
        self.respond(head, head.body, data, head.size, True)

    def more(self, data: bytes, end: bool) -> None:
        self._send(data, end)

    def trailers(self, block: bytes) -> None:
        self._trailers = http2_head.headers_of(block)

    def interim(self, head: ResponseHead) -> None:
        self._headers(http2_head.response(head.status, head.kept), False, interim=True)
        self._connection.flush_soon()

    def tunnel(self, head: ResponseHead, upstream: Upstream, first: bytes) -> None:
        self._exchange = None
        headers = http2_head.response(200, head.kept)
        name = b"sec-websocket-accept"
        answer = next((value for field, value in headers if field == name), b"")
        if not accepts(self._key, answer):
            upstream.transport.abort()
            self.fail(Problem(502, "the pod switched protocols without knowing the key"))
            return
        connection = self._connection
        self._headers([field for field in headers if field[0] != name], False)
        if self.number not in connection.streams:
            upstream.transport.abort()
            return
        pipe = connection.streams[self.number] = Http2Tunnel(connection, self.number, upstream)
        if first:
            pipe.write(first)
        for data, size in self._early:
            pipe.body(data, size)
        if self._done:
            pipe.request_ended()
        connection.flush_soon()

    def fail(self, problem: Problem) -> None:
        request_id = self._id()
        self._connection.proxy.note_problem(problem, self.describe())
        accept = field_value(self._request.fields.kept, b"accept") if self._request else b""
        kind, body = render(problem, request_id, accept)
        block = b"Content-Type: %b\r\nCache-Control: no-store\r\nX-Request-Id: %b\r\n%b"
        self.reply(
            problem.status, block % (kind, request_id.encode("latin-1"), problem.lines), body
        )

    def refuse(self, problem: Problem) -> None:
        """The head is malformed: the client is told why, and then that its stream has failed (RFC
        9113, section 8.1.1)."""
        self._malformed = True
        self.fail(problem)

    def reply(self, status: int, block: bytes, body: bytes) -> None:
        proxy = self._connection.proxy
        if self._exchange is None and proxy.sampled:
            proxy.log_answer(self, status, len(body))
        self._exchange = None
        head = http2_head.response(status, block)
        if status != 204:
            head.append((b"content-length", b"%d" % len(body)))
        if self._request is not None and self._request.method == b"HEAD":
            body = b""
        self._headers(head, False)
        self._send(body, True)

    def broken(self, problem: Problem) -> None:
        """A reset tells the client that something is missing."""
        self._exchange = None
        self._connection.proxy.note_problem(problem, self.describe())
        self._connection.reset(self.number, ErrorCodes.INTERNAL_ERROR)
        self._connection.over(self)
        self._connection.flush()

    def _headers(self, headers: list[Header], end: bool, *, interim: bool = False) -> None:
        self._answering = self._answering or not interim
        added = self._connection.added
        if added and not interim and added[0][0] not in dict(headers):
            headers = headers + added
        try:
            self._connection.h2.send_headers(self.number, headers, end_stream=end)
        except H2Error:
            # The client has reset the stream, or the pod's head is nothing for HTTP/2.
            self.cancel()
            self._connection.reset(self.number, ErrorCodes.INTERNAL_ERROR)
            self._connection.over(self)

    def _send(self, data: bytes, end: bool) -> None:
        if end:
            self._exchange = None
            self._ended = True
        if data:
            self._outbox.add((data,))
        self.push()
        self._connection.flush_soon()

    def push(self) -> None:
        """Hands over as much of the response as the windows let through."""
        if not self._answering or self._connection.write_paused:
            self._balance()
            return
        try:
            codec = self._connection.h2
            whole = self._ended and not self._malformed
            if self._outbox.send(codec, self.number, whole, self._trailers):
                self._over()
            elif self._malformed and not self._outbox.size:
                self._connection.reset(self.number, ErrorCodes.PROTOCOL_ERROR)
                self._connection.over(self)
        except H2Error:
            self.cancel()
            self._connection.over(self)
            return
        self._balance()

    def _over(self) -> None:
        """The response is out."""
        if not self._done:
            # The rest of the request is of no use to anybody (RFC 9113, section 8.1).
            self._connection.reset(self.number, ErrorCodes.NO_ERROR)
        self._connection.over(self)

    def _balance(self) -> None:
        """Holds the pod back while the client does not keep up."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._outbox.size > AHEAD and not self._holding:
            self._holding = True
            exchange.pause_response()
        elif (
            self._holding and self._outbox.size <= AHEAD // 2 and not self._connection.write_paused
        ):
            self._holding = False
            exchange.resume_response()

    def pause(self) -> None:
        """The client's socket is full."""
        if self._exchange is not None and not self._holding:
            self._holding = True
            self._exchange.pause_response()

    # The end

    def cancel(self) -> None:
        """The client is gone, or wants no answer any more."""
        exchange, self._exchange = self._exchange, None
        self._outbox.clear()
        if exchange is not None:
            exchange.cancel()

    def check(self, now: float) -> None:
        """Acts on the deadline where it has passed."""
        if self._exchange is not None:
            if self._exchange.deadline < now:
                self._exchange.expire()
        elif self._outbox.size != self._waited_for:
            self._waited_for, self._waited_since = self._outbox.size, now
        elif self._waited_since + self._connection.proxy.settings.body_timeout < now:
            # The pod is done, and the client opens no window for the rest.
            self.cancel()
            self._connection.reset(self.number, ErrorCodes.CANCEL)
            self._connection.over(self)

    def _id(self) -> str:
        if not self._request_id:
            self._request_id = self._connection.proxy.new_id()
        return self._request_id.decode("latin-1")

    def describe(self) -> dict[str, str]:
        request = self._request
        return {
            "client": self._connection.peer.address.decode(),
            "method": request.method.decode("latin-1") if request else "",
            "host": request.host.decode("latin-1") if request else "",
            "path": request.target.decode("latin-1") if request else "",
            "protocol": "HTTP/2.0",
            "request_id": self._id(),
        }

    def header(self, name: bytes) -> str:
        block = self._request.fields.kept if self._request else b""
        return field_value(block, name).decode("latin-1")
