"""The client's side in HTTP/2: one connection, many requests side by side (RFC 9113).

The codec keeps the protocol's state; here are the streams as `Downstream`s, the flow of bytes both
ways, and what a client may ask of one connection.
"""

from __future__ import annotations

import asyncio
import struct
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from meshkube.ingress import http2_head
from meshkube.ingress.forwarded import Peer, lines
from meshkube.ingress.http1 import Fields, HeadError
from meshkube.ingress.http2_codec import Codec
from meshkube.ingress.http2_errors import ErrorCodes, ProtocolError, SettingCodes
from meshkube.ingress.http2_events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RequestReceived,
    RequestTooLarge,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from meshkube.ingress.http2_link import Http2Link
from meshkube.ingress.http2_patience import NOISE, Patience
from meshkube.ingress.http2_stream import Http2Stream
from meshkube.ingress.http2_tunnel import Http2Tunnel
from meshkube.ingress.problems import Problem
from meshkube.ingress.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STREAMS = 128
"""Requests of one client side by side."""
STREAM_WINDOW = 262_144
CONNECTION_WINDOW = 4 * STREAM_WINDOW
"""Bytes of bodies that one client may send before pods have taken them: what it can fill."""
RESETS, RESETS_BACK = 100.0, 10.0
"""Requests that a client may begin and reset, and how many more it earns back each second. What
goes beyond that is the "rapid reset" attack (CVE-2023-44487)."""
_LAST_STREAM = 2**31 - 1


