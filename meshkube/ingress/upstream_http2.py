"""The pod's side in HTTP/2: one connection, many requests side by side (RFC 9113).

An exchange writes to a stream what it would write to a connection in HTTP/1.1; the stream makes
frames of it, and of the pod's frames what a response in HTTP/1.1 would have been. So nothing else
has to know in which version a pod is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from meshkube.ingress.backends import Backend
from meshkube.ingress.endpoints import Endpoint
from meshkube.ingress.http2_codec import Codec
from meshkube.ingress.http2_errors import (
    ErrorCodes,
    ProtocolError,
    SettingCodes,
    error_name,
)
from meshkube.ingress.http2_events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from meshkube.ingress.http2_link import Http2Link
from meshkube.ingress.http2_patience import NOISE, Patience
from meshkube.ingress.settings import Settings
from meshkube.ingress.upstream import watch_over
from meshkube.ingress.upstream_stream import PodStream

if TYPE_CHECKING:
    from meshkube.ingress.exchange import Exchange

STREAMS = 128
"""Requests side by side on one connection, where the pod allows more."""
STREAM_WINDOW = 262_144
"""Bytes of a response that wait here for a slow client."""
CONNECTION_WINDOW = 16 * 1_048_576
"""It is given back at once: a slow client holds up its own stream and no other."""
_OWED = 1_048_576
_LAST_NUMBER = 2**31 - 2 * STREAMS

Ready = Callable[["Http2Upstream | None", str], None]


class Http2Upstream(Http2Link):
    """One connection to a pod."""

    def __init__(self, endpoint: Endpoint, settings: Settings, ready: Ready) -> None:
        """`ready` is called once: with this connection when the pod has said its settings, or with
        None and why not."""
        told = {
            SettingCodes.ENABLE_PUSH: 0,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            SettingCodes.MAX_HEADER_LIST_SIZE: settings.max_head,
        }
        super().__init__(Codec(client=True, settings=told))
        self.endpoint = endpoint
        self.settings = settings
        self.scheme = b"https" if endpoint.via.tls is not None else b"http"
        self._ready: Ready | None = ready
        self._given = 0
        """Streams handed out that have no number yet."""
        self.streams: dict[int, PodStream] = {}
        self.leaving = False
        """No new requests on this one."""
        self.served = False
        """It has answered: when it ends now, that says nothing about the pod."""
        self.idle_since = monotonic()
        self._owed = 0
        self._patience = Patience(self.idle_since)

    # The event loop's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        if connection is not None:
            watch_over(connection, self.settings.silence_timeout)
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(CONNECTION_WINDOW - 65_535)
        self.flush()

    def data_received(self, data: bytes) -> None:
        try:
            self._handle(self.h2.receive_data(data))
        except ProtocolError as error:
            if self._ready is not None:
                self._settle("it does not speak HTTP/2")
            self.end(f"broke the rules of HTTP/2 ({error})")
            return
        self.flush()
        if self.h2.noise > NOISE and self._patience.ends(self.h2, monotonic()):
            self.end("sent a flood of frames that say nothing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.endpoint.connections.discard(self)
        if self._ready is not None:
            self._settle("it closed the connection before it said its settings")
        how = "closed the connection without an answer"
        if silent := isinstance(exc, TimeoutError):
            how = "was not heard of any more"
            self.endpoint.failed(monotonic(), self.settings)
        self.leaving = True
        for stream in self._taken():
            stream.lost(how, reused=self.served and not silent)

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        self._push_all()

    # What the pod says

    def _handle(self, events: Iterable[Event]) -> None:
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)

    def _settings_changed(self, event: RemoteSettingsChanged) -> None:
        if self._ready is not None:
            self._settle("")
        self._push_all()

    def _window(self, event: WindowUpdated) -> None:
        if not event.stream_id:
            self._push_all()
        elif (stream := self.streams.get(event.stream_id)) is not None:
            stream.push()

    def _response(self, event: ResponseReceived) -> None:
        self.served = True
        if (stream := self.streams.get(event.stream_id)) is not None:
            stream.response(event.headers, event.stream_ended)

    def _interim(self, event: InformationalResponseReceived) -> None:
        if (stream := self.streams.get(event.stream_id)) is not None:
            stream.interim(event.headers)

    def _data(self, event: DataReceived) -> None:
        number, data, size, ended = event
        self._owed += size
        if self._owed >= _OWED:
            self.h2.increment_flow_control_window(self._owed)
            self._owed = 0
        if (stream := self.streams.get(number)) is not None:
            stream.data(data, size, ended)

    def _trailers(self, event: TrailersReceived) -> None:
        if (stream := self.streams.get(event.stream_id)) is not None:
            stream.trailers(event.headers)

    def _reset(self, event: StreamReset) -> None:
        stream = self.streams.get(event.stream_id)
        if stream is None:
            return
        if event.error_code == ErrorCodes.REFUSED_STREAM:
            stream.untouched("refused the request")
        else:
            stream.lost(f"reset the request ({error_name(event.error_code)})", reused=False)

    def _settle(self, problem: str) -> None:
        ready, self._ready = self._ready, None
        assert ready is not None
        if problem:
            self.leaving = True
            ready(None, problem)
        else:
            self.endpoint.connections.add(self)
            ready(self, "")

    def _go_away(self, event: ConnectionTerminated) -> None:
        """Nothing new goes here; what the pod has not begun goes elsewhere, whatever it is."""
        self.leaving = True
        # A pod that has begun some takes requests, even where none is answered yet.
        self.served = self.served or event.last_stream_id > 0
        for number, stream in tuple(self.streams.items()):
            if number > event.last_stream_id:
                stream.untouched(f"went away ({error_name(event.error_code)})")
        self._leave_when_idle()

    def _push_all(self) -> None:
        for stream in tuple(self.streams.values()):
            stream.push()
        self.flush()

    # What streams need

    @property
    def room(self) -> int:
        """How many more requests this connection can take now."""
        if self.leaving or self.transport.is_closing():
            return 0
        limit = min(STREAMS, self.h2.max_concurrent_streams)
        return limit - len(self.streams) - self._given

    def stream(self) -> PodStream:
        """For one request."""
        self._given += 1
        return PodStream(self)

    def take(self, size: int, number: int) -> None:
        # The window of the connection is given back at once.
        self.h2.acknowledge_of_stream(size, number)

    def begin(self, stream: PodStream, bodiless: bool) -> int:
        """The number of a stream that begins now; `bodiless`: the response has but a head."""
        self._given -= 1
        number = self.h2.begin_stream(bodiless=bodiless)
        self.streams[number] = stream
        if number > _LAST_NUMBER:
            self.leaving = True
        return number

    def unused(self) -> None:
        """A stream that was handed out will not begin."""
        self._given -= 1

    def over(self, number: int) -> None:
        """A stream has ended."""
        self.streams.pop(number, None)
        if not self.streams:
            self.idle_since = monotonic()
        self._leave_when_idle()

    def end(self, reason: str) -> None:
        """Nothing that comes from here can be trusted any more."""
        self.leaving = True
        self.flush()
        self.transport.close()
        for stream in self._taken():
            stream.lost(reason, reused=False, silent=False)

    def _taken(self) -> list[PodStream]:
        streams, self.streams = list(self.streams.values()), {}
        return streams

    def _leave_when_idle(self) -> None:
        if self.leaving and not self.streams and not self._given:
            self.flush()
            self.transport.close()

    # What the pool asks

    def left(self, backend: Backend) -> None:
        """The pod does not serve this backend any longer."""
        for stream in tuple(self.streams.values()):
            exchange: Exchange | None = stream.exchange
            if exchange is not None and exchange.route.backend is backend:
                exchange.pod_left()
        self.sweep(monotonic())

    def sweep(self, oldest: float) -> None:
        """Closes the connection if it was unused since before `oldest`."""
        if not self.streams and not self._given and self.idle_since < oldest:
            self.leaving = True
            self.transport.close()


_HANDLERS: dict[type[Event], Callable[[Http2Upstream, Any], None]] = {
    RemoteSettingsChanged: Http2Upstream._settings_changed,
    WindowUpdated: Http2Upstream._window,
    ResponseReceived: Http2Upstream._response,
    InformationalResponseReceived: Http2Upstream._interim,
    DataReceived: Http2Upstream._data,
    TrailersReceived: Http2Upstream._trailers,
    StreamReset: Http2Upstream._reset,
    ConnectionTerminated: Http2Upstream._go_away,
}
