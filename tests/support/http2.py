"""An HTTP/2 client for tests: h2 over a real socket, the bytes in the test's hands."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    DataReceived,
    Event,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

Header = tuple[bytes, bytes]


@dataclass
class Stream:
    """What came back for one request."""

    headers: dict[bytes, bytes] = field(default_factory=dict)
    trailers: dict[bytes, bytes] = field(default_factory=dict)
    interim: list[bytes] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    reset: int | None = None
    ended: bool = False
    bare: bool = False
    """Its head was all."""

    @property
    def status(self) -> int:
        return int(self.headers[b":status"])


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        # Bad requests are what some tests are about.
        self.h2 = H2Connection(
            H2Configuration(
                header_encoding=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.streams: dict[int, Stream] = {}
        self.goaway: int | None = None
        self.takes_data = True
        self.closed = False
        self._frames = b""

    def request(
        self,
        method: str = "GET",
        path: str = "/",
        *headers: Header,
        body: bytes | None = None,
        authority: str = "a.io",
        scheme: str = "https",
    ) -> int:
        """Sends a request's head and, where given, its whole body; returns the stream."""
        number = self.h2.get_next_available_stream_id()
        pseudo = [
            (b":method", method.encode()),
            (b":scheme", scheme.encode()),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
        ]
        self.streams[number] = Stream()
        self.h2.send_headers(number, [*pseudo, *headers], end_stream=body is None)
        if body is not None:
            self.h2.send_data(number, body, end_stream=True)
        self.flush()
        return number

    def open(self, method: str, path: str, *headers: Header, authority: str = "a.io") -> int:
        """Sends the head of a request whose body is still to come; returns the stream."""
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        pseudo = [
            (b":method", method.encode()),
            (b":scheme", b"http"),
            (b":authority", authority.encode()),
            (b":path", path.encode()),
        ]
        self.h2.send_headers(number, [*pseudo, *headers])
        self.flush()
        return number

    async def upload(self, path: str, body: bytes, *headers: Header) -> Stream:
        """A POST with a body of any size: as much at a time as the windows let through."""
        number = self.open("POST", path, *headers)
        while body:
            room = min(self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            if room:
                self.h2.send_data(number, body[:room])
                body = body[room:]
            self.flush()
            if not room and not await self.step():
                raise ConnectionError("the connection ended")
        self.h2.end_stream(number)
        self.flush()
        return await self.answer(number)

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    async def step(self) -> bool:
        """Reads once; False at the end of the connection."""
        data = await self.reader.read(65536)
        if not data:
            self.closed = True
            return False
        for event in self.h2.receive_data(self._without_goaway(data)):
            self._take(event)
        self.flush()
        return True

    def _without_goaway(self, data: bytes) -> bytes:
        """h2 gives up at a GOAWAY, also at one that lets requests finish: it does not get to see
        them."""
        self._frames += data
        kept = b""
        while len(self._frames) >= 9:
            size = 9 + int.from_bytes(self._frames[:3])
            if len(self._frames) < size:
                break
            frame, self._frames = self._frames[:size], self._frames[size:]
            if frame[3] == 7:
                self.goaway = int.from_bytes(frame[13:17])
            else:
                kept += frame
        return kept

    def _take(self, event: Event) -> None:
        if not getattr(event, "stream_id", 0):
            return
        stream = self.streams.setdefault(event.stream_id, Stream())  # type: ignore[attr-defined]
        if isinstance(event, ResponseReceived):
            stream.headers = dict(event.headers)
            stream.bare = event.stream_ended is not None
        elif isinstance(event, InformationalResponseReceived):
            stream.interim.append(dict(event.headers)[b":status"])
        elif isinstance(event, TrailersReceived):
            stream.trailers = dict(event.headers)
        elif isinstance(event, DataReceived):
            stream.body += event.data
            if self.takes_data:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, StreamEnded):
            stream.ended = True
        elif isinstance(event, StreamReset):
            stream.reset = int(event.error_code)

    async def answer(self, number: int, timeout: float = 10.0) -> Stream:
        """Waits for the end of a response."""
        async with asyncio.timeout(timeout):
            stream = self.streams[number]
            while not (stream.ended or stream.reset is not None):
                if not await self.step():
                    raise ConnectionError("the connection ended")
            return stream

    async def ask(self, *request: object, **more: object) -> Stream:
        return await self.answer(self.request(*request, **more))  # type: ignore[arg-type]

    async def until_closed(self, timeout: float = 10.0) -> None:
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                while await self.step():
                    pass


@contextlib.asynccontextmanager
async def client(
    port: int,
    context: ssl.SSLContext | None = None,
    name: str = "a.io",
    source: tuple[str, int] | None = None,
) -> AsyncIterator[Client]:
    """A client in cleartext with prior knowledge, or over TLS with ALPN."""
    if context is not None:
        context.set_alpn_protocols(["h2"])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1",
        port,
        ssl=context,
        server_hostname=name if context else None,
        local_addr=source,
    )
    made = Client(reader, writer)
    made.h2.initiate_connection()
    made.flush()
    try:
        yield made
    finally:
        writer.transport.abort()
