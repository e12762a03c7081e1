"""The stores beside SQLite alone on one disk: durable writes a second, delays, CPU.

Every write is on the disk before it counts. The disk sets the pace of single writes, so the first
row says what it allows: one row a transaction, `synchronous=FULL`, nothing else. Rounds of all take
turns, and the best of each counts: other work on the machine only ever makes one slower. The
members of etcd share this machine with each other and with the bench.

`--check-perf` also asks `etcdctl check perf` (a minute for each cluster), which speaks gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import uvloop

from bench import harness
from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.control.fence import Fence
from meshkube.store import Store
from meshkube.store.etcd import EtcdStore
from meshkube.store.sqlite import SqliteStore
from tests.support import etcd

SECONDS = 1.0
ROUNDS = 3
VALUE = b"x" * 1000
ROWS_READ = 2_000
WATCHED = 300


@dataclass(slots=True)
class Peer:
    """One store and its best rounds: `(writes a second, CPU of this process in µs for each)`."""

    name: str
    store: Store
    single: tuple[float, float] = (0.0, 0.0)
    hundred: tuple[float, float] = (0.0, 0.0)


def main() -> int:
    """Prints the tables."""
    # Beside the sources: a temporary directory may be in memory, where nothing is ever durable.
    here = Path(__file__).parents[1]
    with (
        tempfile.TemporaryDirectory(dir=here, prefix=".bench-store-") as directory,
        contextlib.ExitStack() as clusters,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        urls = {}
        for missing in harness.absent("etcd"):
            print(f"\nstore: without {missing}, which is not installed")
        if etcd.ETCD is not None:
            for size, name in ((1, "etcd, 1 member"), (3, "etcd, 3 members")):
                cluster = clusters.enter_context(etcd.etcd(size, base=Path(directory)))
                urls[name] = cluster.url
        runner.run(measure(Path(directory), urls))
        for name, url in urls.items():
            runner.run(across(name, url))
        if "--check-perf" in sys.argv:
            check_perf(urls)
    return 0


async def measure(directory: Path, urls: dict[str, str]) -> None:
    peers = [Peer("SQLite", await SqliteStore.open(directory / "store.db"))]
    peers += [Peer(name, await EtcdStore.open(url)) for name, url in urls.items()]
    numbers = count()
    raw = 0.0
    for round in range(ROUNDS):
        raw = max(raw, await asyncio.to_thread(sqlite_alone, directory / f"raw{round}.db"))
        for peer in peers:
            peer.single = max(peer.single, await writes(peer.store, 1, numbers))
            peer.hundred = max(peer.hundred, await writes(peer.store, 100, numbers))
    harness.print_table(
        f"store: durable writes of {len(VALUE)} bytes, a second",
        ["", "writes/s", "x", "our CPU us"],
        [["SQLite alone, one row a commit", raw, 1.0, ""], *rows(peers, raw)],
    )
    for peer in peers:
        await delays(peer)
        await peer.store.aclose()


def rows(peers: list[Peer], raw: float) -> Iterator[list[object]]:
    for peer in peers:
        for what, (rate, cpu) in (
            ("one at a time", peer.single),
            ("100 at once", peer.hundred),
        ):
            yield [f"meshkube on {peer.name}, {what}", rate, rate / raw, cpu]


async def delays(peer: Peer) -> None:
    told, seen = await watch_delays(peer.store)
    asked, read, page = await reads(peer.store)
    harness.print_table(
        f"store on {peer.name}: the rest",
        ["", "ms", "p99"],
        [
            ["write asked for to acknowledged", *centiles(told)],
            ["write asked for to seen by a watch", *centiles(seen)],
            ["the newest revision", *centiles(asked)],
            ["one key read", *centiles(read)],
            [f"{ROWS_READ} keys read", *centiles(page)],
        ],
    )


async def across(name: str, url: str) -> None:
    """Two servers of the API on one etcd, in this process: what is written through one, seen at
    the other; and what claims and terms cost."""
    async with contextlib.AsyncExitStack() as stack:
        registries = []
        for _ in range(2):
            store = await EtcdStore.open(f"{url}/api")
            stack.push_async_callback(store.aclose)
            registries.append(Registry(store=store, clock=SystemClock()))
        group = await stack.enter_async_context(asyncio.TaskGroup())
        tasks = []
        for registry in registries:
            ready = asyncio.Event()
            tasks.append(group.create_task(registry.run(ready.set)))
            await ready.wait()
        await _table_across(name, [LocalClient(registry) for registry in registries], registries)
        for task in tasks:
            task.cancel()


async def _table_across(name: str, clients: list[LocalClient], registries: list[Registry]) -> None:
    one, other = clients
    rows: list[list[object]] = []
    for what, watcher in (("same", one), ("other", other)):
        seen = await seen_at(one, watcher, what)
        rows.append([f"write asked for to seen by a watch, {what} server", *centiles(seen)])
    read = [await _timed_ms(read_back(one, other, number)) for number in range(WATCHED)]
    rows.append(["write at one server, then read at the other", *centiles(read)])
    lease = {"metadata": {"name": "bench", "namespace": "kube-system"}, "spec": {}}
    fence = Fence()
    fence.hold(await one.create(kinds.LEASE, lease))
    leading = LocalClient(registries[0], fence=fence)
    for what, client, kind in (
        ("a ConfigMap created", one, kinds.CONFIG_MAP),
        ("the same in a leader's term", leading, kinds.CONFIG_MAP),
        ("a Service created, with its claims", one, kinds.SERVICE),
    ):
        times = []
        for number in range(WATCHED):
            unique = f"{kind.singular}-{client is leading}-{number}".lower()
            obj: Object = {"metadata": {"name": unique, "namespace": "default"}}
            if kind is kinds.SERVICE:
                obj["spec"] = {"type": "NodePort", "ports": [{"port": 80}]}
            times.append(await _timed_ms(client.create(kind, obj)))
        rows.append([what, *centiles(times)])
    harness.print_table(f"two servers on {name}", ["", "ms", "p99"], rows)


async def seen_at(writer: LocalClient, watcher: LocalClient, name: str) -> list[float]:
    """Milliseconds from the call of a create until a watch, there, tells of it."""
    found = []
    start = (await watcher.list(kinds.CONFIG_MAP, "default")).resource_version
    watch = watcher.watch(kinds.CONFIG_MAP, "default", resource_version=start)
    async with contextlib.aclosing(watch) as events:
        for number in range(WATCHED):
            obj = {"metadata": {"name": f"{name}-{number}", "namespace": "default"}}
            started = time.perf_counter()
            writing = asyncio.ensure_future(writer.create(kinds.CONFIG_MAP, obj))
            await anext(events)
            found.append((time.perf_counter() - started) * 1000)
            await writing
    return found


async def read_back(writer: LocalClient, reader: LocalClient, number: int) -> None:
    obj = {"metadata": {"name": f"back-{number}", "namespace": "default"}}
    await writer.create(kinds.CONFIG_MAP, obj)
    await reader.get(kinds.CONFIG_MAP, f"back-{number}", "default")


async def _timed_ms(work: Awaitable[object]) -> float:
    started = time.perf_counter()
    return (await timed(work) - started) * 1000


def check_perf(urls: dict[str, str]) -> None:
    found: list[list[object]] = []
    for name, url in urls.items():
        endpoints = url.partition("://")[2]
        done = subprocess.run(
            ["etcdctl", f"--endpoints={endpoints}", "check", "perf", "--load=l"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env={**os.environ, "ETCDCTL_API": "3"},
            timeout=180,
        )
        match = re.search(r"[Tt]hroughput.*?(\d+) writes/s", done.stdout)
        found.append([f"{name}, 500 clients", float(match[1]) if match else "no result"])
    harness.print_table("etcdctl check perf --load=l (at most 8,000/s)", ["", "writes/s"], found)


def sqlite_alone(path: Path) -> float:
    """Rows a second that SQLite commits one by one."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("CREATE TABLE log (revision INTEGER PRIMARY KEY, key TEXT, value BLOB)")
        done = 0
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < SECONDS:
            key = f"/bench/{done:09}"
            connection.execute("INSERT INTO log VALUES (?, ?, ?)", (done, key, VALUE))
            done += 1
    return done / elapsed


