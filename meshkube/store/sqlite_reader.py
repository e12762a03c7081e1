"""Reads an SQLite store that a server may have open: one moment of it, without disturbing it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from meshkube.store import sqlite_file, sqlite_rows
from meshkube.store.base import RangeResult, StoreError


class SqliteReader:
    """All that is read is of the moment of the first read. Close it."""

    def __init__(self, path: Path) -> None:
        """Raises `StoreError` where there is no store, or a damaged one."""
        self._path = path
        if not path.exists():
            raise StoreError(f"{path}: there is no store")
        self._connection = sqlite_file.connect(path, read_only=True)
        try:
            self._check()
            self._connection.execute("BEGIN")
        except sqlite3.Error as error:
            self.close()
            raise sqlite_file.failure(path, error) from None
        except StoreError:
            self.close()
            raise

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """See `Store.range`."""
        try:
            return sqlite_rows.range_(self._connection, prefix, start_after, limit, revision)
        except sqlite3.Error as error:
            raise sqlite_file.failure(self._path, error) from None

    def close(self) -> None:
        self._connection.close()

    def _check(self) -> None:
        (application,) = self._connection.execute("PRAGMA application_id").fetchone()
        if application != sqlite_file.APPLICATION_ID:
            raise StoreError(f"{self._path}: is an SQLite database, but not a store of meshkube")
        (found,) = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise StoreError(f"{self._path}: is damaged: {found}")
