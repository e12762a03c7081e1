"""A client of exec or attach that speaks SPDY: a stream for each direction, one for the end."""

from __future__ import annotations

import asyncio
import contextlib

import orjson

from meshkube.api.types import Object
from meshkube.node import channels
from meshkube.node.channels import Incoming, Resize, Stdin, StdinClosed
from meshkube.node.spdy_session import Session, Stream

VERSIONS = ("v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io")
"""From the fourth on the end is told as a Status; from the third on a terminal can be resized."""
WITH_STATUS = VERSIONS[0]
STREAM_TYPE = "streamtype"
# For the client to open its streams.
PATIENCE = 30.0
_OUTPUTS = {1: "stdout", 2: "stderr"}


async def streams_of(
    session: Session, stdin: bool, stdout: bool, stderr: bool, tty: bool
) -> dict[str, Stream] | None:
    """The streams by type, once the client opened all that it asked for; None where it did not."""
    wanted = {"error"}
    for name, asked in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
        if asked:
            wanted.add(name)
    found: dict[str, Stream] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while wanted - found.keys():
                stream = await session.accept()
                if stream is None:
                    return None
                found[stream.headers.get(STREAM_TYPE, "")] = stream
            if tty:
                await _resize_too(session, found)
            return found
    return None


async def _resize_too(session: Session, found: dict[str, Stream]) -> None:
    """Clients of old versions open none."""
    if "resize" in found:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            stream = await session.accept()
            if stream is not None:
                found[stream.headers.get(STREAM_TYPE, "")] = stream


class SpdyRemote:
    """`Remote` over the streams of one session."""

    def __init__(self, streams: dict[str, Stream], version: str) -> None:
        self._streams = streams
        self._version = version
        self._incoming: asyncio.Queue[Incoming | None] = asyncio.Queue(1)

    async def read(self, running: asyncio.Task[None]) -> None:
        """Gathers what comes on standard input and of sizes, until the session ends."""
        async with asyncio.TaskGroup() as group:
            readers = []
            if "stdin" in self._streams:
                readers.append(group.create_task(self._read_stdin(self._streams["stdin"])))
            if "resize" in self._streams:
                readers.append(group.create_task(self._read_sizes(self._streams["resize"])))
            await asyncio.wait([running])
            for reader in readers:
                reader.cancel()
        await self._incoming.put(None)

    async def _read_stdin(self, stream: Stream) -> None:
        while data := await stream.read():
            await self._incoming.put(Stdin(data))
        if not stream.was_reset:
            await self._incoming.put(StdinClosed())

    async def _read_sizes(self, stream: Stream) -> None:
        waiting = b""
        while data := await stream.read():
            *texts, waiting = (waiting + data)[-4096:].split(b"}")
            for text in texts:
                size = channels.decode(bytes([channels.RESIZE]) + text + b"}")
                if isinstance(size, Resize):
                    await self._incoming.put(size)

    async def incoming(self) -> Incoming | None:
        return await self._incoming.get()

    async def output(self, stream: int, data: bytes) -> None:
        found = self._streams.get(_OUTPUTS[stream])
        if found is not None:
            await found.write(data)

    async def finish(self, status: Object) -> None:
        with contextlib.suppress(ConnectionError):
            for name in ("stdout", "stderr"):
                if name in self._streams:
                    await self._streams[name].end_writing()
            if self._version == WITH_STATUS:
                await self._streams["error"].write(orjson.dumps(status))
            elif status["status"] != "Success":
                await self._streams["error"].write(str(status["message"]).encode())
            for stream in self._streams.values():
                await stream.end_writing()
