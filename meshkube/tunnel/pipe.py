"""A connection that carries bytes both ways, each waiting for its reader."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol


class Pipe(Protocol):
    """One end of a connection."""

    async def read(self) -> bytes:
        """The next bytes; empty once the other side has ended."""
        ...

    async def write(self, data: bytes) -> None:
        """Returns once there is room for more. Raises `ConnectionError`."""
        ...

    async def close(self) -> None:
        """Sends what was written, then ends; safe to call twice."""
        ...


PIECE = 64 * 1024


class StreamPipe:
    """A `Pipe` over asyncio's streams."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self) -> bytes:
        try:
            return await self._reader.read(PIECE)
        except OSError:
            return b""

    async def write(self, data: bytes) -> None:
        if self._writer.is_closing():
            raise ConnectionResetError("the connection is closed")
        self._writer.write(data)
        await self._writer.drain()

    async def end_writing(self) -> None:
        """Half-closes, where the transport can (TLS cannot)."""
        with contextlib.suppress(OSError, RuntimeError):
            if self._writer.can_write_eof():
                self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


async def both_ways(one: Pipe, other: Pipe) -> None:
    """Passes bytes on until either side has ended; closes both."""
    tasks: list[asyncio.Task[None]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks.append(group.create_task(_pass_on(one, other)))
            tasks.append(group.create_task(_pass_on(other, one)))
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
    finally:
        await asyncio.gather(one.close(), other.close(), return_exceptions=True)


async def _pass_on(source: Pipe, sink: Pipe) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read():
            await sink.write(data)
