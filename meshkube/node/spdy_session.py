"""One SPDY/3.1 connection, on the side that accepts streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Mapping

from meshkube.node import spdy
from meshkube.tunnel.pipe import Pipe

READ_AHEAD = 1024 * 1024
"""Bytes that wait for a stream's reader. From then on the whole connection waits: SPDY as
Kubernetes speaks it has no flow control of single streams."""
MOST_STREAMS = 4096


class Stream:
    """One stream that the client opened."""

    def __init__(self, session: Session, id: int, headers: Mapping[str, str]) -> None:
        self.id = id
        self.headers = headers
        self.was_reset = False
        self._session = session
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._ended = False
        self._changed = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._sent_last = False

    async def read(self) -> bytes:
        """The next data; empty at its end, and where the client reset the stream."""
        while not self._pieces:
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = b"".join(self._pieces)
        self._pieces.clear()
        self._held = 0
        self._room.set()
        return data

    async def write(self, data: bytes) -> None:
        """Raises `ConnectionError`."""
        if self._sent_last or self.was_reset:
            raise ConnectionResetError("the stream is closed")
        for start in range(0, len(data), spdy.LARGEST_DATA):
            piece = bytes(data[start : start + spdy.LARGEST_DATA])
            await self._session.send(spdy.Data(self.id, piece))

    async def end_writing(self) -> None:
        """Says that no data will follow; safe to call twice."""
        if not self._sent_last and not self.was_reset:
            self._sent_last = True
            with contextlib.suppress(ConnectionError):
                await self._session.send(spdy.Data(self.id, b"", True))
            self._forget_if_done()

    async def close(self) -> None:
        """Ends both directions."""
        if self._ended:
            await self.end_writing()
        elif not self.was_reset:
            await self.end_writing()
            # What the client still sends would only fill memory.
            self.drop()

    def drop(self) -> None:
        """Data that still comes is thrown away."""
        self._pieces.clear()
        self._held = 0
        self._ended = True
        self._room.set()
        self._changed.set()

    async def take(self, data: bytes, final: bool) -> None:
        """What the connection brings. Waits while the reader is behind."""
        if not self._ended:
            if data:
                self._pieces.append(data)
                self._held += len(data)
            self._ended = final
            self._changed.set()
            if self._held > READ_AHEAD:
                self._room.clear()
                await self._room.wait()
        if final:
            self._forget_if_done()

    def reset(self) -> None:
        self.was_reset = True
        self.drop()

    def _forget_if_done(self) -> None:
        if self._ended and self._sent_last:
            self._session.forget(self.id)


class Session:
    """Streams over `pipe`, for as long as `run` runs."""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._encoder = spdy.Encoder()
        self._decoder = spdy.Decoder()
        self._streams: dict[int, Stream] = {}
        self._opened: asyncio.Queue[Stream | None] = asyncio.Queue()
        self._sending = asyncio.Lock()
        self._last = 0
        self._ended = False

    async def accept(self) -> Stream | None:
        """The next stream that the client opens; None once the connection has ended."""
        stream = await self._opened.get()
        if stream is None:
            self._opened.put_nowait(None)
        return stream

    async def send(self, frame: spdy.Frame) -> None:
        """Raises `ConnectionError`."""
        async with self._sending:
            if self._ended:
                raise ConnectionResetError("the connection has ended")
            await self._pipe.write(self._encoder.encode(frame))

    def forget(self, id: int) -> None:
        self._streams.pop(id, None)

    async def run(self) -> None:
        """Until the client is gone, or speaks something else."""
        try:
            while data := await self._pipe.read():
                for frame in self._decoder.feed(data):
                    await self._take(frame)
        except spdy.SpdyError:
            with contextlib.suppress(ConnectionError):
                await self.send(spdy.GoAway(self._last))
        except ConnectionError:
            pass
        finally:
            self._ended = True
            for stream in list(self._streams.values()):
                stream.reset()
            self._opened.put_nowait(None)
            await self._pipe.close()

    async def _take(self, frame: spdy.Frame) -> None:
        match frame:
            case spdy.Opened(id, headers, final):
                await self._open(id, headers, final)
            case spdy.Data(id, data, final):
                stream = self._streams.get(id)
                # Of a stream that is closed here: the client has not heard of it yet.
                if stream is not None:
                    await stream.take(data, final)
            case spdy.Reset(id):
                stream = self._streams.pop(id, None)
                if stream is not None:
                    stream.reset()
            case spdy.Ping(id) if id % 2:
                await self.send(frame)
            case _:
                pass

    async def _open(self, id: int, headers: Mapping[str, str], final: bool) -> None:
        if id <= self._last or id % 2 == 0:
            raise spdy.SpdyError(f"stream {id} after {self._last}")
        self._last = id
        if len(self._streams) >= MOST_STREAMS:
            await self.send(spdy.Reset(id, spdy.REFUSED_STREAM))
            return
        stream = Stream(self, id, headers)
        self._streams[id] = stream
        await self.send(spdy.Replied(id, {}))
        if final:
            await stream.take(b"", True)
        self._opened.put_nowait(stream)
