"""One request in HTTP/2: a `Downstream` whose bytes go through the windows of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshkube.ingress import hpack, http2_head, tracing
from meshkube.ingress.admission import give, judge
from meshkube.ingress.chunked import chunk, last_chunk
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.forwarded import sane_id
from meshkube.ingress.hpack import Header, Headers
from meshkube.ingress.http1 import CHUNKED, HeadError, field_value
from meshkube.ingress.http2_errors import ErrorCodes, H2Error
from meshkube.ingress.http2_flow import Stream
from meshkube.ingress.http2_head import Request
from meshkube.ingress.http2_outbox import Outbox
from meshkube.ingress.http2_tunnel import Http2Tunnel, accepts, new_key
from meshkube.ingress.managed import exchange_for
from meshkube.ingress.outgoing import asked, changed
from meshkube.ingress.policies import Asked
from meshkube.ingress.problems import Problem, render
from meshkube.ingress.route import Miss

if TYPE_CHECKING:
    from meshkube.ingress.http2 import Http2Connection
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.upstream import Upstream

AHEAD = 262_144
"""Bytes of a response that may wait for the client's window before the pod is held back."""


class Http2Stream(Stream["Http2Connection"]):
    """One request and its response. The class holds the defaults: most requests say little."""

    takes_chunks = False

    _request_id = b""
    _traced = True
    """The client has begun a trace, or nobody wants one."""
    # The request's body
    _unframed = False
    """Nobody has said how long it is."""
    _done = False
    """Its last byte is there."""
    _seen = _limit = 0
    # The response's
    _answering = _ended = _holding = False
    _trailers = b""
    """Encoded."""
    _malformed = False
    """The response is followed by a reset that says so."""
    _waited_for = -1
    _waited_since = 0.0
    # Of a WebSocket
    _key = b""

    def __init__(self, connection: Http2Connection, number: int) -> None:
        super().__init__(connection, number)
        self._exchange: Exchange | None = None
        self._request: Request | None = None
        self._outbox = Outbox()
        self._early: list[tuple[bytes, int]] = []
        """What came of it before the pod has agreed, and what that takes of the window."""

    # The request

    def begin(self, request: Request, ended: bool) -> None:
        """Starts the exchange. Raises `HeadError`."""
        proxy = self.link.proxy
        self._request = request
        self._done = ended
        fields = request.fields
        given = fields.request_id
        self._request_id = (given and sane_id(given)) or proxy.new_id()
        kept = fields.kept
        if proxy.tracing:
            kept, self._traced = tracing.checked(kept)
        found = proxy.lookup(request.host, request.target)
        if isinstance(found, Miss):
            self.fail(Problem(404, found.reason))
            return
        self._limit = proxy.settings.max_body
        line = b"%b %b HTTP/1.1\r\n" % (request.method, request.target)
        out = kept + self._framing(request) + self.link.forwarded(fields, request.host)
        policy = found.policy
        question: Asked | None = None
        if policy is not None:
            peer = self.link.peer
            question = asked(peer, fields, kept, request.host, request.method, request.target)
            answer = judge(proxy, found, question)
            if answer is not None:
                found.stats.count(answer.status, 0.0)
                give(self, answer, found)
                return
            if policy.max_body is not None:
                self._limit = policy.max_body
            line, out = changed(
                self.link.peer, found, policy, request.method, request.target, line, out
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

    def _framing(self, request: Request) -> bytes:
        """The header lines that tell the pod how the body comes."""
        self._unframed = request.length == CHUNKED
        if request.upgrade:
            self._key = new_key()
            return b"Connection: Upgrade\r\nUpgrade: %b\r\nSec-WebSocket-Key: %b\r\n" % (
                request.upgrade,
                self._key,
            )
        framing = b"Transfer-Encoding: chunked\r\n" if self._unframed else b""
        return framing + b"Expect: 100-continue\r\n" if request.fields.expects_continue else framing

    def body(self, data: bytes, size: int, ended: bool) -> None:
        """Some of the body, perhaps its end; `size` is what it takes of the window."""
        exchange = self._exchange
        if self._key:
            self._done = self._done or ended
            if exchange is not None:
                self._early.append((data, size))
            return
        self._seen += len(data)
        if self._limit and self._seen > self._limit:
            self.link.take(size, self.number)
            self._done = self._done or ended
            if exchange is not None:
                exchange.refuse(413, f"the body is larger than {self._limit} bytes")
            return
        self._more(data, ended)
        self._passed(size)

    def _more(self, data: bytes, ended: bool, trailers: bytes = b"") -> None:
        self._done = ended
        exchange = self._exchange
        if exchange is None or not (data or ended):
            return
        if self._unframed:
            framed = chunk(data) if data else b""
            if ended:
                framed += last_chunk(trailers)
            exchange.more_unframed(data, framed, ended, trailers)
        else:
            exchange.more(data, ended)

    def request_trailers(self, headers: Headers) -> None:
        """What follows the body; it goes on where the pod's framing has a place for it."""
        if self._key:
            self._done = True
            return
        try:
            trailers = http2_head.trailer_block(headers)
        except HeadError as error:
            self._done = True
            if self._exchange is not None:
                self._exchange.refuse(error.status, error.reason)
        else:
            self._more(b"", True, trailers)

    pause_body = Stream.pause_reading
    resume_body = Stream.resume_reading

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
        self._send_head(http2_head.encoded_response(head.status, head.kept, self.link.added), bare)
        if bare:
            # gRPC tells "no answer but its status" by the end being in the head.
            self._exchange = None
            self._over()
            self.link.flush_soon()
        else:
            self._send(data[start:], end)

    def respond_whole(self, head: ResponseHead, data: bytes) -> None:
        self.respond(head, head.body, data, head.size, True)

    def more(self, data: bytes, end: bool) -> None:
        self._send(data, end)

    def trailers(self, block: bytes) -> None:
        self._trailers = http2_head.encoded_trailers(block)

    def interim(self, head: ResponseHead) -> None:
        answering = self._answering
        self._send_head(http2_head.encoded_response(head.status, head.kept, ()), False)
        self._answering = answering
        self.link.flush_soon()

    def tunnel(self, head: ResponseHead, upstream: Upstream, first: bytes) -> None:
        self._exchange = None
        headers = http2_head.response(200, head.kept)
        name = b"sec-websocket-accept"
        answer = next((value for field, value in headers if field == name), b"")
        if not accepts(self._key, answer):
            upstream.transport.abort()
            self.fail(Problem(502, "the pod switched protocols without knowing the key"))
            return
        connection = self.link
        self._headers([field for field in headers if field[0] != name])
        if self.number not in connection.streams:
            upstream.transport.abort()
            return
        pipe = connection.streams[self.number] = Http2Tunnel(connection, self.number, upstream)
        if first:
            pipe.write(first)
        for data, size in self._early:
            pipe.body(data, size, False)
        if self._done:
            pipe.request_ended()
        connection.flush_soon()

    def fail(self, problem: Problem) -> None:
        request_id = self._id()
        self.link.proxy.note_problem(problem, self.describe())
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
        proxy = self.link.proxy
        if self._exchange is None and proxy.sampled:
            proxy.log_answer(self, status, len(body))
        self._exchange = None
        head = http2_head.response(status, block)
        if status != 204:
            head.append((b"content-length", b"%d" % len(body)))
        if self._request is not None and self._request.method == b"HEAD":
            body = b""
        self._headers(head)
        self._send(body, True)

    def broken(self, problem: Problem) -> None:
        """A reset tells the client that something is missing."""
        self._exchange = None
        self.link.proxy.note_problem(problem, self.describe())
        self.link.reset(self.number, ErrorCodes.INTERNAL_ERROR)
        self.link.over(self)
        self.link.flush()

    def _headers(self, headers: list[Header]) -> None:
        self._send_head(hpack.encode(http2_head.with_added(headers, self.link.added)), False)

    def _send_head(self, block: bytes, end: bool) -> None:
        self._answering = True
        try:
            self.link.h2.send_block(self.number, block, end_stream=end)
        except H2Error:
            # The client has reset the stream.
            self.cancel()
            self.link.reset(self.number, ErrorCodes.INTERNAL_ERROR)
            self.link.over(self)

    def _send(self, data: bytes, end: bool) -> None:
        if end:
            self._exchange = None
            self._ended = True
        if data:
            self._outbox.add(data)
        if data or end:
            self.push()
        self.link.flush_soon()

    def push(self) -> None:
        """Hands over as much of the response as the windows let through."""
        if not self._answering or self.link.write_paused:
            self._balance()
            return
        try:
            codec = self.link.h2
            whole = self._ended and not self._malformed
            if self._outbox.send(codec, self.number, whole, self._trailers):
                self._over()
            elif self._malformed and not self._outbox.size:
                self.link.reset(self.number, ErrorCodes.PROTOCOL_ERROR)
                self.link.over(self)
        except H2Error:
            self.cancel()
            self.link.over(self)
            return
        if self._outbox.size or self._holding:
            self._balance()

    def _over(self) -> None:
        """The response is out."""
        if not self._done:
            # The rest of the request is of no use to anybody (RFC 9113, section 8.1).
            self.link.reset(self.number, ErrorCodes.NO_ERROR)
        self.link.over(self)

    def _balance(self) -> None:
        """Holds the pod back while the client does not keep up."""
        exchange = self._exchange
        if exchange is None:
            return
        if self._outbox.size > AHEAD and not self._holding:
            self._holding = True
            exchange.pause_response()
        elif self._holding and self._outbox.size <= AHEAD // 2 and not self.link.write_paused:
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
        elif self._waited_since + self.link.proxy.settings.body_timeout < now:
            # The pod is done, and the client opens no window for the rest.
            self.cancel()
            self.link.reset(self.number, ErrorCodes.CANCEL)
            self.link.over(self)

    def _id(self) -> str:
        if not self._request_id:
            self._request_id = self.link.proxy.new_id()
        return self._request_id.decode("latin-1")

    def describe(self) -> dict[str, str]:
        request = self._request
        return {
            "client": self.link.peer.address.decode(),
            "method": request.method.decode("latin-1") if request else "",
            "host": request.host.decode("latin-1") if request else "",
            "path": request.target.decode("latin-1") if request else "",
            "protocol": "HTTP/2.0",
            "request_id": self._id(),
        }

    def header(self, name: bytes) -> str:
        block = self._request.fields.kept if self._request else b""
        return field_value(block, name).decode("latin-1")
