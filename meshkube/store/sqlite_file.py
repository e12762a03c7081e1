"""The database file: opening it, its schema and stamp, the lock that keeps it to one process.

Every row of `log` is one revision. `previous` is the revision that this one replaced (0: it created
the key), so history and compaction walk primary keys only and need no index on keys over time;
`current` maps each living key to its newest revision.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from pathlib import Path

from meshkube.store.base import StoreError, StoreFull, StoreUnavailable

APPLICATION_ID = 0x6D6B7562  # "mkub"
SCHEMA_VERSION = 1
BUSY_SECONDS = 5.0
# The write-ahead log is cut back to this many bytes after a checkpoint.
LONGEST_WAL = 16 * 1024 * 1024
# Pages of log between two checkpoints: rarer ones, more commits without their extra syncs.
CHECKPOINT_PAGES = 4000

_SCHEMA = """
CREATE TABLE log (
    revision        INTEGER PRIMARY KEY,
    key             TEXT    NOT NULL,
    create_revision INTEGER NOT NULL,
    previous        INTEGER NOT NULL,
    deleted         INTEGER NOT NULL,
    value           BLOB
);
CREATE TABLE current (key TEXT PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES ('compacted', 0);
"""


def failure(path: Path, error: sqlite3.Error) -> StoreError:
    """What an SQLite error means to the store's caller."""
    extended = getattr(error, "sqlite_errorcode", 0)
    code = extended & 0xFF
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StoreError(
            f"{path}: is damaged, or not an SQLite database ({error}): move it away, and fill a new"
            f" one from a snapshot with `meshkube store restore`"
        )
    if code == sqlite3.SQLITE_FULL or extended == sqlite3.SQLITE_IOERR_SHMSIZE:
        return StoreFull(f"{path}: {error}: make room on its disk")
    return StoreUnavailable(f"{path}: {error}")


def prepare(path: Path) -> None:
    """Creates the file where there is none, and checks what is there.
    Raises `StoreError` with one line that names the file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Only its owner may read it: it holds Secrets. SQLite gives its side files the same mode.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        connection = connect(path)
    except OSError as error:
        raise StoreUnavailable(f"{path}: {error.strerror}") from None
    try:
        _check_or_create(path, connection)
    except sqlite3.Error as error:
        raise failure(path, error) from None
    finally:
        connection.close()
    _sync_directory(path.parent)


def begin_at(path: Path, revision: int) -> None:
    """Lets a store that was never written to go on from `revision`: whoever knows revisions of the
    store it takes the place of is told that they are compacted, and never reads them as its own.
    Raises `StoreError`."""
    connection = connect(path)
    try:
        if connection.execute("SELECT 1 FROM log LIMIT 1").fetchone() is None:
            # The head is the newest row of the log, so there has to be one.
            connection.executescript(
                f"BEGIN IMMEDIATE;"
                f"INSERT INTO log VALUES ({revision}, '', {revision}, 0, 1, NULL);"
                f"UPDATE meta SET value = {revision} WHERE name = 'compacted'; COMMIT;"
            )
    except sqlite3.Error as error:
        raise failure(path, error) from None
    finally:
        connection.close()


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with the store's settings, for one thread at a time. Raises `StoreError`."""
    try:
        connection = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise failure(path, error) from None
    try:
        # FULL: a commit returns once the log is on the disk.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {LONGEST_WAL}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        if read_only:
            connection.execute("PRAGMA query_only = ON")
    except sqlite3.Error as error:
        connection.close()
        raise failure(path, error) from None
    return connection


def lock(path: Path) -> int:
    """Takes the store for this process: returns the descriptor that holds the lock until it is
    closed. Raises `StoreError` where another one has it."""
    try:
        descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnavailable(f"{path}.lock: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise StoreError(f"{path}: is in use by another process") from None
    return descriptor


def _check_or_create(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if not application and not tables:
        _create(connection)
        return
    if application != APPLICATION_ID:
        raise StoreError(f"{path}: is an SQLite database, but not a store of meshkube")
    if version != SCHEMA_VERSION:
        raise StoreError(
            f"{path}: has schema version {version}, this meshkube knows {SCHEMA_VERSION}"
        )
    connection.execute("SELECT max(revision) FROM log").fetchone()
    # A copy that SQLite made has another mode.
    _write_ahead(connection)


def _create(connection: sqlite3.Connection) -> None:
    # Must come before the first table: pages set free can then be given back bit by bit.
    connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    _write_ahead(connection)
    # The stamp is written in the same transaction as the tables: the file has both or neither.
    connection.executescript(
        f"BEGIN IMMEDIATE; {_SCHEMA}"
        f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
    )


def _write_ahead(connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise StoreUnavailable(f"its file system cannot hold a write-ahead log (mode {mode})")


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