async def writes(store: Store, writers: int, numbers: Iterator[int]) -> tuple[float, float]:
    """Creates a second by that many writers, each waiting for one before it begins the next; and
    the CPU that each took in this process, in microseconds."""
    done = 0
    used = time.process_time()
    started = time.perf_counter()

    async def write() -> None:
        nonlocal done
        while time.perf_counter() - started < SECONDS:
            await store.create(f"/bench/{next(numbers):09}", VALUE)
            done += 1

    await asyncio.gather(*(write() for _ in range(writers)))
    rate = done / (time.perf_counter() - started)
    return rate, (time.process_time() - used) / done * 1e6


async def watch_delays(store: Store) -> tuple[list[float], list[float]]:
    """Milliseconds from the call of a write until its writer is told, and until a watch has it."""
    told, seen = [], []
    start = await store.revision()
    async with contextlib.aclosing(store.watch("/watched/", start)) as watch:  # type: ignore[type-var]
        await anext(watch)
        for number in range(WATCHED):
            started = time.perf_counter()
            write = asyncio.ensure_future(timed(store.create(f"/watched/{number}", VALUE)))
            batch = await anext(watch)
            while not batch.events:
                batch = await anext(watch)
            seen.append((time.perf_counter() - started) * 1000)
            told.append((await write - started) * 1000)
    return told, seen


async def timed(work: Awaitable[object]) -> float:
    """When it was done."""
    await work
    return time.perf_counter()


async def reads(store: Store) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds to learn the revision, to read one key, and thousands."""

    async def times(work: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
        found = []
        for _ in range(rounds):
            started = time.perf_counter()
            await work()
            found.append((time.perf_counter() - started) * 1000)
        return found

    asked = await times(store.revision, 300)
    one = await times(lambda: store.get("/watched/7"), 300)
    return asked, one, await times(lambda: store.range("/bench/", limit=ROWS_READ), 10)


def centiles(milliseconds: list[float]) -> tuple[float, float]:
    """The median and the 99th hundredth."""
    return statistics.median(milliseconds), statistics.quantiles(milliseconds, n=100)[98]


if __name__ == "__main__":
    sys.exit(main())
