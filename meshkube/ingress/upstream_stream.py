"""One request to a pod in HTTP/2: written to in HTTP/1.1, and answering in it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from meshkube.ingress import http2_head
from meshkube.ingress.chunked import ChunkedBody, chunk, last_chunk
from meshkube.ingress.http1 import CHUNKED, HeadError
from meshkube.ingress.http2_errors import ErrorCodes, H2Error
from meshkube.ingress.http2_head import Header
from meshkube.ingress.http2_outbox import Outbox
from meshkube.ingress.response_head import NO_BODY

if TYPE_CHECKING:
    from meshkube.ingress.endpoints import Endpoint
    from meshkube.ingress.exchange import Exchange
    from meshkube.ingress.upstream_http2 import Http2Upstream

AHEAD = 131_072
"""Bytes of a request's body that may wait for the pod's window before the client is held back."""


class PodStream:
    """A `PodSide` of an exchange, and the transport that it writes to."""

    def __init__(self, connection: Http2Upstream) -> None:
        self.connection = connection
        self.endpoint: Endpoint = connection.endpoint
        self.exchange: Exchange | None = None
        self.answering = False
        """Whether some of the response is there."""
        self.write_paused = False
        """The pod does not keep up with the request's body."""
        self._number = 0
        self._over = False
        # The request
        self._chunks: ChunkedBody | None = None
        self._left = 0
        self._whole = False
        """All of the body has been written here."""
        self._request_over = False
        """The pod has been told that it is."""
        self._outbox = Outbox()
        # The response
        self._framed = False
        self._trailers = b""
        self._reading_paused = False
        self._held = 0
        """Bytes that the client has not taken: the pod's window stays as much smaller."""

    @property
    def transport(self) -> PodStream:
        return self

    # The exchange's calls, as to a transport

    def write(self, data: bytes) -> None:
        if self._over:
            return
        if not self._number:
            end = data.index(b"\r\n\r\n")
            self._begin(data[: end + 2])
            data = data[end + 4 :]
        if data and not self._whole:
            self._body(data)
        self.push()
        self.connection.flush_soon()

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        held, self._held = self._held, 0
        if held and not self._over:
            self._give_back(held)
            self.connection.flush_soon()

    def abort(self) -> None:
        """The exchange wants no answer any more."""
        if self._over:
            return
        if not self._number:
            self._over = True
            self.connection.unused()
            return
        self.connection.reset(self._number, ErrorCodes.CANCEL)
        self._end()
        self.connection.flush_soon()

    def release(self, reusable: bool) -> None:
        """It was not needed after all."""
        self.abort()

    # The request

    def _begin(self, head: bytes) -> None:
        connection = self.connection
        headers, length = http2_head.for_pod(head, connection.scheme)
        self._number = connection.begin(self)
        self._left = length
        self._whole = self._request_over = length == 0
        self._chunks = ChunkedBody() if length == CHUNKED else None
        connection.h2.send_headers(self._number, headers, end_stream=self._whole)

    def _body(self, data: bytes) -> None:
        chunks = self._chunks
        if chunks is None:
            self._left -= len(data)
            self._whole = self._left <= 0
            self._outbox.add((data,))
            return
        payload: list[bytes] = []
        # Whoever wrote this has checked it.
        chunks.feed(data, payload)
        self._outbox.add(payload)
        self._whole = chunks.done

    def push(self) -> None:
        """Sends as much of the body as the windows let through."""
        if self._over or self._request_over or not self._number:
            return
        try:
            if not self.connection.write_paused:
                self._fill_window()
        except H2Error:
            # The pod has ended the stream, or the connection: that is an event of its own.
            self._outbox.clear()
        self._balance()

    def _fill_window(self) -> None:
        trailers = []
        if self._chunks is not None and self._chunks.trailers:
            trailers = http2_head.headers_of(self._chunks.trailers)
        codec = self.connection.h2
        self._request_over = self._outbox.send(codec, self._number, self._whole, trailers)

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

    def response(self, headers: Iterable[Header], *, ended: bool) -> None:
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

    def interim(self, headers: Iterable[Header]) -> None:
        if self.exchange is not None:
            try:
                self.exchange.interim(http2_head.response_head(headers, False))
            except HeadError as error:
                self._broken(error.reason.removeprefix("it "))

    def data(self, data: bytes, size: int) -> None:
        """Some of the body; `size` is what it takes of the window."""
        exchange = self.exchange
        if exchange is not None and data:
            exchange.respond_more(chunk(data) if self._framed else data, False)
        if self._over or not size:
            return
        if self._reading_paused:
            self._held += size
        else:
            self._give_back(size)

    def trailers(self, headers: Iterable[Header]) -> None:
        try:
            self._trailers = http2_head.trailer_block(headers)
        except HeadError as error:
            self._broken(error.reason)

    def ended(self) -> None:
        """The response is whole."""
        exchange = self.exchange
        if exchange is None or self._over:
            return
        trailers = self._trailers
        self._finish()
        if trailers and not self._framed:
            exchange.downstream.trailers(trailers)
        exchange.respond_more(last_chunk(trailers) if self._framed else b"", True)

    def _give_back(self, size: int) -> None:
        try:
            self.connection.h2.increment_flow_control_window(size, self._number)
        except H2Error:
            return

    # The end

    def _finish(self) -> None:
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.upstream = None
        if not self._request_over:
            # The pod has answered without the rest of the request (RFC 9113, section 8.1).
            self.connection.reset(self._number, ErrorCodes.NO_ERROR)
        self._end()

    def _end(self) -> None:
        self._over = True
        self.exchange = None
        self._outbox.clear()
        self.connection.over(self._number)

    def _broken(self, reason: str) -> None:
        exchange, number = self.exchange, self._number
        self.connection.reset(number, ErrorCodes.PROTOCOL_ERROR)
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
        exchange, served = self.exchange, self.connection.served and self.connection.leaving
        if self._over:
            return
        self._end()
        if exchange is not None:
            exchange.refused_by_pod(reason, reused=served)
