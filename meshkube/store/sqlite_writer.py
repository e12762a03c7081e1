"""The one thread that writes: it commits all requests that wait as one transaction.

While a commit waits for the disk, the next requests gather; so the more is asked for at once, the
more rides on each sync. The same thread compacts, a bite at a time between groups.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshkube.store import sqlite_file, sqlite_rows, telemetry
from meshkube.store.base import (
    Event,
    Guard,
    KeyValue,
    StoreError,
    StoreFull,
    StoreUnavailable,
    Write,
)

log = logging.getLogger(__name__)

LARGEST_GROUP = 1000
# One bite of a compaction, in revisions, and of giving pages back to the file system: some 20 ms
# each, for which writes wait.
COMPACTION_BITE = 200
VACUUM_BITE = 250
# Revisions above the retention that gather before the next compaction.
SURPLUS_REVISIONS = 1000
# Free pages that stay in the file for the next writes.
SPARE_PAGES = 500


@dataclass(frozen=True, slots=True)
class Retention:
    """How much history is kept: for `seconds`, but never more than `revisions`."""

    seconds: float = 300.0
    revisions: int = 50_000


@dataclass(slots=True)
class Request:
    """Writes that belong together, and who waits for them."""

    writes: Sequence[Write]
    guards: Sequence[Guard]
    future: asyncio.Future[KeyValue]


@dataclass(slots=True)
class Compaction:
    """A wish to compact up to a revision, and who waits for it."""

    upto: int
    future: asyncio.Future[None]


class Stop:
    """The last thing in the queue."""


Deliver = Callable[[Sequence[tuple[Request, KeyValue | StoreError]], Sequence[Event], int], None]
Work = Request | Compaction | Stop


class Writer:
    """Owns the writing connection and its thread.

    `deliver(outcomes, events, revision)` and `lost()` are called on `loop`: what became of a group,
    and that events may have reached the log unseen (a commit failed half way).
    """

    def __init__(
        self,
        path: Path,
        loop: asyncio.AbstractEventLoop,
        deliver: Deliver,
        lost: Callable[[], None],
        retention: Retention,
    ) -> None:
        self._path = path
        self._loop = loop
        self._deliver = deliver
        self._lost = lost
        self._retention = retention
        self._queue: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._connection: sqlite3.Connection | None = None
        self._head = 0
        self._compacted = 0
        self._target = 0
        self._giving_back = False
        self._compactions: list[Compaction] = []
        # When each revision was the head: (seconds on the steady clock, revision).
        self._samples: deque[tuple[float, int]] = deque()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)

    def start(self) -> None:
        """Connects and begins. Raises `StoreError`."""
        self._connect()
        self._thread.start()

    def put(self, work: Work) -> None:
        """Queues work; never blocks."""
        self._queue.put(work)

    def join(self) -> None:
        """Waits until the thread has met a `Stop`."""
        self._thread.join()

    def _run(self) -> None:
        # Ten looks at the clock in the time that history is kept.
        interval = self._retention.seconds / 10
        while True:
            pending = self._target > self._compacted or self._giving_back
            group, others = self._gather(0.0 if pending else interval)
            if group:
                self._commit(group)
            self._compact_for(others)
            self._age()
            self._bite()
            if any(isinstance(other, Stop) for other in others):
                break
        self._disconnect()

    def _gather(self, timeout: float) -> tuple[list[Request], list[Work]]:
        group: list[Request] = []
        others: list[Work] = []
        try:
            work = self._queue.get(timeout=timeout) if timeout else self._queue.get_nowait()
            while True:
                if isinstance(work, Request):
                    group.append(work)
                else:
                    others.append(work)
                if isinstance(work, Stop) or len(group) >= LARGEST_GROUP:
                    break
                work = self._queue.get_nowait()
        except queue.Empty:
            pass
        return group, others

    def _commit(self, group: list[Request]) -> None:
        started = time.perf_counter()
        outcomes: list[tuple[Request, KeyValue | StoreError]] = []
        events: list[Event] = []
        committing = False
        try:
            connection = self._connected()
            connection.execute("BEGIN IMMEDIATE")
            for request in group:
                try:
                    revision = self._head + len(events) + 1
                    made = sqlite_rows.apply(connection, request.writes, request.guards, revision)
                    events += made
                    outcomes.append((request, made[0].kv))
                except StoreError as error:
                    outcomes.append((request, error))
            committing = True
            connection.execute("COMMIT")
        except Exception as error:
            # Whatever it is, the thread must live on, and nobody may wait for ever.
            self._fail(group, error, committing)
            return
        self._head += len(events)
        self._call(self._deliver, outcomes, events, self._head)
        telemetry.COMMIT_SECONDS.observe(time.perf_counter() - started)
        telemetry.WRITES.inc(len(events))

    def _fail(self, group: list[Request], error: Exception, committing: bool) -> None:
        """Nobody's write in the group is known to be kept; where the commit was not yet asked for,
        none is. The next group connects anew, and so finds out what the disk really holds."""
        failure = _failure(self._path, error, committing)
        expected = isinstance(error, StoreError | sqlite3.Error)
        log.error(
            "writes failed",
            extra={"reason": str(failure), "writes": len(group)},
            exc_info=None if expected else error,
        )
        self._disconnect()
        self._call(
            self._deliver,
            [(request, failure) for request in group],
            (),
            self._head,
        )

    def _compact_for(self, others: list[Work]) -> None:
        for work in others:
            if isinstance(work, Compaction):
                self._compactions.append(work)
                self._target = max(self._target, min(work.upto, self._head))

    def _age(self) -> None:
        """Lets what is older than the retention go."""
        now = time.monotonic()
        samples = self._samples
        if not samples or samples[-1][0] <= now - self._retention.seconds / 10:
            samples.append((now, self._head))
        while len(samples) > 1 and samples[1][0] <= now - self._retention.seconds:
            samples.popleft()
        if samples[0][0] <= now - self._retention.seconds:
            self._target = max(self._target, samples[0][1])
        # In steps, so that a busy store does not compact after every group.
        surplus = self._head - self._retention.revisions - max(self._target, self._compacted)
        if surplus >= SURPLUS_REVISIONS:
            self._target = self._head - self._retention.revisions

    def _bite(self) -> None:
        """Compacts or gives back a little, and answers those who waited for it."""
        try:
            connection = self._connected()
            if self._target > self._compacted:
                self._compact(connection)
            elif self._giving_back:
                self._give_back(connection)
        except Exception as error:
            log.warning("compaction failed", extra={"reason": str(error)})
            self._disconnect()
            self._target = self._compacted
            self._giving_back = False
            self._answer(StoreUnavailable(str(error)))
        if self._compacted >= self._target:
            self._answer(None)

    def _compact(self, connection: sqlite3.Connection) -> None:
        upto = min(self._target, self._compacted + COMPACTION_BITE)
        connection.execute("BEGIN IMMEDIATE")
        sqlite_rows.compact(connection, upto)
        connection.execute("COMMIT")
        self._compacted = upto
        self._giving_back = True

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """Free pages go back to the file system, but for some that the next writes will take."""
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        surplus = free - SPARE_PAGES
        if surplus > 0:
            # As a script: sqlite3 takes one step only, so one page, of a statement without columns.
            connection.executescript(f"PRAGMA incremental_vacuum({min(surplus, VACUUM_BITE)});")
        self._giving_back = surplus > VACUUM_BITE

    def _answer(self, error: StoreError | None) -> None:
        for waiting in self._compactions:
            self._call(_settle, waiting.future, error)
        self._compactions.clear()

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            before = self._head
            self._connect()
            if self._head != before:
                self._call(self._lost)
        assert self._connection is not None
        return self._connection

    def _connect(self) -> None:
        connection = sqlite_file.connect(self._path)
        try:
            self._head = sqlite_rows.head(connection)
            self._compacted = sqlite_rows.compacted(connection)
        except sqlite3.Error as error:
            connection.close()
            raise sqlite_file.failure(self._path, error) from None
        self._connection = connection

    def _disconnect(self) -> None:
        """Closing rolls an open transaction back."""
        if self._connection is not None:
            try:
                self._connection.close()
            except sqlite3.Error:
                log.exception("the store did not close cleanly")
            self._connection = None

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            log.debug("nobody waits for this result any more")


def _failure(path: Path, error: Exception, committing: bool) -> StoreError:
    if isinstance(error, sqlite3.Error):
        found = sqlite_file.failure(path, error)
    else:
        found = error if isinstance(error, StoreError) else StoreUnavailable(f"{path}: {error}")
    if committing and isinstance(found, StoreUnavailable) and not isinstance(found, StoreFull):
        return StoreUnavailable(str(found), unknown=True)
    return found


def _settle(future: asyncio.Future[None], error: StoreError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
