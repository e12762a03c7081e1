"""A client of exec, attach or port-forward that speaks over a WebSocket."""

from __future__ import annotations

from collections.abc import Iterable

import orjson
from aiohttp import WSMsgType, web

from meshkube.api.types import Object
from meshkube.node import channels
from meshkube.node.channels import Incoming

# The largest message taken from a client.
MESSAGE_LIMIT = 16 * 1024 * 1024
PING_EVERY = 30.0


async def accept_socket(request: web.Request, protocols: Iterable[str]) -> web.WebSocketResponse:
    """The upgraded connection, with the first of the client's sub-protocols that is known."""
    socket = web.WebSocketResponse(
        protocols=list(protocols),
        max_msg_size=MESSAGE_LIMIT,
        heartbeat=PING_EVERY,
        compress=False,
    )
    await socket.prepare(request)
    return socket


async def next_message(socket: web.WebSocketResponse) -> bytes | None:
    """What the client sends next; None once it is gone."""
    while True:
        message = await socket.receive()
        if message.type in (WSMsgType.BINARY, WSMsgType.TEXT):
            data = message.data.encode() if isinstance(message.data, str) else bytes(message.data)
            return channels.of_text(data) if channels.is_text(socket.ws_protocol or "") else data
        if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
            return None


async def send(socket: web.WebSocketResponse, data: bytes) -> None:
    """Raises `ConnectionError`."""
    try:
        if channels.is_text(socket.ws_protocol or ""):
            await socket.send_str(channels.to_text(data))
        else:
            await socket.send_bytes(data)
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from error


class SocketRemote:
    """The channels of `channels.PROTOCOLS`."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def begin(self, stdout: bool, stderr: bool) -> None:
        """An empty message on each channel tells the client that it is open."""
        for channel, wanted in ((channels.STDOUT, stdout), (channels.STDERR, stderr)):
            if wanted:
                await send(self._socket, channels.encode(channel, b""))

    async def incoming(self) -> Incoming | None:
        while (message := await next_message(self._socket)) is not None:
            found = channels.decode(message)
            if found is not None:
                return found
        return None

    async def output(self, stream: int, data: bytes) -> None:
        await send(self._socket, channels.encode(stream, data))

    async def finish(self, status: Object) -> None:
        text = orjson.dumps(status)
        if (self._socket.ws_protocol or "") not in channels.WITH_STATUS:
            text = b"" if status["status"] == "Success" else str(status["message"]).encode()
        try:
            if text:
                await send(self._socket, channels.encode(channels.ERROR, text))
            await self._socket.close()
        except ConnectionError:
            return


class SocketPipe:
    """A `Pipe` of which each message carries the next bytes: SPDY tunnelled in a WebSocket."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def read(self) -> bytes:
        while (message := await next_message(self._socket)) is not None:
            if message:
                return message
        return b""

    async def write(self, data: bytes) -> None:
        await send(self._socket, data)

    async def close(self) -> None:
        await self._socket.close()
