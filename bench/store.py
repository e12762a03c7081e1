"""The store beside SQLite alone on one disk: durable writes a second, the delay of a watch.

Every write is on the disk before it counts. The disk sets the pace of single writes, so the first
row says what it allows: one row a transaction, `synchronous=FULL`, nothing else. Rounds of all take
turns, and the best of each counts: other work on the machine only ever makes one slower.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path

import uvloop

from bench import harness
from meshkube.store import Store
from meshkube.store.sqlite import SqliteStore

SECONDS = 1.0
ROUNDS = 3
VALUE = b"x" * 1000
ROWS_READ = 10_000


def main() -> int:
    """Prints the tables."""
    # Beside the sources: a temporary directory may be in memory, where nothing is ever durable.
    here = Path(__file__).parents[1]
    with (
        tempfile.TemporaryDirectory(dir=here, prefix=".bench-store-") as directory,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(measure(Path(directory)))
    return 0


async def measure(directory: Path) -> None:
    store = await SqliteStore.open(directory / "store.db")
    numbers = count()
    raw, single, hundred = 0.0, 0.0, 0.0
    for round in range(ROUNDS):
        raw = max(raw, await asyncio.to_thread(sqlite_alone, directory / f"raw{round}.db"))
        single = max(single, await writes(store, 1, numbers))
        hundred = max(hundred, await writes(store, 100, numbers))
    harness.print_table(
        f"store: durable writes of {len(VALUE)} bytes, a second",
        ["", "writes/s", "x"],
        [
            ["SQLite alone, one row a commit", raw, 1.0],
            ["meshkube, one at a time", single, single / raw],
            ["meshkube, 100 at once", hundred, hundred / raw],
        ],
    )
    told, seen = await watch_delays(store)
    read, page = await reads(store)
    harness.print_table(
        "store: the rest",
        ["", "ms", "p99"],
        [
            ["write asked for to acknowledged", *centiles(told)],
            ["write asked for to seen by a watch", *centiles(seen)],
            ["one key read", *centiles(read)],
            [f"{ROWS_READ} keys read", *centiles(page)],
        ],
    )
    await store.aclose()


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


async def writes(store: Store, writers: int, numbers: Iterator[int]) -> float:
    """Creates a second by that many writers, each waiting for one before it begins the next."""
    done = 0
    started = time.perf_counter()

    async def write() -> None:
        nonlocal done
        while time.perf_counter() - started < SECONDS:
            await store.create(f"/bench/{next(numbers):09}", VALUE)
            done += 1

    await asyncio.gather(*(write() for _ in range(writers)))
    return done / (time.perf_counter() - started)


async def watch_delays(store: Store) -> tuple[list[float], list[float]]:
    """Milliseconds from the call of a write until its writer is told, and until a watch has it."""
    told, seen = [], []
    start = await store.revision()
    async with contextlib.aclosing(store.watch("/watched/", start)) as watch:  # type: ignore[type-var]
        await anext(watch)
        for number in range(500):
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


async def reads(store: Store) -> tuple[list[float], list[float]]:
    """Milliseconds to read one key, and ten thousand."""

    async def times(work: Callable[[], Awaitable[object]], rounds: int) -> list[float]:
        found = []
        for _ in range(rounds):
            started = time.perf_counter()
            await work()
            found.append((time.perf_counter() - started) * 1000)
        return found

    one = await times(lambda: store.get("/watched/7"), 1000)
    return one, await times(lambda: store.range("/bench/", limit=ROWS_READ), 10)


def centiles(milliseconds: list[float]) -> tuple[float, float]:
    """The median and the 99th hundredth."""
    return statistics.median(milliseconds), statistics.quantiles(milliseconds, n=100)[98]


if __name__ == "__main__":
    sys.exit(main())
