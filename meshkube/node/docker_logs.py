"""What containers wrote, out of Docker Engine: bytes as they come, no line held back."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, AsyncIterator

import aiodocker
import aiohttp

from meshkube.node.docker_replays import Replays, parted
from meshkube.node.runtime import LogOptions, NotFound, Output, RuntimeFailure, RuntimeUnavailable

_FRAME = struct.Struct(">BxxxL")
PIECE = 64 * 1024


def parameters(options: LogOptions, tty: bool) -> dict[str, str]:
    """The query of `GET /containers/ID/logs`. What is followed comes with times, but for a tty's
    bytes, which are in no messages."""
    params = {"stdout": "1", "stderr": "1", "follow": str(int(options.follow))}
    params["timestamps"] = str(int(options.timestamps or (options.follow and not tty)))
    params["tail"] = "all" if options.tail is None else str(options.tail)
    if options.since is not None:
        params["since"] = f"{options.since.timestamp():.9f}"
    return params


async def read_logs(
    docker: aiodocker.Docker, id: str, options: LogOptions, tty: bool
) -> AsyncGenerator[Output, None]:
    """Ends where the log does; with `follow`, once the container has ended."""
    no_limit = aiohttp.ClientTimeout(total=None, sock_read=None)
    try:
        async with docker._query(
            f"containers/{id}/logs", "GET", params=parameters(options, tty), timeout=no_limit
        ) as response:
            if tty:
                async for data in response.content.iter_any():
                    yield Output(1, data)
                return
            told = _once(response.content, options) if options.follow else _frames(response.content)
            async for output in told:
                yield output
    except aiodocker.DockerError as error:
        failure = NotFound if error.status == 404 else RuntimeFailure
        raise failure(error.message) from error
    except (aiohttp.ClientError, OSError) as error:
        raise RuntimeUnavailable(str(error)) from error


async def _once(content: aiohttp.StreamReader, options: LogOptions) -> AsyncIterator[Output]:
    """Messages, each once, with their times where those are wanted."""
    streams: dict[int, Replays] = {}
    while True:
        try:
            stream, size = _FRAME.unpack(await content.readexactly(_FRAME.size))
            frame = await content.readexactly(size)
        except asyncio.IncompleteReadError:
            return
        stamp, text = parted(frame)
        if streams.setdefault(stream, Replays()).is_new(stamp):
            yield Output(stream, frame if options.timestamps else text)


async def _frames(content: aiohttp.StreamReader) -> AsyncIterator[Output]:
    while True:
        try:
            stream, left = _FRAME.unpack(await content.readexactly(_FRAME.size))
        except asyncio.IncompleteReadError:
            return
        while left:
            data = await content.read(min(left, PIECE))
            if not data:
                return
            left -= len(data)
            yield Output(stream, data)
