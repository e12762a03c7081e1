"""A raw connection to Docker Engine, for exec and attach: HTTP once, then bytes both ways.

Docker "hijacks" such a connection: after `101 UPGRADED` it carries standard input one way and
output the other way. Half-closing it is how standard input ends, which is why this is not done with
an HTTP client.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any
from urllib.parse import urlsplit

import orjson

from meshkube.node.runtime import NotFound, Output, RuntimeFailure, RuntimeUnavailable

# Bytes read ahead of whoever consumes them, then Docker waits.
READ_AHEAD = 256 * 1024
PIECE = 64 * 1024
_FRAME = struct.Struct(">BxxxL")


class Hijacked:
    """The open connection. `multiplexed` (no tty): frames of output name their stream."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, multiplexed: bool
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._multiplexed = multiplexed
        self._stream = 1
        self._left = 0

    async def read(self) -> Output | None:
        """The next piece of output; None at its end."""
        try:
            if not self._multiplexed:
                data = await self._reader.read(PIECE)
                return Output(1, data) if data else None
            while self._left == 0:
                header = await self._reader.readexactly(_FRAME.size)
                self._stream, self._left = _FRAME.unpack(header)
            data = await self._reader.read(min(self._left, PIECE))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        self._left -= len(data)
        return Output(self._stream, data) if data else None

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except ConnectionError:
            # The process is gone; `read` tells so.
            return

    async def close_stdin(self) -> None:
        try:
            if self._writer.can_write_eof():
                self._writer.write_eof()
        except (OSError, RuntimeError):
            return

    async def close(self) -> None:
        self._writer.close()
        try:
            await self._writer.wait_closed()
        except OSError:
            return


async def hijack(url: str, path: str, body: Any = None, *, multiplexed: bool) -> Hijacked:
    """POSTs to the engine at `url` (`unix:///path` or `tcp://host:port`) and takes the connection
    over. Raises `RuntimeFailure`."""
    try:
        reader, writer = await _connect(url)
    except OSError as error:
        raise RuntimeUnavailable(f"cannot connect to Docker Engine at {url}: {error}") from error
    try:
        content = orjson.dumps(body) if body is not None else b""
        request = (
            f"POST {path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        writer.write(request.encode() + content)
        await writer.drain()
        await _expect_upgrade(reader)
    except BaseException as error:
        writer.close()
        if isinstance(error, OSError | asyncio.IncompleteReadError):
            raise RuntimeUnavailable(f"Docker Engine at {url}: {error}") from error
        raise
    return Hijacked(reader, writer, multiplexed)


async def _connect(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return await asyncio.open_unix_connection(parts.path, limit=READ_AHEAD)
    return await asyncio.open_connection(parts.hostname, parts.port or 2375, limit=READ_AHEAD)


async def _expect_upgrade(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status = int(head.split(" ", 2)[1])
    if status in (101, 200):
        return
    text = (await reader.read(PIECE)).decode(errors="replace")
    message = text[text.find("{") :]
    try:
        message = str(orjson.loads(message)["message"])
    except (ValueError, KeyError, TypeError):
        message = text.strip()
    raise NotFound(message) if status == 404 else RuntimeFailure(message)
