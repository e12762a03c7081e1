"""The store's SQL: plain functions over a connection, each to be called inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from meshkube.store.base import (
    Compacted,
    Event,
    Guard,
    GuardFailed,
    KeyValue,
    RangeResult,
    StoreError,
    Write,
    judge,
)

_LAST_CHARACTER = "\U0010ffff"
_PAIR = "l.key, l.value, l.create_revision, l.revision"

_CURRENT = f"""
SELECT {_PAIR} FROM current c JOIN log l ON l.revision = c.revision WHERE c.key = ?
"""
_RANGE_NOW = """
SELECT key, revision FROM current WHERE key >= :low AND key < :high
"""
# A key stood at a past revision as `current` says where it has not changed since; else as the
# oldest change since then replaced it.
_RANGE_THEN = """
SELECT key, revision FROM current
 WHERE key >= :low AND key < :high AND revision <= :revision
UNION ALL
SELECT key, previous FROM log
 WHERE revision > :revision AND previous > 0 AND previous <= :revision
   AND key >= :low AND key < :high
"""
_EVENTS = """
SELECT l.revision, l.key, l.create_revision, l.deleted, l.value,
       p.revision, p.create_revision, p.value
  FROM log l LEFT JOIN log p ON p.revision = l.previous
 WHERE l.revision > ? AND l.key >= ? AND l.key < ? ORDER BY l.revision LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Replay:
    """Events out of the log; everything up to `revision` is in them. `complete` when that is the
    store's head."""

    events: tuple[Event, ...]
    revision: int
    complete: bool


def end_of(prefix: str) -> str:
    """The first string after all those that begin with `prefix`, in code point order."""
    while prefix:
        code = ord(prefix[-1])
        if code < 0x10FFFF:
            # UTF-8 has no surrogates: the code point before them is followed by the one after.
            return prefix[:-1] + ("\ue000" if code == 0xD7FF else chr(code + 1))
        prefix = prefix[:-1]
    return _LAST_CHARACTER * 64


def head(connection: sqlite3.Connection) -> int:
    """The newest revision."""
    row = connection.execute("SELECT max(revision) FROM log").fetchone()
    return int(row[0] or 0)


def compacted(connection: sqlite3.Connection) -> int:
    """The oldest revision that can be read; 0 when nothing was ever forgotten."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'compacted'").fetchone()
    return int(row[0])


def current(connection: sqlite3.Connection, key: str) -> KeyValue | None:
    """The key as it stands."""
    row = connection.execute(_CURRENT, (key,)).fetchone()
    return KeyValue(*row) if row else None


def apply(
    connection: sqlite3.Connection, writes: Sequence[Write], guards: Sequence[Guard], revision: int
) -> list[Event]:
    """Makes the writes as the given next revision and those that follow it: one each. Raises
    `KeyExists`, `RevisionMismatch` and `GuardFailed`, all before anything was changed."""
    before = [current(connection, write.key) for write in writes]
    for write, found in zip(writes, before, strict=True):
        judge(write, found)
    for guard in guards:
        held = current(connection, guard.key)
        if not guard.holds(held):
            raise GuardFailed(guard.key, held)
    events: list[Event] = []
    for write, found in zip(writes, before, strict=True):
        if write.value is not None or found is not None:
            events.append(_put(connection, write, found, revision + len(events)))
    return events


def _put(
    connection: sqlite3.Connection, write: Write, before: KeyValue | None, revision: int
) -> Event:
    deleted = write.value is None
    created, previous = revision, 0
    if before is not None:
        created, previous = before.create_revision, before.mod_revision
    connection.execute(
        "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?)",
        (revision, write.key, created, previous, deleted, write.value),
    )
    if deleted:
        connection.execute("DELETE FROM current WHERE key = ?", (write.key,))
    else:
        connection.execute("INSERT OR REPLACE INTO current VALUES (?, ?)", (write.key, revision))
    value = write.value if write.value is not None else before.value if before else b""
    return Event(KeyValue(write.key, value, created, revision), deleted, before)


def range_(
    connection: sqlite3.Connection, prefix: str, start_after: str, limit: int, revision: int
) -> RangeResult:
    """`Store.range`; `revision` 0 means the head. Raises `Compacted`."""
    newest = head(connection)
    _check_revision(connection, revision or newest, newest)
    scope: dict[str, Any] = {
        "low": max(prefix, _next(start_after)) if start_after else prefix,
        "high": end_of(prefix),
        "revision": revision,
    }
    keys = _RANGE_THEN if revision and revision < newest else _RANGE_NOW
    rows = connection.execute(
        f"SELECT {_PAIR} FROM ({keys}) k JOIN log l ON l.revision = k.revision"
        f" ORDER BY k.key LIMIT {limit or -1}",
        scope,
    )
    kvs = tuple(KeyValue(*row) for row in rows)
    remaining = 0
    if limit and len(kvs) == limit:
        scope["low"] = _next(kvs[-1].key)
        (remaining,) = connection.execute(f"SELECT count(*) FROM ({keys})", scope).fetchone()
    return RangeResult(kvs, revision or newest, remaining)


def replay(connection: sqlite3.Connection, prefix: str, after: int, limit: int) -> Replay:
    """The first `limit` changes under `prefix` above the revision `after`. Raises `Compacted`."""
    newest = head(connection)
    oldest = compacted(connection)
    if after < oldest:
        raise Compacted(after, oldest)
    rows = connection.execute(_EVENTS, (after, prefix, end_of(prefix), limit)).fetchall()
    events = tuple(_events(rows))
    if len(events) == limit:
        return Replay(events, events[-1].kv.mod_revision, False)
    return Replay(events, max(newest, after), True)


def compact(connection: sqlite3.Connection, upto: int) -> None:
    """Forgets what was replaced or deleted up to the revision `upto`. The head always stays: it
    is what the next revision is counted from."""
    low = compacted(connection)
    newest = head(connection)
    connection.execute(
        "DELETE FROM log WHERE revision IN"
        " (SELECT previous FROM log WHERE revision > ? AND revision <= ? AND previous > 0)",
        (low, upto),
    )
    # `low` itself may be a deletion that was the head when the last compaction stopped there.
    connection.execute(
        "DELETE FROM log WHERE revision >= ? AND revision <= ? AND deleted AND revision < ?",
        (low, upto, newest),
    )
    connection.execute("UPDATE meta SET value = ? WHERE name = 'compacted'", (upto,))


def _next(key: str) -> str:
    """The first string after `key`."""
    return key + "\0"


def _check_revision(connection: sqlite3.Connection, revision: int, newest: int) -> None:
    oldest = compacted(connection)
    if revision < oldest:
        raise Compacted(revision, oldest)
    if revision > newest:
        raise StoreError(f"revision {revision} is not reached yet; the newest is {newest}")


def _events(rows: Iterable[tuple[Any, ...]]) -> Iterable[Event]:
    for revision, key, created, deleted, value, old_revision, old_created, old_value in rows:
        previous = None
        if old_revision is not None:
            previous = KeyValue(key, old_value, old_created, old_revision)
        kv = KeyValue(key, old_value if deleted else value, created, revision)
        yield Event(kv, bool(deleted), previous)
