"""Connections from inside a pod's network, where what listens on localhost is reached too."""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import threading

from meshkube.tunnel.pipe import StreamPipe

CLONE_NEWNET = 0x40000000
CONNECT_SECONDS = 10.0
_FAMILIES = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


async def connect(process: int, port: int, address: str = "") -> StreamPipe:
    """A TCP connection to `port` of localhost in the network of a process of this host; where
    nobody listens there, to the pod's own `address`. Raises `OSError`."""
    places = [*_FAMILIES, *([(socket.AF_INET, address)] if address else [])]
    first: OSError | None = None
    for family, host in places:
        try:
            made = await asyncio.to_thread(_socket_in, process, family)
            return await _connected(made, host, port)
        except OSError as error:
            first = first or error
    assert first is not None
    raise first


async def connect_directly(address: str, port: int) -> StreamPipe:
    """Raises `OSError`."""
    async with asyncio.timeout(CONNECT_SECONDS):
        return StreamPipe(*await asyncio.open_connection(address, port))


async def _connected(made: socket.socket, host: str, port: int) -> StreamPipe:
    try:
        made.setblocking(False)
        async with asyncio.timeout(CONNECT_SECONDS):
            await asyncio.get_running_loop().sock_connect(made, (host, port))
            return StreamPipe(*await asyncio.open_connection(sock=made))
    except BaseException:
        made.close()
        raise


def _socket_in(process: int, family: socket.AddressFamily) -> socket.socket:
    """A socket belongs to the network of the thread that makes it: one thread goes there, and
    ends."""
    made: list[socket.socket] = []
    failures: list[OSError] = []

    def work() -> None:
        try:
            _enter(process)
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="pod network")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return made[0]


def _enter(process: int) -> None:
    descriptor = os.open(f"/proc/{process}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"cannot enter the pod's network: {os.strerror(number)}")
    finally:
        os.close(descriptor)
