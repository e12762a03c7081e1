"""The ingress beside nginx, haproxy and caddy: bodies, connections, HTTP/2 and idle connections in
tables without bars, in one run.

`.venv/bin/python -m bench.ingress_wide [--seconds S]`. The proxies, their settings and how CPU is
counted are those of `bench.ingress`; the origin serves files here.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bench import ingress
from bench.harness import children, free_port, print_table, resident_megabytes
from bench.ingress_peers import PEERS, Peer, cpu_ns, print_load, running, workspace

BODIES = {"0": 0, "1 KB": 1 << 10, "100 KB": 100 << 10, "10 MB": 10 << 20}
CONNECTIONS = (8, 64, 1000)
IDLE = 10_000
STREAMS = 32
ROUNDS = 2


def origin_configuration(directory: Path, port: int) -> None:
    """A server of files by size."""
    bodies = directory / "bodies"
    bodies.mkdir()
    for size in BODIES.values():
        (bodies / f"{size}").write_bytes(b"x" * size)
    (directory / "wide-origin.conf").write_text(
        "worker_processes 1; daemon off; events { worker_connections 4096; } error_log stderr;"
        f" pid {directory}/wide.pid; http {{ access_log off; sendfile on;"
        " keepalive_requests 1000000000; keepalive_timeout 600s;"
        + "".join(
            f" {kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        + f" server {{ listen 127.0.0.1:{port}; root {bodies}; }} }}"
    )


def allow_http2(directory: Path) -> None:
    """Lets the peers that need telling speak HTTP/2 to clients."""
    for name, old, new in (
        ("nginx.conf", " ssl;", " ssl http2;"),
        ("haproxy.cfg", "both.pem\n", "both.pem alpn h2,http/1.1\n"),
    ):
        file = directory / name
        file.write_text(file.read_text().replace(old, new))


def wrk(peer: Peer, size: int, connections: int, seconds: float) -> tuple[float, ...]:
    """(CPU in microseconds a request, requests a second, p50, p99, p99.9 in milliseconds)."""
    script = "done = function(s, l) for _, p in ipairs({50, 99, 99.9}) do"
    script += ' io.write(string.format("P %f\\n", l:percentile(p) / 1000)) end end'
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout=10", "-s"]
        url = f"http://localhost:{peer.http}/{size}"
        before = cpu_ns(peer.process.pid)
        out = subprocess.run([*command, file.name, url], capture_output=True, text=True, check=True)
    spent = cpu_ns(peer.process.pid) - before
    if "Non-2xx" in out.stdout:
        raise SystemExit(f"{peer.name} answers errors:\n{out.stdout}")
    requests = int(first_group(r"(\d+) requests in", out.stdout))
    rate = float(first_group(r"Requests/sec:\s*([\d.]+)", out.stdout))
    latency = [float(found) for found in re.findall(r"^P ([\d.]+)", out.stdout, re.M)]
    return (spent / 1000 / max(requests, 1), rate, *latency)


def h2load(peer: Peer, path: str, seconds: float) -> tuple[float, float]:
    """(CPU in microseconds a request, requests a second) over TLS and HTTP/2."""
    before = cpu_ns(peer.process.pid)
    command = ["h2load", "-c8", f"-m{STREAMS}", f"-D{seconds:g}"]
    url = f"https://localhost:{peer.https}{path}"
    out = subprocess.run([*command, url], capture_output=True, text=True, check=True).stdout
    spent = cpu_ns(peer.process.pid) - before
    succeeded = int(first_group(r"(\d+) succeeded", out))
    if not succeeded or "0 failed" not in out:
        raise SystemExit(f"{peer.name} answers errors:\n{out}")
    return spent / 1000 / succeeded, succeeded / seconds


def first_group(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    return match[1] if match else "0"


def _median(measure: Callable[..., tuple[float, ...]], *arguments: object) -> list[float]:
    rounds = [measure(*arguments) for _ in range(ROUNDS)]
    return [statistics.median(column) for column in zip(*rounds, strict=True)]


def bodies(peers: list[Peer], seconds: float) -> None:
    """A table for each size of body."""
    for text, size in BODIES.items():
        rows: list[list[object]] = []
        for connections in CONNECTIONS if size < 1 << 20 else CONNECTIONS[:1]:
            for peer in peers:
                found = _median(wrk, peer, size, connections, seconds)
                rows.append([connections, peer.name, *found])
        header = ["connections", "", "CPU us", "a second", "p50 ms", "p99 ms", "p99.9 ms"]
        print_table(f"ingress, bodies of {text}", header, rows)


def streams(peers: list[Peer], seconds: float) -> None:
    """HTTP/2 from clients: 8 connections with many streams each."""
    rows = []
    for peer in peers:
        small = _median(h2load, peer, "/0", seconds)
        large = _median(h2load, peer, f"/{100 << 10}", seconds)
        rows.append([peer.name, *small, *large])
    header = ["", "CPU us, empty", "a second", "CPU us, 100 KB", "a second"]
    print_table(f"ingress, HTTP/2 over TLS, 8 connections with {STREAMS} streams", header, rows)


def idle(peers: list[Peer]) -> None:
    """What connections that do nothing take."""
    # haproxy takes half of what it may open for connections.
    count = min(IDLE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2 - 100)
    rows = []
    for peer in peers:
        pids = children(peer.process.pid)
        before = sum(map(resident_megabytes, pids))
        with held(peer.http, count):
            used = sum(map(resident_megabytes, pids)) - before
        rows.append([peer.name, before, used, used * 1024 / count])
    header = ["", "MB before", "MB more", "KB each"]
    print_table(f"ingress, {count} idle connections after a request", header, rows)


@contextlib.contextmanager
def held(port: int, count: int) -> Iterator[None]:
    """That many connections, each after one request."""
    request = b"GET /0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for n in range(count):
            # One source address has too few ports for all peers in turn.
            source = (f"127.0.{1 + n // 2500}.1", 0)
            link = socket.create_connection(("127.0.0.1", port), 10, source)
            stack.enter_context(link)
            link.sendall(request)
            try:
                answer = link.recv(4096)
            except TimeoutError:
                answer = b"nothing"
            if not answer.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"connection {n} got {answer[:60]!r}")
        time.sleep(0.5)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run")
    parser.add_argument("tables", nargs="*", default=["bodies", "streams", "idle"])
    options = parser.parse_args()
    missing = [tool for tool in ("wrk", "nginx", "h2load") if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"this needs {', '.join(missing)} on PATH")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    names = ["meshkube", *(name for name in PEERS if shutil.which(name))]
    with workspace() as directory:
        origin = free_port()
        ports = {name: (free_port(), free_port()) for name in (*PEERS, "meshkube")}
        ingress.configure(directory, origin, ports)
        many = directory / "nginx.conf"
        many.write_text(
            many.read_text()
            .replace("worker_connections 4096", f"worker_connections {3 * IDLE}")
            .replace("proxy_pass http://b;", "proxy_pass http://b; proxy_buffering off;")
        )
        allow_http2(directory)
        origin_configuration(directory, origin)
        run = ingress.commands(directory, origin, ports)
        with running(names, directory, origin, ports, run, "wide-origin.conf") as peers:
            print_load()
            if "bodies" in options.tables:
                bodies(peers, options.seconds)
            if "streams" in options.tables:
                streams(peers, options.seconds)
            if "idle" in options.tables:
                idle(peers)


if __name__ == "__main__":
    main()
