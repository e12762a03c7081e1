"""The embedded store: an append-only log of revisions in one SQLite file, with group commit.

See docs/store.md for the reasons. One thread writes, a few read, the event loop reads single keys
itself; a watch replays the log and then follows what this process commits.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from meshkube.store import limits, sqlite_file, sqlite_rows
from meshkube.store.base import (
    Event,
    Guard,
    KeyValue,
    RangeResult,
    StoreError,
    StoreUnavailable,
    WatchBatch,
    Write,
)
from meshkube.store.broadcast import Broadcaster
from meshkube.store.sqlite_writer import Compaction, Request, Retention, Stop, Writer

READERS = 2
REPLAY_BITE = 500

T = TypeVar("T")


class SqliteStore:
    """`store.base.Store` in one file. Use it on the event loop that opened it."""

    def __init__(self, path: Path, lock: int, retention: Retention) -> None:
        """Use `open`."""
        self._path = path
        self._lock = lock
        self._loop = asyncio.get_running_loop()
        self._broadcaster = Broadcaster(self._loop)
        self._writer = Writer(path, self._loop, self._deliver, self._lost_track, retention)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-reader")
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._head: int | None = None
        self._closed = False
        self._released = False

    @classmethod
    async def open(
        cls,
        path: Path | str,
        *,
        keep_seconds: float = 300.0,
        keep_revisions: int = 50_000,
        first_revision: int = 0,
    ) -> SqliteStore:
        """Opens the store in the file `path`, or makes a new one. History is kept for
        `keep_seconds`, but never more than `keep_revisions`. A store that was never written to
        goes on from `first_revision`, as if all before it were compacted. Raises `StoreError`
        with one line where the file is foreign, damaged or in use."""
        file, lock = await asyncio.to_thread(_prepared, Path(path), first_revision)
        store = cls(file, lock, Retention(keep_seconds, keep_revisions))
        try:
            store._writer.start()
        except BaseException:
            store._readers.shutdown()
            os.close(lock)
            raise
        return store

    async def revision(self) -> int:
        # Kept in memory: a cache asks before each read, and only this process writes.
        self._check_open()
        if self._head is None:
            self._head = self._read_here(sqlite_rows.head)
        return self._head

    async def get(self, key: str) -> KeyValue | None:
        # A lookup of a few microseconds: a thread's round trip would cost ten times that.
        return self._read_here(lambda connection: sqlite_rows.current(connection, key))

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        def read(connection: sqlite3.Connection) -> RangeResult:
            return sqlite_rows.range_(connection, prefix, start_after, limit, revision)

        return await self._read(read)

    async def create(self, key: str, value: bytes) -> KeyValue:
        return await self.transact([Write(key, value, 0)])

    async def update(self, key: str, value: bytes, revision: int) -> KeyValue:
        return await self.transact([Write(key, value, revision or -1)])

    async def delete(self, key: str, revision: int) -> KeyValue:
        return await self.transact([Write(key, None, revision)])

    async def transact(self, writes: Sequence[Write], guards: Sequence[Guard] = ()) -> KeyValue:
        self._check_open()
        limits.check(writes, guards)
        future: asyncio.Future[KeyValue] = self._loop.create_future()
        self._writer.put(Request(writes, guards, future))
        return await future

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[WatchBatch, None]:
        """`Store.watch`. Close it (`contextlib.aclosing`) when done."""
        self._check_open()
        watcher = self._broadcaster.add(prefix)
        seen = after
        try:
            while True:
                # Collect first, then read the log: what is in both is told apart by its revision.
                watcher.restart()
                async for batch in self._replay(prefix, seen):
                    seen = batch.revision
                    yield batch
                while (news := await watcher.take()) is not None:
                    events, revision = news
                    fresh = tuple(event for event in events if event.kv.mod_revision > seen)
                    if fresh or revision > seen:
                        seen = max(seen, revision)
                        yield WatchBatch(fresh, seen)
        finally:
            self._broadcaster.remove(watcher)

    async def compact(self, revision: int) -> None:
        """`Store.compact`; a revision not reached yet means the current one."""
        self._check_open()
        future: asyncio.Future[None] = self._loop.create_future()
        self._writer.put(Compaction(revision, future))
        await future

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._writer.put(Stop())
        await asyncio.to_thread(self._join)
        if not self._released:
            self._released = True
            self._broadcaster.close(self._closed_error())
            for connection in self._connections:
                connection.close()
            os.close(self._lock)

    async def _replay(self, prefix: str, after: int) -> AsyncGenerator[WatchBatch, None]:
        complete = False
        while not complete:

            def read(connection: sqlite3.Connection, after: int = after) -> sqlite_rows.Replay:
                return sqlite_rows.replay(connection, prefix, after, REPLAY_BITE)

            found = await self._read(read)
            yield WatchBatch(found.events, found.revision)
            after, complete = found.revision, found.complete

    def _deliver(
        self,
        outcomes: Sequence[tuple[Request, KeyValue | StoreError]],
        events: Sequence[Event],
        revision: int,
    ) -> None:
        if events:
            self._head = revision
            self._broadcaster.send(events, revision)
        for request, outcome in outcomes:
            if request.future.done():
                continue
            if isinstance(outcome, KeyValue):
                request.future.set_result(outcome)
            else:
                request.future.set_exception(outcome)

    def _lost_track(self) -> None:
        """What was committed last is not known here: everybody reads the log."""
        self._head = None
        self._broadcaster.overrun()

    async def _read(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Runs a read in a thread of its own, in one transaction: all it sees is of one moment."""
        self._check_open()
        return await self._loop.run_in_executor(self._readers, self._read_here, function, True)

    def _read_here(
        self, function: Callable[[sqlite3.Connection], T], transaction: bool = False
    ) -> T:
        """Runs a read on the connection of the calling thread. One statement needs no transaction
        around it."""
        self._check_open()
        try:
            connection = self._connection()
            if not transaction:
                return function(connection)
            connection.execute("BEGIN")
            try:
                return function(connection)
            finally:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            raise sqlite_file.failure(self._path, error) from None

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._own, "connection", None)
        if connection is None:
            connection = sqlite_file.connect(self._path, read_only=True)
            self._own.connection = connection
            self._connections.append(connection)
        return connection

    def _join(self) -> None:
        self._writer.join()
        self._readers.shutdown()

    def _check_open(self) -> None:
        if self._closed:
            raise self._closed_error()

    def _closed_error(self) -> StoreUnavailable:
        return StoreUnavailable(f"{self._path}: the store is closed")


def _prepared(path: Path, first_revision: int) -> tuple[Path, int]:
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"{path.parent}: {error.strerror}") from None
    lock = sqlite_file.lock(path)
    try:
        sqlite_file.prepare(path)
        if first_revision:
            sqlite_file.begin_at(path, first_revision)
    except BaseException:
        os.close(lock)
        raise
    return path, lock
