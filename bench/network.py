"""Pods of two hosts: through a cluster IP beside directly, over a route and over VXLAN, in one run.

Two test hosts with a pod each, the real pod network and the real rules. Client and server are small
Python programs in the pods' network namespaces: what counts is the ratio, on the same work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench import harness
from meshkube.api import kinds
from meshkube.dataplane.network_plan import Mode
from tests.dataplane.network_world import Hosts, hosts
from tests.dataplane.world import ADDRESS
from tests.lab.pods import Pod

SECONDS = 1.0
ROUNDS = 5
PINGS = 3000
PORT = 9100

# What a connection begins with says what it is for: `s` sink, `e` echo, `c` close at once.
_SERVER = """
import socket, sys, threading
def serve(c):
    try:
        kind = c.recv(1)
        if kind == b"s":
            buffer = bytearray(1 << 20)
            while c.recv_into(buffer): pass
        elif kind == b"e":
            c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := c.recv(64): c.sendall(data)
    except OSError: pass
    c.close()
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", int(sys.argv[1]))); s.listen(1024)
print("ready", flush=True)
while True:
    c, _ = s.accept()
    threading.Thread(target=serve, args=(c,), daemon=True).start()
"""
_CLIENT = """
import json, socket, sys, time
what, address, port, limit = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
def connect(kind):
    c = socket.create_connection((address, port), timeout=5)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); c.sendall(kind); return c
began = time.perf_counter()
if what == "throughput":
    c, block, sent = connect(b"s"), bytes(1 << 18), 0
    while time.perf_counter() - began < limit: c.sendall(block); sent += len(block)
    print(json.dumps([sent / (time.perf_counter() - began)]))
elif what == "connections":
    count = 0
    while time.perf_counter() - began < limit:
        c = connect(b"c"); c.recv(1); c.close(); count += 1
    print(json.dumps([count / (time.perf_counter() - began)]))
else:
    c, took = connect(b"e"), []
    for _ in range(int(limit)):
        at = time.perf_counter(); c.sendall(b"x"); c.recv(1); took.append(time.perf_counter() - at)
    print(json.dumps(took))
"""


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one way to the other pod."""

    megabytes: float
    connections: float
    median_us: float
    p99_us: float


def _enter(pod: Pod, *command: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{pod.namespace}", sys.executable, "-c", *command]


async def _run(client: Pod, what: str, address: str, port: int, limit: float) -> list[float]:
    command = _enter(client, _CLIENT, what, address, str(port), str(limit))
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=True, timeout=60
    )
    return [float(number) for number in json.loads(done.stdout)]


async def _measure(client: Pod, ways: Sequence[tuple[str, int]]) -> list[Figures]:
    """Each way in turn, again and again, so that what else the machine does hits all of them."""
    found: list[list[Figures]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for number, (address, port) in enumerate(ways):
            (rate,) = await _run(client, "throughput", address, port, SECONDS)
            (connections,) = await _run(client, "connections", address, port, SECONDS)
            took = sorted(await _run(client, "latency", address, port, PINGS))
            figures = Figures(
                rate / 1e6,
                connections,
                statistics.median(took) * 1e6,
                took[len(took) * 99 // 100] * 1e6,
            )
            found[number].append(figures)
    return [
        Figures(
            *(
                statistics.median(getattr(each, name) for each in rounds)
                for name in Figures.__slots__
            )
        )
        for rounds in found
    ]


def _publish(world: Hosts) -> None:
    world.api.put(
        kinds.SERVICE,
        {
            "metadata": {"name": "far", "namespace": "bench"},
            "spec": {"type": "ClusterIP", "clusterIP": ADDRESS, "ports": [{"port": 80}]},
        },
    )
    world.api.put(
        kinds.ENDPOINT_SLICE,
        {
            "metadata": {
                "name": "far-1",
                "namespace": "bench",
                "labels": {"kubernetes.io/service-name": "far"},
            },
            "addressType": "IPv4",
            "ports": [{"port": PORT, "protocol": "TCP"}],
            "endpoints": [{"addresses": [world.pods[1].address], "nodeName": "h1"}],
        },
    )


async def _mode(mode: Mode) -> list[Figures]:
    with hosts(2) as world:
        near, far = world.pods
        with _serving(far):
            _publish(world)
            async with world.network(mode, proxies=True):
                return await _measure(near, [(far.address, PORT), (ADDRESS, 80)])


@contextlib.contextmanager
def _serving(pod: Pod) -> Iterator[None]:
    command = _enter(pod, _SERVER, str(PORT))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        try:
            yield
        finally:
            server.kill()


def main() -> None:
    missing = harness.absent("nft", "ip")
    if os.geteuid() != 0 or missing:
        print(f"network: left out: {', '.join(missing) or 'needs root'}")
        return
    rows: list[list[object]] = []
    for mode, name in (("auto", "route"), ("vxlan", "VXLAN")):
        direct, service = asyncio.run(_mode(mode))  # type: ignore[arg-type]
        for way, figures in (("directly", direct), ("by a cluster IP", service)):
            rows.append(
                [
                    f"{name}, {way}",
                    figures.megabytes,
                    figures.connections,
                    figures.median_us,
                    figures.p99_us,
                ]
            )
        rows.append(
            [
                f"{name}: cluster IP / directly",
                service.megabytes / direct.megabytes,
                service.connections / direct.connections,
                service.median_us / direct.median_us,
                service.p99_us / direct.p99_us,
            ]
        )
    harness.print_table(
        "A pod and a pod of another host",
        ["way", "MB/s", "connections/s", "round trip µs", "p99 µs"],
        rows,
    )


if __name__ == "__main__":
    main()
