"""A pod that speaks HTTP/2, for tests: h2 over a real socket, a coroutine for each request."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, RequestReceived, StreamEnded, StreamReset, TrailersReceived
from h2.exceptions import H2Error
from h2.settings import SettingCodes, Settings

Header = tuple[bytes, bytes]


class Call:
    """One request, and the means to answer it."""

    def __init__(self, connection: Connection, number: int, headers: list[Header]) -> None:
        self.connection = connection
        self.number = number
        self.headers = dict(headers)
        self.trailers: dict[bytes, bytes] = {}
        self.body = bytearray()
        self.pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.whole = asyncio.Event()
        self.reset_by_client: int | None = None

    def respond(self, status: int = 200, *headers: Header, end: bool = False) -> None:
        head = [(b":status", b"%d" % status), *headers]
        self.connection.h2.send_headers(self.number, head, end_stream=end)
        self.connection.flush()

    async def send(self, data: bytes) -> None:
        h2 = self.connection.h2
        while data:
            room = min(h2.local_flow_control_window(self.number), h2.max_outbound_frame_size)
            if room > 0:
                h2.send_data(self.number, data[:room])
                self.connection.sent += min(room, len(data))
                data = data[room:]
                self.connection.flush()
                await self.connection.writer.drain()
            else:
                self.connection.moved.clear()
                await self.connection.moved.wait()

    def end(self, *trailers: Header) -> None:
        if trailers:
            self.connection.h2.send_headers(self.number, list(trailers), end_stream=True)
        else:
            self.connection.h2.end_stream(self.number)
        self.connection.flush()

    def reset(self, code: ErrorCodes) -> None:
        self.connection.h2.reset_stream(self.number, code)
        self.connection.flush()


class Connection:
    """One connection of the proxy's."""

    def __init__(self, origin: Http2Origin, writer: asyncio.StreamWriter) -> None:
        self.origin = origin
        self.writer = writer
        self.moved = asyncio.Event()
        self.sent = 0
        self.h2 = H2Connection(
            H2Configuration(
                client_side=False, header_encoding=False, validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )  # fmt: skip
        self.calls: dict[int, Call] = {}

    def flush(self) -> None:
        self.writer.write(self.h2.data_to_send())

    def go_away(self, last: int) -> None:
        frame = b"\0\0\x08\x07\0\0\0\0\0" + last.to_bytes(4) + b"\0\0\0\0"
        self.writer.write(frame)

    async def run(self, reader: asyncio.StreamReader, group: asyncio.TaskGroup) -> None:
        self.h2.local_settings = Settings(
            client=False,
            initial_values={SettingCodes.MAX_CONCURRENT_STREAMS: self.origin.streams},
        )
        self.h2.initiate_connection()
        self.flush()
        while data := await reader.read(65536):
            for event in self.h2.receive_data(data):
                self._take(event, group)
            self.moved.set()
            self.flush()

    def _take(self, event: Any, group: asyncio.TaskGroup) -> None:
        if isinstance(event, RequestReceived):
            call = Call(self, event.stream_id, event.headers)
            self.calls[event.stream_id] = call
            self.origin.calls.append(call)
            group.create_task(self._serve(call))
            return
        call = self.calls.get(getattr(event, "stream_id", 0))
        if call is None:
            return
        if isinstance(event, DataReceived):
            call.body += event.data
            call.pieces.put_nowait(event.data)
            if self.origin.takes_data:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, TrailersReceived):
            call.trailers = dict(event.headers)
        elif isinstance(event, StreamEnded):
            call.pieces.put_nowait(None)
            call.whole.set()
        elif isinstance(event, StreamReset):
            call.reset_by_client = int(event.error_code)
            call.pieces.put_nowait(None)

    async def _serve(self, call: Call) -> None:
        # The client may have reset the stream, or left.
        with contextlib.suppress(H2Error, ConnectionError):
            await self.origin.serve(call)


async def hello(call: Call) -> None:
    """The usual answer: the body back, or a greeting."""
    await call.whole.wait()
    call.respond(200, (b"content-type", b"text/plain"))
    await call.send(bytes(call.body) or b"hello")
    call.end()


class Http2Origin:
    """A server on loopback."""

    def __init__(
        self,
        serve: Callable[[Call], Awaitable[None]] = hello,
        *,
        streams: int = 100,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
    ) -> None:
        self.serve = serve
        self.streams = streams
        self.takes_data = True
        self.calls: list[Call] = []
        self.connections: list[Connection] = []
        self.port = 0
        self._context = context
        self._host = host
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Http2Origin:
        self._server = await asyncio.start_server(self._connected, self._host, 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for connection in self.connections:
            connection.writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        self.connections.append(connection)
        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                await connection.run(reader, group)
                # Ends what still waits to answer.
                raise ConnectionResetError
        writer.close()
