"""Connects a WebSocket client with a process: standard streams, terminal sizes, the end."""

from __future__ import annotations

import asyncio
import contextlib

import orjson
from aiohttp import WSMsgType, web

from meshkube.node import channels
from meshkube.node.runtime import Process, RuntimeFailure

# The largest message taken from a client.
MESSAGE_LIMIT = 16 * 1024 * 1024


async def stream(
    socket: web.WebSocketResponse, process: Process, *, stdout: bool = True, stderr: bool = True
) -> None:
    """Until the process has ended or the client is gone. Each direction waits for its reader, so
    neither side is ever flooded."""
    # An empty message on each channel tells the client that it is open.
    for channel, wanted in ((channels.STDOUT, stdout), (channels.STDERR, stderr)):
        if wanted:
            await socket.send_bytes(channels.encode(channel, b""))
    try:
        async with asyncio.TaskGroup() as group:
            output = group.create_task(_output(socket, process, stdout, stderr))
            incoming = group.create_task(_incoming(socket, process))
            await asyncio.wait((output, incoming), return_when=asyncio.FIRST_COMPLETED)
            if output.done():
                await _end(socket, process, output.result())
            output.cancel()
            incoming.cancel()
    finally:
        await process.close()


async def _output(
    socket: web.WebSocketResponse, process: Process, stdout: bool, stderr: bool
) -> bool:
    """True at the end of the output; False where the client is gone."""
    wanted = {1: stdout, 2: stderr}
    try:
        while (piece := await process.read()) is not None:
            if wanted.get(piece.stream):
                await socket.send_bytes(channels.encode(piece.stream, piece.data))
    except (ConnectionError, RuntimeError):
        return False
    return True


async def _incoming(socket: web.WebSocketResponse, process: Process) -> None:
    async for message in socket:
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            continue
        data = message.data if isinstance(message.data, bytes) else message.data.encode()
        match channels.decode(data):
            case channels.Stdin(data):
                await process.write(data)
            case channels.StdinClosed():
                await process.close_stdin()
            case channels.Resize(width, height):
                await process.resize(width, height)
            case None:
                pass


async def _end(socket: web.WebSocketResponse, process: Process, complete: bool) -> None:
    if not complete:
        return
    try:
        status = channels.exit_status(await process.exit_code())
    except RuntimeFailure as failure:
        status = channels.failure_status(str(failure))
    with contextlib.suppress(ConnectionError, RuntimeError):
        await socket.send_bytes(channels.encode(channels.ERROR, orjson.dumps(status)))
        await socket.close()
