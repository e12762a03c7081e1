"""A listener worker: a process that serves the ports of the ingress, told what to serve by it.

`python -m meshkube.ingress.worker FD`: the socket it is told by. It is started by
`meshkube.ingress.workers`, and ends when that socket does, after the requests under way.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any, cast

import uvloop

from meshkube import log
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.handover import HANDOVER
from meshkube.ingress import counts
from meshkube.ingress.controller import Ingress
from meshkube.ingress.fed import FedInformers
from meshkube.ingress.worker_wire import Reader, encoded, settings_in
from meshkube.priority import traffic_first

EVERY = 1.0
"""Seconds between two messages with counts."""


class _Told(asyncio.Protocol):
    """The worker's end of the socket."""

    def __init__(self) -> None:
        self.first: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.informers = FedInformers()
        self._reader = Reader()
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if "kind" in message:
                self.informers.take(message)
            elif "settings" in message:
                self.first.set_result(message)
            else:
                self.informers.synced.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()
        self.first.cancel()

    def say(self, message: dict[str, Any]) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(encoded(message))


class _Silent:
    """A recorder of Events in a process that makes none: the daemon does."""

    def event(self, obj: Mapping[str, Any], *_: str) -> None:
        return


async def serve(descriptor: int) -> None:
    """Serves until the socket ends."""
    loop = asyncio.get_running_loop()
    _, told = await loop.create_connection(_Told, sock=socket.socket(fileno=descriptor))
    first = await told.first
    log.set_up(first["log"]["format"], first["log"]["level"])
    HANDOVER.begin({"MESHKUBE_SOCKETS": first["sockets"]})
    part = Ingress(
        # It asks the API for nothing: what it is to know it is told.
        client=cast(Client, None),
        http_port=first["ports"][0],
        https_port=first["ports"][1],
        host=first["host"],
        settings=settings_in(first["settings"]),
        informers=cast(Informers, told.informers),
        recorder=cast(EventRecorder, _Silent()),
        reports=False,
        nameservers=[(host, port) for host, port in first["nameservers"]],
    )
    running = asyncio.create_task(part.run(lambda: told.say({"listening": True})))
    telling = asyncio.create_task(_tell(told, part))
    over = asyncio.create_task(told.over.wait())
    done, _ = await asyncio.wait({running, over}, return_when=asyncio.FIRST_COMPLETED)
    telling.cancel()
    if running in done:
        await running
    running.cancel()
    await asyncio.wait({running})


async def _tell(told: _Told, part: Ingress) -> None:
    while True:
        await asyncio.sleep(EVERY)
        told.say({"counts": counts.taken(part.proxy)})


def main() -> None:
    """Ends with the daemon, not with the terminal's signals."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    traffic_first()
    try:
        uvloop.run(serve(int(sys.argv[1])))
    except asyncio.CancelledError:
        os._exit(1)


if __name__ == "__main__":
    main()
