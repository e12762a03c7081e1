"""A container's log over a WebSocket, one frame for each piece. Source: Kubernetes documentation,
"API concepts", and the sub-protocols that its clients offer: bytes as they are (none named, or
`binary.k8s.io`), or in base64 as text (`base64.binary.k8s.io`)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from meshkube.control.apiserver.http import Call

BASE64 = "base64.binary.k8s.io"
PROTOCOLS = ("binary.k8s.io", BASE64)
CLOSING_SECONDS = 10.0


def wants_socket(call: Call) -> bool:
    """Whether the client asks for a WebSocket."""
    named = [one.strip().lower() for one in call.header("Connection").split(",")]
    return "upgrade" in named and call.header("Upgrade").lower() == "websocket"


async def send_all(call: Call, pieces: AsyncIterator[bytes]) -> web.StreamResponse:
    """Sends what comes until it ends, or until the client has gone."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, timeout=CLOSING_SECONDS, compress=False)
    await socket.prepare(call.request)
    call.started = True
    async with asyncio.TaskGroup() as group:
        sending = group.create_task(_send_each(socket, pieces))
        listening = group.create_task(_until_gone(socket))
        await asyncio.wait((sending, listening), return_when=asyncio.FIRST_COMPLETED)
        sending.cancel()
        listening.cancel()
    await socket.close()
    return socket


async def _until_gone(socket: web.WebSocketResponse) -> None:
    """What a client says means nothing here, but for its good-bye."""
    async for _ in socket:
        pass


async def _send_each(socket: web.WebSocketResponse, pieces: AsyncIterator[bytes]) -> None:
    with contextlib.suppress(ConnectionError, aiohttp.ClientError):
        async for piece in pieces:
            await _send(socket, piece)


async def _send(socket: web.WebSocketResponse, piece: bytes) -> None:
    if socket.ws_protocol == BASE64:
        await socket.send_str(base64.b64encode(piece).decode())
    else:
        await socket.send_bytes(piece)