class Http2Connection(Http2Link):
    """One client. A `ClientConnection` of the proxy."""

    peer: Peer

    def __init__(self, proxy: Proxy, port: int, scheme: bytes) -> None:
        super().__init__(Codec(client=False, settings=_settings(proxy)))
        self.proxy = proxy
        self._port = port
        self._scheme = scheme
        self.source: tuple[str, int] | None = None
        """The client's address, where a load balancer in front has said it."""
        self.added = tuple(http2_head.headers_of(proxy.hsts) if scheme == b"https" else ())
        """For every response."""
        self.streams: dict[int, Http2Stream | Http2Tunnel] = {}
        self._lines, self._lines_host = b"", b"\0"
        """The X-Forwarded-* lines, and the Host they were made for."""
        self.deadline = 0.0
        """While there is no request; 0: not set yet."""
        self._resets = RESETS
        self._resets_at = 0.0
        self._leaving = False

    # The event loop's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        proxy = self.proxy
        self.peer = proxy.peer(transport, self._port, self._scheme, self.source)
        proxy.connections += 1
        proxy.clients.add(self)
        self._resets_at = monotonic()
        self._patience = Patience(self._resets_at)
        self.deadline = monotonic() + proxy.settings.head_timeout
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self.flush()
        if len(proxy.clients) > proxy.settings.max_connections:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM)

    def data_received(self, data: bytes) -> None:
        try:
            events = self.h2.receive_data(data)
            self._handle(events)
        except ProtocolError:
            # The GOAWAY that says why is among what is to be sent.
            self.flush()
            self.transport.close()
            return
        self.flush()
        if self.h2.noise > NOISE and self._patience.ends(self.h2, monotonic()):
            self._end(ErrorCodes.ENHANCE_YOUR_CALM)

    def eof_received(self) -> None:
        """The end of the client is the end of its requests."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.gone(self)
        streams, self.streams = self.streams, {}
        for stream in streams.values():
            stream.cancel()

    def pause_writing(self) -> None:
        """The client reads too slowly: nothing more is taken from it, or made for it."""
        self.write_paused = True
        self.transport.pause_reading()
        for stream in self.streams.values():
            stream.pause()

    def resume_writing(self) -> None:
        self.write_paused = False
        self.transport.resume_reading()
        for stream in tuple(self.streams.values()):
            stream.push()
        self.flush()

    # What the client says

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _request(self, event: RequestReceived) -> None:
        number = event.stream_id
        stream = Http2Stream(self, number)
        if self._leaving or self.proxy.draining:
            self.reset(number, ErrorCodes.REFUSED_STREAM)
            return
        self.streams[number] = stream
        ended = event.stream_ended
        try:
            request = http2_head.request(event.headers, ended)
        except HeadError as error:
            problem = Problem(error.status, error.reason)
            (stream.refuse if error.status == 400 else stream.fail)(problem)
            return
        try:
            stream.begin(request, ended)
        except HeadError as error:
            stream.fail(Problem(error.status, error.reason))

    def _too_large(self, event: RequestTooLarge) -> None:
        stream = Http2Stream(self, event.stream_id)
        self.streams[event.stream_id] = stream
        most = self.proxy.settings.max_head
        stream.fail(Problem(431, f"the header fields are larger than {most} bytes"))

    def _data(self, event: DataReceived) -> None:
        number, data, size, ended = event
        stream = self.streams.get(number)
        if stream is None:
            # Refused already, and still on its way: the connection's window must not shrink.
            self.take(size, number)
        else:
            stream.body(data, size, ended)

    def _trailers(self, event: TrailersReceived) -> None:
        if (stream := self.streams.get(event.stream_id)) is not None:
            stream.request_trailers(event.headers)

    def _window(self, event: WindowUpdated) -> None:
        if event.stream_id:
            if (stream := self.streams.get(event.stream_id)) is not None:
                stream.push()
            return
        for stream in tuple(self.streams.values()):
            stream.push()

    def _terminated(self, event: ConnectionTerminated) -> None:
        self._leaving = True
        self._leave_when_idle()

    def _reset(self, event: StreamReset) -> None:
        stream = self.streams.pop(event.stream_id, None)
        if stream is not None:
            stream.cancel()
        # Ours count too: a client can make us reset what it began (CVE-2025-8671).
        now = monotonic()
        earned = (now - self._resets_at) * RESETS_BACK
        self._resets = min(RESETS, self._resets + earned) - 1
        self._resets_at = now
        if self._resets < 0:
            self._end(ErrorCodes.ENHANCE_YOUR_CALM)
        self._leave_when_idle()

    # What streams need

    def forwarded(self, fields: Fields, host: bytes) -> bytes:
        """The header lines that tell a pod who asks."""
        if self.peer.trusted or host != self._lines_host:
            self._lines = lines(self.peer, fields, host)
            self._lines_host = host
        return self._lines

    def over(self, stream: Http2Stream | Http2Tunnel) -> None:
        """A stream has said all."""
        self.streams.pop(stream.number, None)
        if not self.streams:
            # The sweep sets it anew.
            self.deadline = 0.0
        self._leave_when_idle()

    def _leave_when_idle(self) -> None:
        if self._leaving and not self.streams:
            self.flush()
            self.transport.close()

    def _end(self, code: ErrorCodes) -> None:
        self._goaway(code)
        self.transport.close()

    def _goaway(self, code: ErrorCodes) -> None:
        # What is under way may finish.
        last = self.h2.highest_inbound_stream_id if code else _LAST_STREAM
        self.flush()
        frame = b"\x00\x00\x08\x07\x00" + struct.pack("!III", 0, last, code)
        if not self.transport.is_closing():
            self.transport.write(frame)

    # What the proxy asks

    def check(self, now: float) -> None:
        for stream in tuple(self.streams.values()):
            stream.check(now)
        self.flush()
        if self.streams:
            return
        if not self.deadline:
            self.deadline = now + self.proxy.settings.keep_alive_timeout
        elif self.deadline < now:
            if self.transport.is_closing() or self.write_paused:
                # Its farewell waits behind what the client does not read.
                self.transport.abort()
                return
            self.deadline = now + self.proxy.settings.linger
            self._end(ErrorCodes.NO_ERROR)

    def drain(self) -> None:
        self._leaving = True
        self._goaway(ErrorCodes.NO_ERROR)
        for stream in tuple(self.streams.values()):
            if isinstance(stream, Http2Tunnel):
                stream.drain()
        self._leave_when_idle()

    def abort(self) -> None:
        self.transport.abort()


def _settings(proxy: Proxy) -> dict[SettingCodes, int]:
    """What we tell every client."""
    return {
        SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
        SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: proxy.settings.max_head,
        SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
    }


_HANDLERS: dict[type[Event], Callable[[Http2Connection, Any], None]] = {
    RequestReceived: Http2Connection._request,
    RequestTooLarge: Http2Connection._too_large,
    DataReceived: Http2Connection._data,
    TrailersReceived: Http2Connection._trailers,
    WindowUpdated: Http2Connection._window,
    StreamReset: Http2Connection._reset,
    ConnectionTerminated: Http2Connection._terminated,
}
