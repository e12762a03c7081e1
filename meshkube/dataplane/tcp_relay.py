"""TCP connections carried from a front to a backend by this process.

Bytes pass as they come. Who reads slowly is waited for: no more is read for him than fits the
transport's buffer. One side's end of sending reaches the other while the rest goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any, cast

from meshkube.dataplane.choosing import Choice
from meshkube.dataplane.services import Backend

BACKLOG = 1024
CONNECT_SECONDS = 5.0
BUFFER = 256 * 1024
"""Bytes held for one side before the other is not read any more."""

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine as a task of whoever owns the relays."""


class Side(asyncio.Protocol):
    """One of the two connections."""

    transport: asyncio.Transport
    other: Side | None = None
    ended = False
    """It sends no more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        if self.other is None or self.other.ended:
            # Both have said all: what is still to be written is, and then it closes.
            return False
        with contextlib.suppress(OSError, RuntimeError):
            self.other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        other, self.other = self.other, None
        if other is None:
            return
        other.other = None
        if error is not None:
            # It was reset: so is what hangs on it.
            _reset(other.transport)
        else:
            other.transport.close()


class Client(Side):
    """The connection of who asked; nothing is read of it until a backend was found."""

    def __init__(self, relay: TcpRelay) -> None:
        self._relay = relay
        self._early: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._relay.accepted(self)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            # uvloop reads once more after it was told not to, and starts to read by itself.
            self._early.append(data)
            self.transport.pause_reading()
            return
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        if self.other is None:
            self.ended = True
            return True
        return super().eof_received()

    def join(self, side: Side) -> None:
        """From now on it talks to that backend."""
        self.other, side.other = side, self
        for data in self._early:
            side.transport.write(data)
        self._early.clear()
        if self.ended:
            side.transport.write_eof()
        self.transport.resume_reading()


class TcpRelay:
    """Listens on one front. `is_outside` says of a client's address whether it is outside the
    cluster."""

    def __init__(self, choice: Choice, is_outside: Callable[[str], bool], spawn: Spawn) -> None:
        self._choice = choice
        self._is_outside = is_outside
        self._spawn = spawn
        self._server: asyncio.Server | None = None

    async def listen(self, made: socket.socket) -> None:
        """Takes over a bound socket. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Client(self), sock=made, backlog=BACKLOG)

    def close(self) -> None:
        """Takes no more connections; those that are go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def accepted(self, client: Client) -> None:
        self._spawn(self._connect(client))

    async def _connect(self, client: Client) -> None:
        loop = asyncio.get_running_loop()
        address = str(client.transport.get_extra_info("peername")[0])
        outside = self._is_outside(address)
        for backend in self._choice.pick(address, outside, loop.time()):
            if client.transport.is_closing():
                return
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    _, side = await loop.create_connection(Side, *backend)
            except OSError:
                # Nothing was sent to it: another may answer instead.
                continue
            self._join(client, side, address, backend)
            return
        _reset(client.transport)

    def _join(self, client: Client, side: Side, address: str, backend: Backend) -> None:
        if client.transport.is_closing():
            side.transport.abort()
            return
        self._choice.keep(address, backend, asyncio.get_running_loop().time())
        client.join(side)


def _reset(transport: asyncio.Transport) -> None:
    """Ends a connection so that its other end sees a failure and no regular end."""
    found = transport.get_extra_info("socket")
    if found is not None:
        with contextlib.suppress(OSError):
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    transport.abort()
