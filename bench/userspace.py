"""TCP carried by the process itself (`--dataplane userspace`), beside haproxy in TCP mode: CPU time
for each connection and each gigabyte, one process each, in one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop

from bench import harness
from meshkube.dataplane.rules import Table
from meshkube.dataplane.services import Backend, Front, Frontend, Frontends, Settings
from meshkube.dataplane.userspace import UserKernel

ROUNDS = 5
CONNECTIONS = 3000
ROUND_TRIPS = 10_000
MEGABYTES = 400
ADDRESS = "127.43.0.80"


async def serve(port: int, backend: int) -> None:
    """Our relay, as the daemon runs it."""
    front = Frontend(Front(4, ADDRESS, 6, port), (Backend("127.0.0.1", backend),))
    table = Table()
    table.put("bench/web", Frontends((front,)))
    kernel = UserKernel()
    settings = Settings(node_name="h1", pod_cidrs=(), service_cidrs=("127.43.0.0/16",))
    await kernel.open(settings, "")
    await kernel.load(table.ruleset)
    await asyncio.Event().wait()


def backend(port: int) -> None:
    """What a connection begins with says what it is for: `e` echo, `s` sink, `c` close at once."""

    def talk(made: socket.socket) -> None:
        with made, contextlib.suppress(OSError):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            kind = made.recv(1)
            buffer = bytearray(1 << 20)
            while kind == b"s" and made.recv_into(buffer):
                pass
            if kind == b"s":
                made.sendall(b"!")
            while kind == b"e" and (data := made.recv(64)):
                made.sendall(data)

    import threading

    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        while True:
            made, _ = listening.accept()
            threading.Thread(target=talk, args=(made,), daemon=True).start()


def haproxy(directory: Path, port: int, behind: int) -> list[str]:
    file = directory / "haproxy.cfg"
    file.write_text(
        "global\n nbthread 1\ndefaults\n mode tcp\n timeout client 60s\n timeout server 60s\n"
        f" timeout connect 3s\nlisten f\n bind {ADDRESS}:{port}\n server s 127.0.0.1:{behind}\n"
    )
    return ["haproxy", "-db", "-f", str(file)]


@contextlib.contextmanager
def started(command: list[str], port: int) -> Iterator[int]:
    """Runs a relay until it listens; its process id."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        harness.wait_for_port(port, ADDRESS)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def connect(port: int, kind: bytes) -> socket.socket:
    made = socket.create_connection((ADDRESS, port), timeout=30)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.sendall(kind)
    return made


def connections(port: int) -> int:
    for _ in range(CONNECTIONS):
        with connect(port, b"c") as made:
            made.recv(1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return CONNECTIONS


def round_trips(port: int) -> int:
    with connect(port, b"e") as made:
        for _ in range(ROUND_TRIPS):
            made.sendall(b"x")
            made.recv(1)
    return ROUND_TRIPS


def megabytes(port: int) -> int:
    block = bytes(1 << 20)
    with connect(port, b"s") as made:
        for _ in range(MEGABYTES):
            made.sendall(block)
        made.shutdown(socket.SHUT_WR)
        made.recv(1)
    return MEGABYTES


def main() -> int:
    """Prints the table."""
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(int(sys.argv[2]), int(sys.argv[3])))
        return 0
    behind = harness.free_port()
    serving = multiprocessing.Process(target=backend, args=(behind,), daemon=True)
    serving.start()
    harness.wait_for_port(behind)
    works = {"connection": connections, "round trip": round_trips, "MB": megabytes}
    with tempfile.TemporaryDirectory() as place, contextlib.ExitStack() as stack:
        peers: dict[str, tuple[int, int]] = {}
        if not harness.absent("haproxy"):
            port = harness.free_port()
            command = haproxy(Path(place), port, behind)
            peers["haproxy, TCP mode"] = stack.enter_context(started(command, port)), port
        port = harness.free_port()
        command = [sys.executable, "-m", "bench.userspace", "serve", str(port), str(behind)]
        peers["meshkube, userspace"] = stack.enter_context(started(command, port)), port
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for _ in range(ROUNDS):
            for what, work in works.items():
                for name, (pid, port) in peers.items():
                    cpu, began = harness.cpu_seconds(pid), time.perf_counter()
                    count = work(port)
                    took, used = time.perf_counter() - began, harness.cpu_seconds(pid) - cpu
                    entry = (used / count * 1e6, count / took)
                    found.setdefault((what, name), []).append(entry)
    serving.kill()
    show(found, list(peers))
    return 0


def show(found: dict[tuple[str, str], list[tuple[float, float]]], peers: list[str]) -> None:
    rows: list[list[object]] = []
    for what in dict.fromkeys(what for what, _ in found):
        first = statistics.median(cpu for cpu, _ in found[what, peers[0]])
        for name in peers:
            cpu, rate = (statistics.median(each) for each in zip(*found[what, name], strict=True))
            rows.append([what, name, cpu, cpu / first if first else "", rate])
    harness.print_table(
        "TCP through a relay, one client at a time",
        ["work", "relay", "CPU us each", "x", "a second"],
        rows,
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
