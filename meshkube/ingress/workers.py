"""The processes that share the ports of the ingress, with the daemon in charge of them.

Each has sockets of its own on the same ports (SO_REUSEPORT), which the daemon holds open too: when
a worker dies, whoever connects meanwhile waits in the kernel's queue for the next one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.ingress.external_names import Nameserver
from meshkube.ingress.settings import Settings
from meshkube.ingress.worker_wire import LONGEST, Reader, encoded, settings_out

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0
STEADY = 30.0
"""Seconds after which a worker that dies was a good one."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all workers begin with."""

    host: str | None
    ports: tuple[int, int]
    settings: Settings
    sockets: Sequence[Sequence[socket.socket]]
    """For each worker those that it listens on."""
    nameservers: Sequence[Nameserver] = ()


def message_of(kind: Kind, key: str, new: Object | None) -> bytes:
    """An object as workers are told of it."""
    return encoded({"kind": kind.plural, "key": key, "object": new})


class Workers:
    """All of them."""

    def __init__(
        self,
        plan: Plan,
        everything: Callable[[], Iterable[bytes]],
        counted: Callable[[dict[str, Any]], None],
    ) -> None:
        """`everything` is what a new worker is to know; `counted` gets the counts of each."""
        self._plan = plan
        self._everything = everything
        self._counted = counted
        self._links: dict[int, _Link] = {}
        self.restarts = 0

    @property
    def clients(self) -> int:
        """Clients that are connected to workers."""
        return sum(link.clients for link in self._links.values())

    def tell(self, message: bytes) -> None:
        """Every worker is told of a change."""
        for link in tuple(self._links.values()):
            link.write(message)

    async def run(self, ready: Callable[[], None]) -> None:
        """Keeps all of them running until cancelled; calls `ready` when all listen. Then lets them
        finish what is under way."""
        waiting = set(range(len(self._plan.sockets)))

        def listening(slot: int) -> None:
            if slot in waiting:
                waiting.discard(slot)
                if not waiting:
                    ready()

        async with asyncio.TaskGroup() as group:
            for slot in tuple(waiting):
                group.create_task(self._keep(slot, listening))

    async def _keep(self, slot: int, listening: Callable[[int], None]) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            started = loop.time()
            link, process = await self._start(slot)
            link.listening = lambda: listening(slot)
            try:
                await link.over.wait()
            finally:
                self._links.pop(slot, None)
                link.close()
                await _ended(process, self._plan.settings.drain_timeout + 5)
            self.restarts += 1
            pause = FIRST_PAUSE if loop.time() - started > STEADY else pause
            log.warning("an ingress worker has ended", extra={"status": process.returncode})
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _start(self, slot: int) -> tuple[_Link, subprocess.Popen[bytes]]:
        ours, theirs = socket.socketpair()
        sockets = [each.fileno() for each in self._plan.sockets[slot]]
        with theirs:
            process = _process(theirs.fileno(), sockets)
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: _Link(self._counted), sock=ours)
        link.write(
            encoded(
                {
                    "settings": settings_out(self._plan.settings),
                    "host": self._plan.host,
                    "ports": self._plan.ports,
                    "nameservers": self._plan.nameservers,
                    "sockets": ",".join(map(str, sockets)),
                    "log": _log_settings(),
                }
            )
        )
        for message in self._everything():
            link.write(message)
        link.write(encoded({"synced": True}))
        self._links[slot] = link
        return link, process


class _Link(asyncio.Protocol):
    """The daemon's end of the socket to one worker."""

    transport: asyncio.Transport

    def __init__(self, counted: Callable[[dict[str, Any]], None]) -> None:
        self._counted = counted
        self._reader = Reader()
        self.listening: Callable[[], None] = _nothing
        self.over = asyncio.Event()
        self.clients = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        for message in self._reader.feed(data):
            if "counts" in message:
                self.clients = message["counts"]["clients"]
                self._counted(message["counts"])
            else:
                self.listening()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over.set()

    def write(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if self.transport.get_write_buffer_size() > LONGEST:
            # It hangs: the next one begins with what is true then.
            log.error("an ingress worker takes no news: it is ended")
            self.transport.abort()

    def close(self) -> None:
        self.transport.close()


def _process(told_by: int, sockets: Sequence[int]) -> subprocess.Popen[bytes]:
    # asyncio's own way needs the main thread, and this runs on the loop of the traffic.
    return subprocess.Popen(
        [sys.executable, "-m", "meshkube.ingress.worker", str(told_by)],
        pass_fds=[told_by, *sockets],
        stdin=subprocess.DEVNULL,
    )


async def _ended(process: subprocess.Popen[bytes], patience: float) -> None:
    """Waits for the end of a process, and brings it about when that takes too long."""
    loop = asyncio.get_running_loop()
    with suppress(subprocess.TimeoutExpired):
        await loop.run_in_executor(None, process.wait, patience)
        return
    process.kill()
    await loop.run_in_executor(None, process.wait)


def _log_settings() -> dict[str, str]:
    root = logging.getLogger()
    name = type(root.handlers[0].formatter).__name__ if root.handlers else ""
    return {
        "format": "json" if name == "JsonFormatter" else "text",
        "level": logging.getLevelName(root.level),
    }


def _nothing() -> None:
    return
