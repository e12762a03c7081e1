"""One HTTP/2 connection as bytes in, events out, and bytes to send: frames, windows and the states
of streams (RFC 9113). Pure; both sides.

The package h2 does the same at several times the CPU. What is not needed here is not in it: server
push, priorities, upgrades from HTTP/1.
"""

from __future__ import annotations

import struct
from collections import deque

from meshkube.ingress import hpack
from meshkube.ingress.hpack import Header
from meshkube.ingress.http2_errors import (
    ErrorCodes,
    H2Error,
    ProtocolError,
    SettingCodes,
    StreamError,
)
from meshkube.ingress.http2_events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    InformationalResponseReceived,
    RemoteSettingsChanged,
    RequestReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
    WindowUpdated,
)
from meshkube.ingress.http2_rules import checked_request, checked_response

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 65_535
FRAME = 16_384
"""The largest frame that we take (SETTINGS_MAX_FRAME_SIZE's default)."""
LARGEST_WINDOW = 2**31 - 1
CONTINUATIONS = 8
"""Frames that one header list may go on for: more is a flood (CVE-2024-27316)."""
_KNOWN_CLOSED = 256
"""Streams that we reset, of which frames may still be on their way."""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION = 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32

_HEADER = struct.Struct("!HBBBI")
_SETTING = struct.Struct("!HI")
_LONG = struct.Struct("!I")


class _Stream:
    """Where one stream stands."""

    __slots__ = ("bodiless", "expected", "head_seen", "in_open", "in_window", "out_open",
                 "out_window", "owed")  # fmt: skip

    def __init__(self, in_window: int, out_window: int) -> None:
        self.in_window = in_window
        self.out_window = out_window
        self.in_open = self.out_open = True
        self.head_seen = False
        self.owed = 0
        """Bytes dealt with that the other side has not been told of."""
        self.expected = -1
        """Bytes of the body that are to come; -1 where nobody said."""
        self.bodiless = False
        """The answer to HEAD: its length is that of another body."""


