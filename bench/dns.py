"""CPU per DNS query for cluster names, beside knot, unbound and dnsmasq: one process each, one run.

Each server answers the same Services on an address of loopback; dnsperf asks them in turn, with the
same file of questions, for a bounded time. Ours reads its Services from a real API in the process.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import uvloop

from bench import harness
from meshkube.api.kinds import SERVICE
from meshkube.clock import SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.dns.server import DnsServer
from meshkube.store.sqlite import SqliteStore

SERVICES = 1000
SECONDS = 5
ROUNDS = 3
DOMAIN = "cluster.local"
BAR_KNOT = 1.5


class Peer(NamedTuple):
    """A server under load."""

    name: str
    port: int
    pid: int


def address_of(number: int) -> str:
    """The cluster address of the Service with that number."""
    return f"10.43.{10 + number // 250}.{1 + number % 250}"


def name_of(number: int) -> str:
    return f"app{number}.default.svc.{DOMAIN}"


async def serve_ours(port: int) -> None:
    """Our server over a real API with the Services in it, until it is ended."""
    with tempfile.TemporaryDirectory() as directory:
        store = await SqliteStore.open(Path(directory) / "store.db")
        registry = Registry(store=store, clock=SystemClock())
        loaded = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(registry.run(loaded.set))
            await loaded.wait()
            client = LocalClient(registry)
            for start in range(0, SERVICES, 100):
                await asyncio.gather(*(_create(client, n) for n in range(start, start + 100)))
            server = DnsServer(
                client=client,
                address="127.0.0.1",
                domain=DOMAIN,
                networks=["10.43.0.0/16", "10.42.0.0/16"],
                upstreams=[],
                clock=SystemClock(),
                port=port,
            )
            await server.run(lambda: print("ready", flush=True))


async def _create(client: LocalClient, number: int) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": f"app{number}", "namespace": "default"},
        "spec": {"clusterIP": address_of(number), "ports": [{"name": "http", "port": 80}]},
    }
    await client.create(SERVICE, service)


def start(directory: Path, *command: str) -> int:
    """Starts a peer with its output in a file; returns its process id."""
    with (directory / "output").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return process.pid


def start_knot(directory: Path, port: int) -> int:
    """knotd with one worker per kind of socket."""
    zone = [f"$ORIGIN {DOMAIN}.", "$TTL 5", f"@ SOA ns.{DOMAIN}. a.{DOMAIN}. 1 1 1 1 5", "@ NS ns"]
    zone += [f"{name_of(n)}. A {address_of(n)}" for n in range(SERVICES)]
    (directory / "zone").write_text("\n".join([*zone, "ns A 127.0.0.1", ""]))
    (directory / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {directory}\n"
        "  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
        f"database:\n  storage: {directory}\n"
        f"zone:\n - domain: {DOMAIN}\n   file: {directory}/zone\n"
    )
    return start(directory, "knotd", "-c", str(directory / "knot.conf"))


def start_unbound(directory: Path, port: int) -> int:
    """unbound with the Services as local data, one thread."""
    data = "".join(f'  local-data: "{name_of(n)}. 5 A {address_of(n)}"\n' for n in range(SERVICES))
    (directory / "unbound.conf").write_text(
        f"server:\n  interface: 127.0.0.1\n  port: {port}\n  num-threads: 1\n  do-daemonize: no\n"
        f'  chroot: ""\n  username: ""\n  directory: "{directory}"\n  pidfile: ""\n'
        f'  use-syslog: no\n  do-not-query-localhost: no\n  local-zone: "{DOMAIN}." static\n{data}'
        "remote-control:\n  control-enable: no\n"
    )
    return start(directory, "unbound", "-c", str(directory / "unbound.conf"))


def start_dnsmasq(directory: Path, port: int) -> int:
    """dnsmasq with the Services as host records."""
    records = "".join(f"host-record={name_of(n)},{address_of(n)}\n" for n in range(SERVICES))
    (directory / "dnsmasq.conf").write_text(
        f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n"
        f"user=root\npid-file={directory}/pid\n{records}"
    )
    return start(directory, "dnsmasq", "--keep-in-foreground", "-C", f"{directory}/dnsmasq.conf")


PEERS: dict[str, tuple[str, Callable[[Path, int], int]]] = {
    "knot": ("knotd", start_knot),
    "unbound": ("unbound", start_unbound),
    "dnsmasq": ("dnsmasq", start_dnsmasq),
}


def start_ours(port: int) -> int:
    process = subprocess.Popen(
        [sys.executable, "-m", "bench.dns", "serve", str(port)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError("our server did not start")
    return process.pid


def load(port: int, questions: Path, pids: list[int]) -> tuple[int, float]:
    """(queries answered, CPU seconds used) in one bounded run of dnsperf."""
    before = harness.cpu_seconds(*pids)
    done = subprocess.run(
        ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-l", str(SECONDS),
         "-c", "4", "-q", "100"],
        capture_output=True, text=True, check=True, timeout=SECONDS * 6,
    )  # fmt: skip
    used = harness.cpu_seconds(*pids) - before
    found = re.search(r"Queries completed:\s+(\d+)", done.stdout)
    noerror = re.search(r"Response codes:\s+NOERROR \d+ \(100\.00%\)", done.stdout)
    if found is None or noerror is None:
        raise RuntimeError(f"dnsperf: {done.stdout}{done.stderr}")
    return int(found[1]), used


def main() -> int:
    """Prints the table."""
    if harness.absent("dnsperf"):
        print("bench.dns: skipped: dnsperf is not installed")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        peers = [Peer("meshkube", port := harness.free_port(), start_ours(port))]
        try:
            for name, (tool, starter) in PEERS.items():
                if harness.absent(tool):
                    print(f"{name}: skipped: {tool} is not installed")
                    continue
                directory = Path(temporary) / name
                directory.mkdir()
                port = harness.free_port()
                peers.append(Peer(name, port, starter(directory, port)))
            for peer in peers[1:]:
                harness.wait_for_port(peer.port)
            measure(Path(temporary), peers)
        finally:
            for peer in peers:
                # Ours takes its files with it where it is interrupted.
                os.kill(peer.pid, signal.SIGINT if peer.name == "meshkube" else signal.SIGTERM)
                os.waitpid(peer.pid, 0)
    return 0


def measure(directory: Path, peers: list[Peer]) -> None:
    """Loads each peer in turn, several rounds, and prints the least CPU per query of each."""
    questions = directory / "questions"
    questions.write_text("".join(f"{name_of(n)} A\n" for n in range(SERVICES)))
    best: dict[str, float] = {}
    rate: dict[str, float] = {}
    for _ in range(ROUNDS):
        for peer in peers:
            pids = harness.children(peer.pid)
            queries, used = load(peer.port, questions, pids)
            cost = used / queries * 1e6
            best[peer.name] = min(best.get(peer.name, cost), cost)
            rate[peer.name] = max(rate.get(peer.name, 0.0), queries / SECONDS)
            time.sleep(0.2)
    ours = best["meshkube"]
    rows = [[name, best[name], rate[name], ours / best[name]] for name in best]
    harness.print_table(
        f"DNS: {SERVICES} Services, A queries (bar: at most {BAR_KNOT} x knot)",
        ["server", "CPU us a query", "queries a second", "ours / it"],
        rows,
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                runner.run(serve_ours(int(sys.argv[2])))
            except KeyboardInterrupt:
                sys.exit(0)
    sys.exit(main())
