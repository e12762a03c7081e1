"""Pods without Docker: namespaces on a bridge `meshkube0` of a test host, with small servers."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.lab.host import Host, run

_NEW_NETWORK = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)

# Answers each connection (or datagram) with its name and the address it sees as the client's.
_SERVER = """
import socket, sys, threading
name, port, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
family = socket.AF_INET6 if ":" in address else socket.AF_INET
def udp():
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind((address, port))
    while True:
        _, peer = s.recvfrom(2000); s.sendto(f"{name} {peer[0]}".encode(), peer)
t = socket.socket(family); t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
t.bind((address, port)); t.listen(64)
threading.Thread(target=udp, daemon=True).start()
print("ready", flush=True)
while True:
    c, peer = t.accept(); c.sendall(f"{name} {peer[0]}".encode()); c.close()
"""


class Pod:
    """A network namespace with one address on its host's bridge."""

    def __init__(self, namespace: str, address: str) -> None:
        self.namespace = namespace
        self.address = address
        self.name = address
        self.processes: list[subprocess.Popen[bytes]] = []

    def serve(self, port: int) -> Pod:
        """Starts a TCP and UDP server that answers `<name> <client address>`."""
        self.processes.append(serve(self.namespace, self.name, port))
        return self

    def close(self) -> None:
        for process in self.processes:
            stop(process)
        run("ip", "netns", "delete", self.namespace, check=False)


def serve(namespace: str, name: str, port: int, address: str = "") -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [
            "nsenter",
            f"--net=/run/netns/{namespace}",
            sys.executable,
            "-c",
            _SERVER,
            name,
            str(port),
            address,
        ],
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextlib.contextmanager
def pods(host: Host, subnet: str, count: int) -> Iterator[list[Pod]]:
    """`count` pods at .2, .3, ... of a /24 (`10.42.0`), with the host's bridge at .1."""
    host.run("ip", "link", "add", "meshkube0", "type", "bridge")
    host.run("ip", "addr", "add", f"{subnet}.1/24", "dev", "meshkube0")
    host.run("ip", "link", "set", "meshkube0", "up")
    made: list[Pod] = []
    try:
        for index in range(count):
            pod = _add_pod(host, f"{subnet}.{index + 2}", subnet)
            made.append(pod)
        yield made
    finally:
        for pod in made:
            pod.close()
        host.run("ip", "link", "delete", "meshkube0", check=False)


def _add_pod(host: Host, address: str, subnet: str) -> Pod:
    number = next(_numbers)
    name = f"{host.name}-p{number}"
    run("ip", "netns", "add", name)
    link = f"veth{number}"
    host.run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
    host.run("ip", "link", "set", link, "master", "meshkube0", "up")
    for command in (
        "ip link set lo up",
        f"ip addr add {address}/24 dev eth0",
        "ip link set eth0 up",
        f"ip route add default via {subnet}.1",
    ):
        run("nsenter", f"--net=/run/netns/{name}", *command.split())
    return Pod(name, address)


@contextlib.contextmanager
def inside(namespace: str) -> Iterator[None]:
    """Puts the calling thread, and the threads and processes it starts, into a namespace."""
    before = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
    target = os.open(Path("/run/netns") / namespace, os.O_RDONLY)
    try:
        _enter(target)
        yield
    finally:
        _enter(before)
        os.close(before)
        os.close(target)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def ask(
    namespace: str, address: str, port: int, udp: bool = False, timeout: float = 2
) -> list[str]:
    """`[server's name, client's address as it saw it]`. Raises what the socket raises."""
    with connect(namespace, address, port, udp, timeout) as connection:
        if udp:
            connection.send(b"hello")
        return connection.recv(2000).decode().split()


def connect(
    namespace: str, address: str, port: int, udp: bool = False, timeout: float = 2
) -> socket.socket:
    """A socket of that namespace: it stays there wherever it is used."""
    with inside(namespace):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if udp else socket.SOCK_STREAM)
    try:
        made.settimeout(timeout)
        made.connect((address, port))
    except OSError:
        made.close()
        raise
    return made
