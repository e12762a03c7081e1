"""The part that gives pods a way to cluster addresses where nobody has a right on the kernel.

One container of ours stands in the pods' network and answers for every Service address. Its
sockets are handed to this process, which carries their traffic like that of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Protocol

from meshkube.dataplane.gateway_calls import Calls
from meshkube.dataplane.gateway_program import SOCKET
from meshkube.handover import bind

log = logging.getLogger(__name__)

STARTS_WITHIN = 20.0
LOOK_EVERY = 1.0
PATIENCE = 10.0
"""How long the first who ask for a socket wait for the gateway."""


class Starter(Protocol):
    """Runs the gateway's program in a container."""

    async def start(self, directory: Path) -> None:
        """In place of an earlier one; the program finds its socket in `directory`."""
        ...


class Gateway:
    """Part "gateway": sockets in the pods' network, for any thread."""

    name = "gateway"

    def __init__(self, *, starter: Starter, directory: Path, networks: Sequence[str]) -> None:
        """`networks` are those of Services; of these the gateway answers for IPv4 ones."""
        self._starter = starter
        self._directory = directory
        self._networks = [each for each in networks if ip_network(each).version == 4]
        self._calls: Calls | None = None
        self._tried = threading.Event()
        self.epoch = 0
        """Grows with each new container: sockets of an earlier one reach nobody."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Raises `OSError` or the starter's errors where there is no gateway, or none any more."""
        try:
            calls = await self._begin()
        finally:
            self._tried.set()
        try:
            log.info("gateway answers for Services", extra={"networks": self._networks})
            ready()
            while True:
                await asyncio.sleep(LOOK_EVERY)
                if calls.ended:
                    raise ConnectionError("the gateway's container has ended")
        finally:
            self._calls = None
            calls.close()

    async def _begin(self) -> Calls:
        with self._listening() as listener:
            await self._starter.start(self._directory)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(STARTS_WITHIN):
                connection, _ = await loop.sock_accept(listener)
        calls = await asyncio.to_thread(Calls, connection, os.uname().machine)
        try:
            for network in self._networks:
                await asyncio.to_thread(calls.answer_for, network)
        except BaseException:
            calls.close()
            raise
        self._calls = calls
        self.epoch += 1
        return calls

    @contextlib.contextmanager
    def _listening(self) -> Iterator[socket.socket]:
        """The program is root without rights, so the socket lets everybody in: the data directory
        above it does not."""
        self._directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._directory.chmod(0o711)
        (self._directory / SOCKET).unlink(missing_ok=True)
        directory = os.open(self._directory, os.O_PATH)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            try:
                # The path as it is may be too long for the address of a socket.
                listener.bind(f"/proc/self/fd/{directory}/{SOCKET}")
            finally:
                os.close(directory)
            (self._directory / SOCKET).chmod(0o666)
            listener.listen(1)
            listener.setblocking(False)
            yield listener
        (self._directory / SOCKET).unlink(missing_ok=True)

    def has(self, address: str) -> bool:
        """Whether it is one of the addresses that the gateway answers for."""
        return any(ip_address(address) in ip_network(each) for each in self._networks)

    def opened(self, kind: socket.SocketKind, address: str, port: int) -> socket.socket:
        """A socket bound to a Service address, for pods and this host. Blocks while the gateway
        starts. Raises `OSError`."""
        self._tried.wait(PATIENCE)
        calls = self._calls
        if calls is None:
            raise OSError(errno.ENETDOWN, "the gateway for Services does not run")
        made = calls.socket(kind)
        bind(made, address, port)
        return made


class GatewayPlace:
    """Where a server of this process listens: an address of the gateway's, for UDP and TCP."""

    def __init__(self, gateway: Gateway, address: str, port: int) -> None:
        self._gateway = gateway
        self._address = address
        self._port = port
        self._epoch = 0

    @property
    def lost(self) -> bool:
        """Whether the gateway's container is another one by now."""
        return self._epoch != self._gateway.epoch

    def opened(self) -> tuple[socket.socket, socket.socket]:
        """A UDP and a TCP socket. Blocks while the gateway starts. Raises `OSError`."""
        udp = self._gateway.opened(socket.SOCK_DGRAM, self._address, self._port)
        self._epoch = self._gateway.epoch
        try:
            return udp, self._gateway.opened(socket.SOCK_STREAM, self._address, self._port)
        except OSError:
            udp.close()
            raise
