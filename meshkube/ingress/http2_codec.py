"""One HTTP/2 connection as bytes in, events out, and bytes to send: frames, windows and the states
of streams (RFC 9113). Pure; both sides.

The package h2 does the same at several times the CPU. What is not needed here is not in it: server
push, priorities, upgrades from HTTP/1.
"""

from __future__ import annotations

import struct

from meshkube.ingress import hpack
from meshkube.ingress.hpack import Headers
from meshkube.ingress.http2_control import Control
from meshkube.ingress.http2_errors import ErrorCodes, ProtocolError, StreamError
from meshkube.ingress.http2_events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    RequestReceived,
    RequestTooLarge,
    ResponseReceived,
    StreamReset,
    TrailersReceived,
)
from meshkube.ingress.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    GOAWAY,
    HEADER,
    HEADERS,
    PADDED,
    PREFACE,
    SETTINGS,
    WITH_PRIORITY,
    check_dependency,
    unpadded,
)
from meshkube.ingress.http2_rules import check_trailers, checked_request, checked_response
from meshkube.ingress.http2_sending import USEFUL, StreamState

CONTINUATIONS = 8
"""Frames that one header list may go on for: more is a flood (CVE-2024-27316)."""


class Codec(Control):
    """One connection, seen from one side."""

    # What we are sent

    def receive_data(self, data: bytes) -> list[Event]:
        """What these bytes, after those before, mean. Raises `ProtocolError`."""
        events: list[Event] = []
        if self._over:
            return events
        data = self._in + data if self._in else data
        try:
            at = self._skip_preface(data)
            end = 0 if self._preface else len(data)
            while end - at >= 9:
                high, low, kind, flags, number = HEADER.unpack_from(data, at)
                size = high << 8 | low
                if size > FRAME:
                    raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a frame is too large")
                if end - at - 9 < size:
                    break
                payload = data[at + 9 : at + 9 + size]
                at += 9 + size
                self._take(kind, flags, number & 0x7FFFFFFF, payload, events)
            self._in = data[at:]
        except ProtocolError as error:
            self._over = True
            self._streams.clear()
            last = self.highest_inbound_stream_id
            self._frame(GOAWAY, 0, 0, struct.pack("!II", last, error.code))
            raise
        return events

    def _skip_preface(self, data: bytes) -> int:
        if not self._preface:
            return 0
        size = min(len(data), len(PREFACE))
        if data[:size] != PREFACE[:size]:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no preface of HTTP/2")
        if size < len(PREFACE):
            return 0
        self._preface = b""
        return size

    def _take(
        self, kind: int, flags: int, number: int, payload: bytes, events: list[Event]
    ) -> None:
        if self._block is not None and (kind != CONTINUATION or number != self._block_of):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a header list is interrupted")
        if not self._settled and kind != SETTINGS:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no settings come first")
        try:
            if kind == DATA:
                self._data(flags, number, payload, events)
            elif kind == HEADERS:
                self._headers(flags, number, payload, events)
            else:
                self.noise += 1
                if kind < len(_CONTROL):
                    _CONTROL[kind](self, flags, number, payload, events)
        except StreamError as error:
            self._forget(number, error.code)
            events.append(StreamReset(number, error.code))

    def _data(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        size = len(payload)
        self._in_window -= size
        if self._in_window < 0:
            raise ProtocolError(ErrorCodes.FLOW_CONTROL_ERROR, "more than the window holds")
        stream = self._streams.get(number)
        if stream is None or not stream.in_open or not stream.head_seen:
            self._stray(number, stream)
            self.acknowledge_received_data(size, 0)
            return
        stream.in_window -= size
        if stream.in_window < 0:
            raise StreamError(ErrorCodes.FLOW_CONTROL_ERROR)
        data = unpadded(payload) if flags & PADDED else payload
        if not data:
            self.noise += 1
        if stream.expected >= 0:
            stream.expected -= len(data)
            if stream.expected < 0:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        ended = bool(flags & END_STREAM)
        if ended:
            if stream.expected > 0:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
            self._end_in(number, stream)
        events.append(DataReceived(number, data, size, ended))

    def _stray(self, number: int, stream: StreamState | None) -> None:
        """A frame of a stream that is not open for it."""
        if self._is_idle(number) or (stream is not None and stream.in_open):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a frame of no stream")
        if stream is not None:
            raise StreamError(ErrorCodes.STREAM_CLOSED)
        if number not in self._reset:
            self._forget(number, ErrorCodes.STREAM_CLOSED)

    def _end_in(self, number: int, stream: StreamState) -> None:
        stream.in_open = False
        if not stream.out_open:
            del self._streams[number]

    def _headers(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if not number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "headers of no stream")
        if flags & PADDED:
            payload = unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a priority is cut")
            check_dependency(number, payload)
            payload = payload[5:]
        if flags & END_HEADERS:
            self._list(number, flags, payload, events)
        else:
            self._block, self._block_size = [payload], len(payload)
            self._block_of, self._block_flags = number, flags

    def _continuation(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if self._block is None:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "nothing is continued")
        self._block.append(payload)
        self._block_size += len(payload)
        if self._block_size > self._largest_block or len(self._block) > CONTINUATIONS:
            raise ProtocolError(ErrorCodes.ENHANCE_YOUR_CALM, "a header list does not end")
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._list(number, self._block_flags, block, events)

    def _list(self, number: int, flags: int, block: bytes, events: list[Event]) -> None:
        """A whole header list. It is read in any case: both sides' tables must stay the same."""
        headers: Headers | None
        try:
            headers = self._decoder.decode(block)
        except hpack.TooLarge:
            headers = None
        except hpack.Bomb:
            text = "a header list is far too large"
            raise ProtocolError(ErrorCodes.ENHANCE_YOUR_CALM, text) from None
        except hpack.Malformed:
            text = "a header list is malformed"
            raise ProtocolError(ErrorCodes.COMPRESSION_ERROR, text) from None
        ended = bool(flags & END_STREAM)
        stream = self._streams.get(number)
        if stream is None:
            if not self._client and number % 2 and number > self.highest_inbound_stream_id:
                self._request(number, headers, ended, events)
                return
            if self._is_idle(number):
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "headers of no stream")
            if number not in self._reset:
                raise ProtocolError(ErrorCodes.STREAM_CLOSED, "headers of an ended stream")
        elif not stream.in_open:
            raise StreamError(ErrorCodes.STREAM_CLOSED)
        elif headers is None:
            raise StreamError(ErrorCodes.ENHANCE_YOUR_CALM)
        elif stream.head_seen:
            self._trailers(number, stream, headers, ended, events)
        else:
            self._response(number, stream, headers, ended, events)

    def _request(
        self, number: int, headers: Headers | None, ended: bool, events: list[Event]
    ) -> None:
        self.highest_inbound_stream_id = number
        if len(self._streams) >= self._most_streams:
            raise StreamError(ErrorCodes.REFUSED_STREAM)
        stream = StreamState(self._window, self._their_window)
        stream.head_seen = True
        if headers is not None:
            stream.expected = checked_request(headers)
            if ended and stream.expected > 0:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        self._streams[number] = stream
        if self.noise:
            self.noise = max(0, self.noise - USEFUL)
        if ended:
            self._end_in(number, stream)
        if headers is None:
            events.append(RequestTooLarge(number))
        else:
            events.append(RequestReceived(number, headers, ended))

    def _response(
        self,
        number: int,
        stream: StreamState,
        headers: Headers,
        ended: bool,
        events: list[Event],
    ) -> None:
        status, length = checked_response(headers)
        if status < 200:
            if ended:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
            events.append(InformationalResponseReceived(number, headers))
            return
        stream.head_seen = True
        if not stream.bodiless and status not in (204, 304):
            stream.expected = length
        if ended and stream.expected > 0:
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        if ended:
            self._end_in(number, stream)
        events.append(ResponseReceived(number, headers, ended))

    def _trailers(
        self,
        number: int,
        stream: StreamState,
        headers: Headers,
        ended: bool,
        events: list[Event],
    ) -> None:
        if not ended or stream.expected > 0:
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        check_trailers(headers)
        self._end_in(number, stream)
        events.append(TrailersReceived(number, headers))


_CONTROL = (
    Codec._data,
    Codec._headers,
    Codec._priority,
    Codec._rst_stream,
    Codec._set,
    Codec._push,
    Codec._ping,
    Codec._goaway,
    Codec._window_update,
    Codec._continuation,
)
