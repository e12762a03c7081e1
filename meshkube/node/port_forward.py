"""Port-forward: connections of a client, carried to ports of a pod.

Over SPDY (plain, or tunnelled in a WebSocket) each connection is a pair of streams, one for data
and one for why it failed. Over WebSocket channels (`v4.channel.k8s.io`) there is one connection for
each port that the request names: channel 2n carries its data, 2n+1 its error. Source: Kubernetes'
remote port-forwarding protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from meshkube.node.remote_socket import next_message, send
from meshkube.node.runtime import RuntimeFailure
from meshkube.node.spdy_session import Session, Stream
from meshkube.tunnel.pipe import Pipe, StreamPipe

log = logging.getLogger(__name__)

SPDY_PROTOCOL = "portforward.k8s.io"
TUNNEL_PROTOCOL = "SPDY/3.1+portforward.k8s.io"
CHANNELS_PROTOCOLS = ("v4.channel.k8s.io", "v4.base64.channel.k8s.io")
# For the second stream of a pair.
PATIENCE = 30.0

Connect = Callable[[int], Awaitable[StreamPipe]]
"""Connects to a port of the pod. Raises `RuntimeFailure` or `OSError`."""


async def over_spdy(pipe: Pipe, connect: Connect) -> None:
    """Until the client is gone."""
    session = Session(pipe)
    waiting: dict[str, Stream] = {}
    async with asyncio.TaskGroup() as group:
        group.create_task(session.run(), name="spdy")
        while (stream := await session.accept()) is not None:
            key = _pair_of(stream)
            other = waiting.pop(key, None)
            if other is None:
                waiting[key] = stream
                group.create_task(_expire(waiting, key, stream), name="unpaired stream")
            else:
                data, error = (stream, other) if _is_data(stream) else (other, stream)
                group.create_task(_connection(data, error, connect), name="connection")


def _is_data(stream: Stream) -> bool:
    return stream.headers.get("streamtype") == "data"


def _pair_of(stream: Stream) -> str:
    """Old clients do not number their connections: they open the error stream, then the other."""
    number = stream.headers.get("requestid", "")
    return number or str(stream.id - 2 if _is_data(stream) else stream.id)


async def _expire(waiting: dict[str, Stream], key: str, stream: Stream) -> None:
    for _ in range(int(PATIENCE)):
        await asyncio.sleep(1.0)
        if waiting.get(key) is not stream or stream.was_reset:
            break
    if waiting.get(key) is stream:
        del waiting[key]
        await stream.close()


async def _connection(data: Stream, error: Stream, connect: Connect) -> None:
    try:
        pod = await _connected(data.headers.get("port", ""), connect)
    except (OSError, RuntimeFailure, ValueError) as failure:
        with contextlib.suppress(ConnectionError):
            await error.write(str(failure).encode())
        await error.close()
        await data.close()
        return
    try:
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(_to_pod(data, pod))
            await _from_pod(pod, data)
            await data.end_writing()
            # Nothing more can go wrong that the client should hear of.
            await error.end_writing()
            await sending
    finally:
        await pod.close()
        await data.close()
        await error.close()


async def _connected(port: str, connect: Connect) -> StreamPipe:
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f'"{port}" is not a port')
    return await connect(int(port))


async def _to_pod(data: Stream, pod: StreamPipe) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await data.read():
            await pod.write(piece)
    if data.was_reset:
        # The client wants no more of it: the pod's side ends too.
        await pod.close()
    else:
        await pod.end_writing()


async def _from_pod(pod: StreamPipe, data: Stream) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await pod.read():
            await data.write(piece)


async def over_channels(
    socket: web.WebSocketResponse, ports: Sequence[int], connect: Connect
) -> None:
    """One connection for each of `ports`, until all have ended or the client is gone."""
    for number, port in enumerate(ports):
        for channel in (2 * number, 2 * number + 1):
            await send(socket, bytes([channel]) + port.to_bytes(2, "little"))
    pods: dict[int, StreamPipe] = {}
    async with asyncio.TaskGroup() as group:
        outputs = []
        for number, port in enumerate(ports):
            try:
                pods[number] = await connect(port)
            except (OSError, RuntimeFailure) as failure:
                await send(socket, bytes([2 * number + 1]) + str(failure).encode())
                continue
            outputs.append(group.create_task(_channel(pods[number], socket, 2 * number)))
        incoming = group.create_task(_to_pods(socket, pods))
        try:
            if outputs:
                ended = group.create_task(_all(outputs))
                await asyncio.wait((ended, incoming), return_when=asyncio.FIRST_COMPLETED)
                ended.cancel()
        finally:
            for task in (incoming, *outputs):
                task.cancel()
            for pod in pods.values():
                await pod.close()
            await socket.close()


async def _all(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)


async def _channel(pod: StreamPipe, socket: web.WebSocketResponse, channel: int) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await pod.read():
            await send(socket, bytes([channel]) + data)


async def _to_pods(socket: web.WebSocketResponse, pods: dict[int, StreamPipe]) -> None:
    while (message := await next_message(socket)) is not None:
        pod = pods.get(message[0] // 2) if message and message[0] % 2 == 0 else None
        if pod is not None:
            with contextlib.suppress(ConnectionError):
                await pod.write(message[1:])
