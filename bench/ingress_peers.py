"""The proxies beside which the ingress is measured, each a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PEERS = ("nginx", "haproxy", "caddy")


@dataclass
class Peer:
    """One proxy under test."""

    name: str
    http: int
    https: int
    process: subprocess.Popen[bytes]


def cpu_ns(pid: int) -> int:
    """Nanoseconds on a core of a process, its threads and its children."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            total += int((task / "schedstat").read_text().split()[0])
            for child in (task / "children").read_text().split():
                total += cpu_ns(int(child))
    return total


@contextlib.contextmanager
def started(command: list[str], port: int, home: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server until it answers; ends it afterwards."""
    environment = {**os.environ, "GOMAXPROCS": "1", "HOME": home}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            if process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{command[0]} does not start: {' '.join(command)}")
            time.sleep(0.05)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """A directory for configuration files, which workers under another user can read."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        directory.chmod(0o755)
        yield directory


@contextlib.contextmanager
def running(
    names: Sequence[str],
    directory: Path,
    origin: int,
    ports: Mapping[str, tuple[int, int]],
    commands: Mapping[str, list[str]],
    origin_file: str = "origin.conf",
) -> Iterator[list[Peer]]:
    """The proxies of these names, with the server behind them (nginx, by its file in `directory`,
    on port `origin`). `ports` are each one's for HTTP and HTTPS; 0: it has none."""
    with contextlib.ExitStack() as stack:
        command = ["nginx", "-e", "stderr", "-c", str(directory / origin_file)]
        stack.enter_context(started(command, origin, str(directory)))
        yield [
            Peer(
                name,
                *ports[name],
                stack.enter_context(
                    started(commands[name], ports[name][1] or ports[name][0], str(directory))
                ),
            )
            for name in names
        ]


def in_turns(
    peers: Sequence[Peer], rounds: int, measure: Callable[[Peer], tuple[float, ...]]
) -> dict[str, list[float]]:
    """The medians of each one's figures: rounds go from proxy to proxy, so that noise meets all."""
    found = {peer.name: list[tuple[float, ...]]() for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            found[peer.name].append(measure(peer))
    return {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }


def print_load() -> None:
    print(f"load of this machine before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
