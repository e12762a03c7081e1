"""The client of exec and attach, however its connection is framed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from meshkube.api.types import Object
from meshkube.node import channels
from meshkube.node.channels import Incoming
from meshkube.node.remote_socket import SocketRemote, accept_socket
from meshkube.node.remote_spdy import VERSIONS, SpdyRemote, streams_of
from meshkube.node.spdy_session import Session
from meshkube.tunnel.accepting import accept

SPDY = "SPDY/3.1"
STREAM_VERSION = "X-Stream-Protocol-Version"
# After the last word: the client closes first, so that nothing of it is lost on the way.
LINGER = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which streams the client asked for."""

    stdin: bool = False
    stdout: bool = False
    stderr: bool = False
    tty: bool = False


class Remote(Protocol):
    """The client's side of a process."""

    async def incoming(self) -> Incoming | None:
        """What the client sent; None once it is gone."""
        ...

    async def output(self, stream: int, data: bytes) -> None:
        """1 is standard output, 2 standard error. Raises `ConnectionError`."""
        ...

    async def finish(self, status: Object) -> None:
        """The last word: how it ended."""
        ...


class NoCommonProtocol(Exception):
    """The client offers no framing that is spoken here."""


@contextlib.asynccontextmanager
async def accepted(
    request: web.Request, wanted: Wanted
) -> AsyncIterator[tuple[Remote, web.StreamResponse]]:
    """Upgrades the request's connection. The response is what the handler returns. Raises
    `NoCommonProtocol` before anything was answered."""
    upgrade = request.headers.get("Upgrade", "")
    if upgrade.lower() == "websocket":
        socket = await accept_socket(request, channels.PROTOCOLS)
        remote = SocketRemote(socket)
        await remote.begin(wanted.stdout, wanted.stderr)
        yield remote, socket
    elif upgrade.upper() == SPDY:
        async with _over_spdy(request, wanted) as made:
            yield made
    else:
        raise NoCommonProtocol(f"unable to upgrade: {upgrade or 'missing upgrade header'}")


@contextlib.asynccontextmanager
async def _over_spdy(
    request: web.Request, wanted: Wanted
) -> AsyncIterator[tuple[Remote, web.StreamResponse]]:
    version = chosen_version(request, VERSIONS)
    connection = await accept(request, {"Upgrade": SPDY, STREAM_VERSION: version})
    session = Session(connection)
    async with asyncio.TaskGroup() as group:
        running = group.create_task(session.run(), name="spdy")
        streams = await streams_of(session, wanted.stdin, wanted.stdout, wanted.stderr, wanted.tty)
        if streams is not None:
            remote = SpdyRemote(streams, version)
            reading = group.create_task(remote.read(running), name="spdy streams")
            yield remote, connection.response
            await asyncio.wait([running], timeout=LINGER)
            reading.cancel()
        else:
            yield _Gone(), connection.response
        running.cancel()


def chosen_version(request: web.Request, known: tuple[str, ...]) -> str:
    """The best framing of `known` that the client offers. Raises `NoCommonProtocol`."""
    offered = [
        one.strip()
        for header in request.headers.getall(STREAM_VERSION, [])
        for one in header.split(",")
    ]
    if not offered and "channel.k8s.io" in known:
        return "channel.k8s.io"
    for version in known:
        if version in offered:
            return version
    raise NoCommonProtocol(
        f"unable to upgrade: unable to negotiate protocol: client supports {offered}, "
        f"server accepts {list(known)}"
    )


class _Gone:
    """A client that never opened its streams."""

    async def incoming(self) -> Incoming | None:
        return None

    async def output(self, stream: int, data: bytes) -> None:
        raise ConnectionResetError("the client is gone")

    async def finish(self, status: Object) -> None:
        """Nobody listens."""