class Codec:
    """One connection, seen from one side."""

    def __init__(self, *, client: bool, settings: dict[SettingCodes, int]) -> None:
        """`settings` are ours, told before anything else."""
        self._client = client
        self._settings = settings
        self._most_streams = settings.get(SettingCodes.MAX_CONCURRENT_STREAMS, 100)
        self._window = settings.get(SettingCodes.INITIAL_WINDOW_SIZE, WINDOW)
        largest = settings.get(SettingCodes.MAX_HEADER_LIST_SIZE, 65_536)
        self._decoder = hpack.Decoder(largest)
        self._largest_block = 2 * largest
        self._in = b""
        self._out: list[bytes] = []
        self._streams: dict[int, _Stream] = {}
        self._reset: deque[int] = deque(maxlen=_KNOWN_CLOSED)
        self._preface = b"" if client else PREFACE
        self._settled = False
        """The other side's first SETTINGS are there."""
        self._block: list[bytes] | None = None
        """A header list that is not whole yet."""
        self._block_of = self._block_flags = self._block_size = 0
        self._in_window = WINDOW
        self._owed = 0
        self._in_target = WINDOW
        self._out_window = WINDOW
        self._their_window = WINDOW
        self.max_outbound_frame_size = FRAME
        self.max_concurrent_streams = 100
        """Streams that the other side takes side by side; what is usual until it says."""
        self.highest_inbound_stream_id = 0
        self._next = 1
        self._table_told = False
        self._over = False

    # What we send

    def initiate_connection(self) -> None:
        """The preface and our settings."""
        if self._client:
            self._out.append(PREFACE)
        payload = b"".join(_SETTING.pack(*setting) for setting in self._settings.items())
        self._frame(SETTINGS, 0, 0, payload)

    def data_to_send(self) -> bytes:
        """What has come together since the last call."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def get_next_available_stream_id(self) -> int:
        number = self._next
        self._next += 2
        self._streams[number] = _Stream(self._window, self._their_window)
        return number

    def send_headers(self, number: int, headers: list[Header], *, end_stream: bool = False) -> None:
        """A head or trailers, names in lower case. Raises `H2Error`."""
        stream = self._open(number)
        if self._client and not stream.head_seen:
            stream.bodiless = (b":method", b"HEAD") in headers
        block = hpack.encode(headers)
        if not self._table_told:
            self._table_told = True
            block = hpack.NO_TABLE + block
        flags = END_STREAM if end_stream else 0
        largest = self.max_outbound_frame_size
        if len(block) <= largest:
            self._frame(HEADERS, flags | END_HEADERS, number, block)
        else:
            self._frame(HEADERS, flags, number, block[:largest])
            rest = range(largest, len(block), largest)
            for start in rest:
                last = END_HEADERS if start + largest >= len(block) else 0
                self._frame(CONTINUATION, last, number, block[start : start + largest])
        if end_stream:
            self._end_out(number, stream)

    def send_data(self, number: int, data: bytes, *, end_stream: bool = False) -> None:
        """Some of a body, no more than both windows and a frame hold. Raises `H2Error`."""
        stream = self._open(number)
        size = len(data)
        if size > min(stream.out_window, self._out_window, self.max_outbound_frame_size):
            raise H2Error("more than the windows hold")
        stream.out_window -= size
        self._out_window -= size
        self._out.append(_HEADER.pack(size >> 8, size & 0xFF, DATA, int(end_stream), number))
        if size:
            self._out.append(data)
        if end_stream:
            self._end_out(number, stream)

    def end_stream(self, number: int) -> None:
        """Nothing more comes. Raises `H2Error`."""
        self.send_data(number, b"", end_stream=True)

    def reset_stream(self, number: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Ends a stream by force. Raises `H2Error` where it has ended."""
        if number not in self._streams:
            raise H2Error("the stream has ended")
        self._forget(number, code)

    def local_flow_control_window(self, number: int) -> int:
        """Bytes that may be sent on a stream now. Raises `H2Error`."""
        return min(self._open(number).out_window, self._out_window)

    def increment_flow_control_window(self, size: int, number: int = 0) -> None:
        """Lets the other side send more, at once. Raises `H2Error`."""
        if not number:
            self._in_window += size
            self._in_target = max(self._in_target, self._in_window)
        else:
            stream = self._streams.get(number)
            if stream is None or not stream.in_open:
                raise H2Error("the stream has ended")
            stream.in_window += size
        self._frame(WINDOW_UPDATE, 0, number, _LONG.pack(size))

    def acknowledge_received_data(self, size: int, number: int) -> None:
        """So many bytes are dealt with: the other side is told once it is worth a frame."""
        self._owed += size
        if self._owed >= self._in_target // 2:
            owed, self._owed = self._owed, 0
            self._in_window += owed
            self._frame(WINDOW_UPDATE, 0, 0, _LONG.pack(owed))
        stream = self._streams.get(number)
        if stream is None or not stream.in_open:
            return
        stream.owed += size
        if stream.owed >= self._window // 2:
            owed, stream.owed = stream.owed, 0
            stream.in_window += owed
            self._frame(WINDOW_UPDATE, 0, number, _LONG.pack(owed))

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._out.append(_HEADER.pack(size >> 8, size & 0xFF, kind, flags, number) + payload)

    def _open(self, number: int) -> _Stream:
        stream = self._streams.get(number)
        if stream is None or not stream.out_open or self._over:
            raise H2Error("the stream has ended")
        return stream

    def _end_out(self, number: int, stream: _Stream) -> None:
        stream.out_open = False
        if not stream.in_open:
            del self._streams[number]

    def _forget(self, number: int, code: ErrorCodes) -> None:
        """Resets a stream; what of it is still on its way is passed over."""
        self._streams.pop(number, None)
        self._reset.append(number)
        self._frame(RST_STREAM, 0, number, _LONG.pack(code))

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
                high, low, kind, flags, number = _HEADER.unpack_from(data, at)
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
            elif kind < len(_CONTROL):
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
        data = _unpadded(payload) if flags & PADDED else payload
        if stream.expected >= 0:
            stream.expected -= len(data)
            if stream.expected < 0:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        if flags & END_STREAM:
            if stream.expected > 0:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
            events.append(DataReceived(number, data, size))
            self._end_in(number, stream, events)
        else:
            events.append(DataReceived(number, data, size))

    def _stray(self, number: int, stream: _Stream | None) -> None:
        """A frame of a stream that is not open for it."""
        if self._is_idle(number) or (stream is not None and stream.in_open):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a frame of no stream")
        if stream is not None:
            raise StreamError(ErrorCodes.STREAM_CLOSED)
        if number not in self._reset:
            self._forget(number, ErrorCodes.STREAM_CLOSED)

    def _is_idle(self, number: int) -> bool:
        if not number:
            return True
        if self._client:
            return number % 2 == 0 or number >= self._next
        return number % 2 == 0 or number > self.highest_inbound_stream_id

    def _end_in(self, number: int, stream: _Stream, events: list[Event]) -> None:
        stream.in_open = False
        if not stream.out_open:
            del self._streams[number]
        events.append(StreamEnded(number))

    def _headers(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if not number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "headers of no stream")
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a priority is cut")
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
        try:
            headers = self._decoder.decode(block)
        except hpack.TooLarge:
            text = "a header list is too large"
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
        elif stream.head_seen:
            self._trailers(number, stream, headers, ended, events)
        else:
            self._response(number, stream, headers, ended, events)

    def _request(
        self, number: int, headers: list[Header], ended: bool, events: list[Event]
    ) -> None:
        self.highest_inbound_stream_id = number
        if len(self._streams) >= self._most_streams:
            raise StreamError(ErrorCodes.REFUSED_STREAM)
        stream = _Stream(self._window, self._their_window)
        stream.head_seen = True
        stream.expected = checked_request(headers)
        if ended and stream.expected > 0:
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        self._streams[number] = stream
        events.append(RequestReceived(number, headers, ended))
        if ended:
            self._end_in(number, stream, events)

    def _response(
        self, number: int, stream: _Stream, headers: list[Header], ended: bool, events: list[Event]
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
        events.append(ResponseReceived(number, headers, ended))
        if ended:
            self._end_in(number, stream, events)

    def _trailers(
        self, number: int, stream: _Stream, headers: list[Header], ended: bool, events: list[Event]
    ) -> None:
        if not ended or stream.expected > 0 or any(name[:1] == b":" for name, _ in headers):
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        events.append(TrailersReceived(number, headers))
        self._end_in(number, stream, events)

    def _priority(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        """Deprecated (RFC 9113, section 5.3.2)."""
        if not number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a priority of no stream")
        if len(payload) != 5:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a priority is malformed")

    def _rst_stream(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if self._is_idle(number):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a reset of no stream")
        if len(payload) != 4:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a reset is malformed")
        if self._streams.pop(number, None) is not None:
            self._reset.append(number)
            events.append(StreamReset(number, _LONG.unpack(payload)[0]))

    def _set(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "settings of a stream")
        if flags & ACK:
            if payload:
                raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "an acknowledgement with settings")
            if not self._settled:
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no settings come first")
            return
        if len(payload) % 6:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "settings are cut")
        for code, value in _SETTING.iter_unpack(payload):
            self._setting(code, value)
        self._settled = True
        self._frame(SETTINGS, ACK, 0, b"")
        events.append(RemoteSettingsChanged())

    def _setting(self, code: int, value: int) -> None:
        if code == SettingCodes.INITIAL_WINDOW_SIZE:
            if value > LARGEST_WINDOW:
                raise ProtocolError(ErrorCodes.FLOW_CONTROL_ERROR, "a window is too large")
            change = value - self._their_window
            self._their_window = value
            for stream in self._streams.values():
                stream.out_window += change
                if stream.out_window > LARGEST_WINDOW:
                    raise ProtocolError(ErrorCodes.FLOW_CONTROL_ERROR, "a window is too large")
        elif code == SettingCodes.MAX_FRAME_SIZE:
            if not FRAME <= value < 1 << 24:
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no size of a frame")
            # Larger ones only hold up the streams beside.
            self.max_outbound_frame_size = FRAME
        elif code == SettingCodes.MAX_CONCURRENT_STREAMS:
            self.max_concurrent_streams = value
        elif code == SettingCodes.ENABLE_PUSH and value > (0 if self._client else 1):
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "no value for push")

    def _push(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a push, which nobody wanted")

    def _ping(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a ping of a stream")
        if len(payload) != 8:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a ping is malformed")
        if not flags & ACK:
            self._frame(PING, ACK, 0, payload)

    def _goaway(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if number:
            raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a farewell of a stream")
        if len(payload) < 8:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a farewell is malformed")
        last, code = struct.unpack_from("!II", payload)
        events.append(ConnectionTerminated(code, last & 0x7FFFFFFF))

    def _window_update(self, flags: int, number: int, payload: bytes, events: list[Event]) -> None:
        if len(payload) != 4:
            raise ProtocolError(ErrorCodes.FRAME_SIZE_ERROR, "a window's update is malformed")
        size = _LONG.unpack(payload)[0] & 0x7FFFFFFF
        if not number:
            self._out_window += size
            if not size or self._out_window > LARGEST_WINDOW:
                code = ErrorCodes.FLOW_CONTROL_ERROR if size else ErrorCodes.PROTOCOL_ERROR
                raise ProtocolError(code, "no size of a window")
        else:
            if self._is_idle(number):
                raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "a window of no stream")
            stream = self._streams.get(number)
            if stream is None:
                return
            stream.out_window += size
            if not size:
                raise StreamError(ErrorCodes.PROTOCOL_ERROR)
            if stream.out_window > LARGEST_WINDOW:
                raise StreamError(ErrorCodes.FLOW_CONTROL_ERROR)
        events.append(WindowUpdated(number))


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


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise ProtocolError(ErrorCodes.PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]
