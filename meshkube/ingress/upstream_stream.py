"""One request to a pod in HTTP/2: written to in HTTP/1.1, and answering in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshkube.ingress import http2_head
from meshkube.ingress.chunked import ChunkedBody, chunk, last_chunk
from meshkube.ingress.hpack import Headers
from meshkube.ingress.http1 import CHUNKED, HeadError
from meshkube.ingress.http2_errors import ErrorCodes, H2Error
from meshkube.ingress.http2_flow import Stream
from meshkube.ingress.http2_outbox import Outbox
from meshkube.ingress.response_head import NO_BODY

if TYPE_CHECKING:
    from meshkube.ingress.endpoints import Endpoint
    from meshkube.ingress.exchange import Exchange
    from meshkube.ingress.upstream_http2 import Http2Upstream

AHEAD = 131_072
"""Bytes of a request's body that may wait for the pod's window before the client is held back."""


class PodStream(Stream["Http2Upstream"]):
    """A `PodSide` of an exchange, and the transport that it writes to. The class holds the
    defaults."""

    answering = False
    """Whether some of the response is there."""
    write_paused = False
    """The pod does not keep up with the request's body."""
    _over = False
    # The request
    _chunks: ChunkedBody | None = None
    _left = 0
    _whole = False
    """All of the body has been written here."""
    _request_over = False
    """The pod has been told that it is."""
    _request_trailers = b""
    """Encoded."""
    # The response
    _framed = False
    """It goes on in chunks."""

    def __init__(self, connection: Http2Upstream) -> None:
        super().__init__(connection, 0)
        self.endpoint: Endpoint = connection.endpoint
        self.exchange: Exchange | None = None
        self._outbox = Outbox()

    @property
    def transport(self) -> PodStream:
        return self

    # The exchange's calls, as to a transport

    def write(self, data: bytes) -> None:
        if self._over:
            return
        if not self.number:
            end = data.index(b"\r\n\r\n")
            self._begin(data[: end + 2])
            data = data[end + 4 :]
        if data and not self._whole:
            self._body(data)
        self.push()
        self.link.flush_soon()

    def write_body(self, data: bytes, framed: bytes, end: bool, trailers: bytes) -> None:
        if self._over or self._whole:
            return
        if data:
            self._outbox.add(data)
        if end:
            self._whole = True
            self._request_trailers = http2_head.encoded_trailers(trailers)
        self.push()
        self.link.flush_soon()

    def abort(self) -> None:
        """The exchange wants no answer any more."""
        if self._over:
            return
        if not self.number:
            self._over = True
            self.link.unused()
            return
        self.link.reset(self.number, ErrorCodes.CANCEL)
        self._end()
        self.link.flush_soon()

    def release(self, reusable: bool) -> None:
        """It was not needed after all."""
        self.abort()

    # The request

    def _begin(self, head: bytes) -> None:
        connection = self.link
        block, length = http2_head.for_pod(head, connection.scheme)
        self.number = connection.begin(self, head.startswith(b"HEAD "))
        self._left = length
        self._whole = self._request_over = length == 0
        connection.h2.send_block(self.number, block, end_stream=self._whole)

    def _body(self, data: bytes) -> None:
        if self._left != CHUNKED:
            self._left -= len(data)
            self._whole = self._left <= 0
            self._outbox.add(data)
            return
        chunks = self._chunks = self._chunks or ChunkedBody()
        payload: list[bytes] = []
        # Whoever wrote this has checked it.
        chunks.feed(data, payload)
        for piece in payload:
            self._outbox.add(piece)
        self._whole = chunks.done
        if chunks.trailers:
            self._request_trailers = http2_head.encoded_trailers(chunks.trailers)

    def push(self) -> None:
        """Sends as much of the body as the windows let through."""
        if self._over or self._request_over or not self.number:
            return
        try:
            if not self.link.write_paused:
                self._request_over = self._outbox.send(
                    self.link.h2, self.number, self._whole, self._request_trailers
                )
        except H2Error:
            # The pod has ended the stream, or the connection: that is an event of its own.
            self._outbox.clear()
        if self._outbox.size or self.write_paused:
            self._balance()

    def _balance(self) -> None:
        """Holds the client back while the pod does not keep up."""
        exchange = self.exchange
        if exchange is None:
            return
        if self._outbox.size > AHEAD and not self.write_paused:
            self.write_paused = True
            exchange.downstream.pause_body()
        elif self.write_paused and self._outbox.size <= AHEAD // 2:
            self.write_paused = False
            exchange.downstream.resume_body()

    # The response

    def response(self, headers: Headers, ended: bool) -> None:
        """The head is there; `ended`: it is all there is."""
        exchange = self.exchange
        if exchange is None:
            return
        no_body = exchange.method == b"HEAD"
        try:
            head = http2_head.response_head(headers, ended and not no_body)
        except HeadError as error:
            self._broken(error.reason.removeprefix("it "))
            return
        length = head.length
        if no_body or head.status in NO_BODY:
            length = 0
        assert length is not None
        self.answering = True
        self._framed = length == CHUNKED and exchange.downstream.takes_chunks
        if ended:
            self._finish()
            exchange.respond(head, 0, b"", 0, True)
        else:
            exchange.respond(head, length, b"", 0, False)

    def interim(self, headers: Headers) -> None:
        if self.exchange is not None:
            try:
                self.exchange.interim(http2_head.response_head(headers, False))
            except HeadError as error:
                self._broken(error.reason.removeprefix("it "))

    def data(self, data: bytes, size: int, ended: bool) -> None:
        """Some of the body, perhaps its end; `size` is what it takes of the window."""
        exchange = self.exchange
        if exchange is None:
            return
        if ended:
            self._finish()
        elif size:
            self._passed(size)
        if self._framed:
            data = (chunk(data) if data else b"") + (last_chunk(b"") if ended else b"")
        if data or ended:
            exchange.respond_more(data, ended)

    def trailers(self, headers: Headers) -> None:
        """What follows the body; the response is whole."""
        exchange = self.exchange
        if exchange is None:
            return
        try:
            trailers = http2_head.trailer_block(headers)
        except HeadError as error:
            self._broken(error.reason)
            return
        self._finish()
        if trailers and not self._framed:
            exchange.downstream.trailers(trailers)
        exchange.respond_more(last_chunk(trailers) if self._framed else b"", True)

    # The end

    def _finish(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.upstream = None
        if not self._request_over:
            # The pod has answered without the rest of the request (RFC 9113, section 8.1).
            self.link.reset(self.number, ErrorCodes.NO_ERROR)
        self._end()

    def _end(self) -> None:
        self._over = True
        self.exchange = None
        self._outbox.clear()
        self.link.over(self.number)

    def _broken(self, reason: str) -> None:
        exchange, number = self.exchange, self.number
        self.link.reset(number, ErrorCodes.PROTOCOL_ERROR)
        self._end()
        if exchange is not None:
            exchange.upstream_failed(502, reason)

    def lost(self, reason: str, *, reused: bool, silent: bool = True) -> None:
        """The pod has ended this stream, or the whole connection."""
        exchange, answering = self.exchange, self.answering
        if self._over:
            return
        self._end()
        if exchange is None:
            return
        if answering:
            exchange.upstream_failed(502, reason.replace("without an answer", "in its response"))
        else:
            exchange.upstream_failed(502, reason, silent=silent, reused=reused)

    def untouched(self, reason: str) -> None:
        """The pod says that it has done nothing with the request."""
        exchange, served = self.exchange, self.link.served and self.link.leaving
        if self._over:
            return
        self._end()
        if exchange is not None:
            exchange.refused_by_pod(reason, reused=served)
