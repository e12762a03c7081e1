"""A server's side of an upgrade: a request's connection, taken over from aiohttp."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any

from aiohttp import web

READ_AHEAD = 256 * 1024
"""Bytes held for the reader; from then on the client waits."""


async def accept(request: web.BaseRequest, headers: Mapping[str, str]) -> Accepted:
    """Answers `101 Switching Protocols` with `headers` (Upgrade among them) and takes the
    connection over. Return `.response` from the handler when done."""
    response = web.StreamResponse(status=101, headers={**headers, "Connection": "Upgrade"})
    response.force_close()
    accepted = Accepted(request, response)
    protocol: Any = request.protocol
    # As aiohttp's own WebSockets do it: what comes from now on goes to this parser.
    protocol.set_parser(accepted.parser)
    protocol.keep_alive(False)
    await response.prepare(request)
    return accepted


class _Parser:
    """Takes the connection's bytes (aiohttp's payload parser, as its protocol calls it)."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.pieces: deque[bytes] = deque()
        self.held = 0
        self.ended = False
        self.more = asyncio.Event()
        self._transport = transport
        self._paused = False

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.pieces.append(bytes(data))
        self.held += len(data)
        if self.held > READ_AHEAD and not self._paused and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()
        self.more.set()
        return False, b""

    def feed_eof(self) -> None:
        self.ended = True
        self.more.set()

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces.clear()
        self.held = 0
        if not self.ended:
            self.more.clear()
        if self._paused and not self._transport.is_closing():
            self._transport.resume_reading()
        self._paused = False
        return data


class Accepted:
    """A `Pipe`: the client's connection."""

    def __init__(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client is gone")
        self.response = response
        self.parser = _Parser(transport)
        self._transport = transport
        # The flow control of its transport; there is no public name for it.
        self._protocol: Any = request.protocol

    async def read(self) -> bytes:
        await self.parser.more.wait()
        return self.parser.take()

    async def write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport.write(data)
        await self._protocol._drain_helper()

    async def close(self) -> None:
        self._transport.close()
