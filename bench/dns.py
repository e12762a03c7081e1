"""CPU per DNS query beside knot, unbound, dnsmasq and CoreDNS: one thread each, in one run.

dnsperf asks each server in turn the same questions for a bounded time: names that exist, names that
do not, the first names of pods' search lists, names of another server, and names that exist while
Services come and go.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import aiohttp

from bench import api_servers, harness
from bench.dns_peers import (
    DOMAIN,
    FORWARDED,
    OUTSIDE,
    SERVICES,
    Peer,
    World,
    address_of,
    end,
    name_of,
    running,
    start_outside,
)

SECONDS = 3
ROUNDS = 2
MORE_SERVICES = 9000
"""Beside those that are asked for, while Services churn."""
CHURN = 50
"""Changes a second."""
BARS = {"knot": 1.5, "coredns": 0.25}


class Work(NamedTuple):
    """One kind of question."""

    title: str
    questions: list[str]
    peers: frozenset[str] = frozenset()
    """Who can answer it; empty: everybody."""


WORKS = [
    Work("names of Services", [name_of(n) for n in range(SERVICES)]),
    Work("names that do not exist", [f"no{n}.default.svc.{DOMAIN}" for n in range(SERVICES)]),
    Work(
        "search lists: another namespace's Service, from its short name",
        [f"app{n}.default.kube-system.svc.{DOMAIN}" for n in range(SERVICES)],
        frozenset({"meshkube", "coredns"}),
    ),
    Work(
        "names of another server, kept",
        [f"web{n}.{OUTSIDE}" for n in range(FORWARDED)],
        frozenset({"meshkube", "unbound", "dnsmasq", "coredns"}),
    ),
]


def load(port: int, questions: Path, pid: int) -> tuple[int, float]:
    """(queries answered, CPU seconds used) in one bounded run of dnsperf."""
    pids = harness.children(pid)
    before = harness.cpu_seconds(*pids)
    done = subprocess.run(
        ["dnsperf", "-s", "127.0.0.1", "-p", str(port), "-d", str(questions), "-l", str(SECONDS),
         "-c", "4", "-q", "100"],
        capture_output=True, text=True, check=True, timeout=SECONDS * 6,
    )  # fmt: skip
    used = harness.cpu_seconds(*pids) - before
    found = re.search(r"Queries completed:\s+(\d+) \((\d+)", done.stdout)
    if found is None or int(found[2]) < 99:
        raise RuntimeError(f"dnsperf: {done.stdout}{done.stderr}")
    return int(found[1]), used


def measure(directory: Path, peers: list[Peer], work: Work) -> None:
    """Loads each peer in turn, several rounds, and prints the least CPU per query of each."""
    questions = directory / "questions"
    questions.write_text("".join(f"{name} A\n" for name in work.questions))
    best: dict[str, float] = {}
    rate: dict[str, float] = {}
    for _ in range(ROUNDS):
        for peer in peers:
            if work.peers and peer.name not in work.peers:
                continue
            queries, used = load(peer.port, questions, peer.pid)
            cost = used / queries * 1e6
            best[peer.name] = min(best.get(peer.name, cost), cost)
            rate[peer.name] = max(rate.get(peer.name, 0.0), queries / SECONDS)
            time.sleep(0.2)
    ours = best["meshkube"]
    rows = [[name, best[name], rate[name], ours / best[name], BARS.get(name, "")] for name in best]
    header = ["server", "CPU us a query", "queries a second", "ours / it", "bar"]
    harness.print_table(f"DNS, {work.title}", header, rows)


class Cluster:
    """The API's Services."""

    def __init__(self, client: aiohttp.ClientSession, api: str) -> None:
        self._client = client
        self._url = f"{api}/api/v1/namespaces/default/services"

    async def fill(self, first: int, count: int) -> None:
        """Makes Services with those numbers."""
        for start in range(first, first + count, 100):
            await asyncio.gather(*map(self._create, range(start, start + 100)))

    async def _create(self, number: int) -> None:
        service = {
            "metadata": {"name": f"app{number}"},
            "spec": {"clusterIP": address_of(number), "ports": [{"name": "http", "port": 80}]},
        }
        async with self._client.post(self._url, json=service) as answer:
            answer.raise_for_status()

    @contextlib.asynccontextmanager
    async def churning(self) -> AsyncIterator[None]:
        """Services beyond those that are asked for come and go."""

        async def churn() -> None:
            for number in itertools.cycle(range(SERVICES, SERVICES + MORE_SERVICES)):
                async with self._client.delete(f"{self._url}/app{number}"):
                    await self._create(number)
                await asyncio.sleep(2 / CHURN)

        task = asyncio.create_task(churn())
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def compare(directory: Path) -> None:
    """Prints every table."""
    (directory / "outside").mkdir()
    outside = harness.free_port()
    pid = start_outside(directory / "outside", outside)
    try:
        async with api_servers.session(directory) as client:
            with api_servers.ours(directory, client) as (api, _):
                cluster = Cluster(client, api.url)
                await cluster.fill(0, SERVICES)
                with running(World(directory, api.url, outside)) as peers:
                    for work in WORKS:
                        await asyncio.to_thread(measure, directory, peers, work)
                    await cluster.fill(SERVICES, MORE_SERVICES)
                    async with cluster.churning():
                        work = Work(
                            f"names of Services while {CHURN} of {SERVICES + MORE_SERVICES} change"
                            " a second",
                            WORKS[0].questions,
                            frozenset({"meshkube", "coredns"}),
                        )
                        await asyncio.to_thread(measure, directory, peers, work)
    finally:
        end(pid)


def main() -> int:
    if harness.absent("dnsperf", "knotd"):
        print("bench.dns: skipped: dnsperf or knotd is not installed")
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        asyncio.run(compare(Path(temporary)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
