"""The servers that the bench of DNS measures: ours and its peers, one process each, on loopback.

Ours and CoreDNS read their Services from one API server; the others have the same names in a file.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from bench import harness
from bench.api_servers import ROOT, keys
from meshkube.client.http import HttpClient
from meshkube.clock import SystemClock
from meshkube.dns.server import DnsServer

SERVICES = 1000
FORWARDED = 200
DOMAIN = "cluster.local"
OUTSIDE = "bench.example"


@dataclass(frozen=True)
class World:
    """What every server is given."""

    directory: Path
    api: str
    """URL of an API server that takes the keys in `directory`."""
    outside: int
    """Port on loopback of a name server for `OUTSIDE`."""


@dataclass(frozen=True)
class Peer:
    """A server under load."""

    name: str
    port: int
    pid: int


def address_of(number: int) -> str:
    """The cluster address of the Service with that number."""
    return f"10.43.{10 + number // 250}.{1 + number % 250}"


def name_of(number: int) -> str:
    return f"app{number}.default.svc.{DOMAIN}"


def start(directory: Path, *command: str) -> int:
    """Starts a peer with its output in a file; returns its process id."""
    with (directory / "output").open("ab") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**os.environ, "GOMAXPROCS": "1"},
        )
    return process.pid


def knot(directory: Path, port: int, zone: str, records: list[str]) -> int:
    """knotd with one worker per kind of socket, and one zone."""
    start_of = [f"$ORIGIN {zone}.", "$TTL 5", f"@ SOA ns.{zone}. a.{zone}. 1 1 1 1 5", "@ NS ns"]
    (directory / "zone").write_text("\n".join([*start_of, *records, "ns A 127.0.0.1", ""]))
    (directory / "knot.conf").write_text(
        f"server:\n  listen: 127.0.0.1@{port}\n  rundir: {directory}\n"
        "  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n"
        f"database:\n  storage: {directory}\n"
        f"zone:\n - domain: {zone}\n   file: {directory}/zone\n"
    )
    return start(directory, "knotd", "-c", str(directory / "knot.conf"))


def start_knot(directory: Path, port: int, world: World) -> int:
    return knot(directory, port, DOMAIN, [f"{name_of(n)}. A {address_of(n)}" for n in numbers()])


def start_outside(directory: Path, port: int) -> int:
    """The name server of what is not in the cluster."""
    names = [f"web{n} 60 A 192.0.2.{1 + n % 250}" for n in range(FORWARDED)]
    return knot(directory, port, OUTSIDE, names)


def start_unbound(directory: Path, port: int, world: World) -> int:
    """unbound with the Services as local data, one thread."""
    data = "".join(f'  local-data: "{name_of(n)}. 5 A {address_of(n)}"\n' for n in numbers())
    (directory / "unbound.conf").write_text(
        f"server:\n  interface: 127.0.0.1\n  port: {port}\n  num-threads: 1\n  do-daemonize: no\n"
        f'  chroot: ""\n  username: ""\n  directory: "{directory}"\n  pidfile: ""\n'
        f'  use-syslog: no\n  do-not-query-localhost: no\n  local-zone: "{DOMAIN}." static\n{data}'
        "remote-control:\n  control-enable: no\n"
        f"forward-zone:\n  name: {OUTSIDE}\n  forward-addr: 127.0.0.1@{world.outside}\n"
    )
    return start(directory, "unbound", "-c", str(directory / "unbound.conf"))


def start_dnsmasq(directory: Path, port: int, world: World) -> int:
    """dnsmasq with the Services as host records."""
    records = "".join(f"host-record={name_of(n)},{address_of(n)}\n" for n in numbers())
    (directory / "dnsmasq.conf").write_text(
        f"port={port}\nlisten-address=127.0.0.1\nbind-interfaces\nno-resolv\nno-hosts\n"
        f"user=root\npid-file={directory}/pid\nlocal=/{DOMAIN}/\n"
        f"server=/{OUTSIDE}/127.0.0.1#{world.outside}\n{records}"
    )
    return start(directory, "dnsmasq", "--keep-in-foreground", "-C", f"{directory}/dnsmasq.conf")


def start_coredns(directory: Path, port: int, world: World) -> int:
    """CoreDNS as clusters run it, over the same API as ours, on one thread."""
    pki = world.directory / "pki"
    (directory / "Corefile").write_text(
        f".:{port} {{\n  bind 127.0.0.1\n  errors\n"
        f"  kubernetes {DOMAIN} {{\n    endpoint {world.api}\n    ttl 5\n"
        f"    tls {pki}/admin.crt {pki}/admin.key {pki}/ca.crt\n  }}\n"
        f"  forward . 127.0.0.1:{world.outside}\n  cache 30\n  loadbalance\n}}\n"
    )
    return start(directory, coredns(), "-conf", str(directory / "Corefile"))


def coredns() -> str:
    """Where the program is. Raises `subprocess.CalledProcessError` where it cannot be built."""
    command = [str(ROOT / "scripts/need-coredns")]
    return subprocess.check_output(command, text=True).strip()


def start_ours(directory: Path, port: int, world: World) -> int:
    command = [sys.executable, "-m", "bench.dns_peers", str(port), str(world.directory), world.api]
    process = subprocess.Popen(
        [*command, str(world.outside)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise RuntimeError("our server did not start")
    return process.pid


async def serve_ours(port: int, directory: Path, api: str, outside: int) -> None:
    """Our server over HTTP to the API, until it is ended."""
    tls = keys(directory).client_context("admin")
    async with HttpClient(api, tls) as client:
        server = DnsServer(
            client=client,
            address="127.0.0.1",
            domain=DOMAIN,
            networks=["10.43.0.0/16", "10.42.0.0/16"],
            upstreams=[("127.0.0.1", outside)],
            clock=SystemClock(),
            port=port,
        )
        await server.run(lambda: print("ready", flush=True))


def numbers() -> range:
    return range(SERVICES)


STARTERS: dict[str, Callable[[Path, int, World], int]] = {
    "meshkube": start_ours,
    "knot": start_knot,
    "unbound": start_unbound,
    "dnsmasq": start_dnsmasq,
    "coredns": start_coredns,
}
_TOOLS = {"knot": "knotd", "unbound": "unbound", "dnsmasq": "dnsmasq"}


def _why_not(name: str) -> str:
    """Why a peer is left out; empty where it can run."""
    if name == "coredns":
        done = subprocess.run(
            [str(ROOT / "scripts/need-coredns")], capture_output=True, text=True, check=False
        )
        return "" if done.returncode == 0 else done.stderr.strip().splitlines()[-1]
    tool = _TOOLS.get(name, "true")
    return f"{tool} is not installed" if harness.absent(tool) else ""


@contextmanager
def running(world: World) -> Iterator[list[Peer]]:
    """Every server that can run here, answering; ended afterwards."""
    peers: list[Peer] = []
    try:
        for name, starter in STARTERS.items():
            if reason := _why_not(name):
                print(f"{name}: skipped: {reason}")
                continue
            directory = world.directory / name
            directory.mkdir()
            port = harness.free_port()
            peers.append(Peer(name, port, starter(directory, port, world)))
        for peer in peers:
            try:
                harness.wait_for_port(peer.port)
            except TimeoutError:
                log = world.directory / peer.name / "output"
                raise RuntimeError(f"{peer.name} did not start: {log.read_text()}") from None
        yield peers
    finally:
        for peer in peers:
            end(peer.pid)


def end(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_ours(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
