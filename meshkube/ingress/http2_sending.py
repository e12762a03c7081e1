"""One HTTP/2 connection's state, and the half of it that sends: heads, bodies through the windows,
resets (RFC 9113). Pure; both sides."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from meshkube.ingress import hpack
from meshkube.ingress.hpack import Header
from meshkube.ingress.http2_errors import ErrorCodes, H2Error, SettingCodes
from meshkube.ingress.http2_frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME,
    HEADER,
    HEADERS,
    LONG,
    PREFACE,
    RST_STREAM,
    SETTING,
    SETTINGS,
    WINDOW,
    WINDOW_UPDATE,
)

Piece = bytes | memoryview

_KNOWN_CLOSED = 256
"""Streams that we reset, of which frames may still be on their way."""
USEFUL = 4
"""Frames of no use that one with a request or a response makes up for."""


class StreamState:
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


class Sending:
    """One connection, seen from one side, and what that side sends."""

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
        self._out: list[Piece] = []
        self._streams: dict[int, StreamState] = {}
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
        self.noise = 0
        """Frames from the other side of late that were of no use to anybody, as pings: what is
        sent or received for a request makes up for some."""

    # What we send

    def initiate_connection(self) -> None:
        """The preface and our settings."""
        if self._client:
            self._out.append(PREFACE)
        payload = b"".join(SETTING.pack(*setting) for setting in self._settings.items())
        self._frame(SETTINGS, 0, 0, payload)

    def data_to_send(self) -> bytes:
        """What has come together since the last call."""
        out = self._out
        if not out:
            return b""
        data = b"".join(out)
        out.clear()
        return data

    def begin_stream(self, *, bodiless: bool = False) -> int:
        """The number of a stream that we begin; `bodiless`: to ask for a head alone (HEAD)."""
        number = self._next
        self._next += 2
        stream = self._streams[number] = StreamState(self._window, self._their_window)
        stream.bodiless = bodiless
        return number

    def send_headers(
        self, number: int, headers: Iterable[Header], *, end_stream: bool = False
    ) -> None:
        """A head or trailers, names in lower case. Raises `H2Error`."""
        self.send_block(number, hpack.encode(headers), end_stream=end_stream)

    def send_block(self, number: int, block: bytes, *, end_stream: bool = False) -> None:
        """The same of a header list that is encoded already. Raises `H2Error`."""
        stream = self._open(number)
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

    def send_data(self, number: int, data: Piece, *, end_stream: bool = False) -> int:
        """As many of the first bytes of a body as both windows and a frame hold, the end of the
        stream with the last one; returns how many. Raises `H2Error`."""
        stream = self._open(number)
        size = len(data)
        room = min(stream.out_window, self._out_window, self.max_outbound_frame_size)
        if size > room:
            if room <= 0:
                return 0
            data, size, end_stream = data[:room], room, False
        stream.out_window -= size
        self._out_window -= size
        self._out.append(HEADER.pack(size >> 8, size & 0xFF, DATA, end_stream, number))
        self._out.append(data)
        if self.noise:
            self.noise = max(0, self.noise - USEFUL)
        if end_stream:
            self._end_out(number, stream)
        return size

    def end_stream(self, number: int) -> None:
        """Nothing more comes. Raises `H2Error`."""
        self.send_data(number, b"", end_stream=True)

    def reset_stream(self, number: int, code: ErrorCodes = ErrorCodes.CANCEL) -> None:
        """Ends a stream by force. Raises `H2Error` where it has ended."""
        if number not in self._streams:
            raise H2Error("the stream has ended")
        self._forget(number, code)

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
        self._frame(WINDOW_UPDATE, 0, number, LONG.pack(size))

    def acknowledge_received_data(self, size: int, number: int) -> None:
        """So many bytes are dealt with: the other side is told once it is worth a frame."""
        self._owed += size
        if self._owed >= self._in_target // 2:
            owed, self._owed = self._owed, 0
            self._in_window += owed
            self._frame(WINDOW_UPDATE, 0, 0, LONG.pack(owed))
        self.acknowledge_of_stream(size, number)

    def acknowledge_of_stream(self, size: int, number: int) -> None:
        """The same for the window of the stream alone."""
        stream = self._streams.get(number)
        if stream is None or not stream.in_open:
            return
        stream.owed += size
        if stream.owed >= self._window // 2:
            owed, stream.owed = stream.owed, 0
            stream.in_window += owed
            self._frame(WINDOW_UPDATE, 0, number, LONG.pack(owed))

    def _frame(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._out.append(HEADER.pack(size >> 8, size & 0xFF, kind, flags, number) + payload)

    def _open(self, number: int) -> StreamState:
        stream = self._streams.get(number)
        if stream is None or not stream.out_open or self._over:
            raise H2Error("the stream has ended")
        return stream

    def _is_idle(self, number: int) -> bool:
        if not number:
            return True
        if self._client:
            return number % 2 == 0 or number >= self._next
        return number % 2 == 0 or number > self.highest_inbound_stream_id

    def _end_out(self, number: int, stream: StreamState) -> None:
        stream.out_open = False
        if not stream.in_open:
            del self._streams[number]

    def _forget(self, number: int, code: ErrorCodes) -> None:
        """Resets a stream; what of it is still on its way is passed over."""
        self._streams.pop(number, None)
        self._reset.append(number)
        self._frame(RST_STREAM, 0, number, LONG.pack(code))
