"""The file format of a store's snapshot: gzip of JSON lines, the same from every store.

The first line says what it is and as of which revision; then comes one line for each key, its value
as text where it is text; the last line has the count and the SHA-256 of all lines before it, so a
file that was cut short or damaged is known. `zcat FILE | jq .key` reads along.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import zlib
from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from meshkube.store.base import KeyValue, StoreError

FORMAT = "meshkube-store"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Contents:
    """What a snapshot holds."""

    revision: int
    taken: str
    keys: int


class SnapshotWriter:
    """Writes a snapshot beside `path`, and gives it that name once it is whole and on the disk.
    Raises `OSError`."""

    def __init__(self, path: Path, revision: int) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name}.{os.getpid()}")
        # It holds Secrets.
        descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        self._gzip = gzip.GzipFile(fileobj=self._file, mode="wb", compresslevel=4, filename="")
        self._sum = hashlib.sha256()
        self.keys = 0
        taken = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._line({"format": FORMAT, "version": VERSION, "revision": revision, "taken": taken})

    def __enter__(self) -> SnapshotWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._file.close()
            self._temporary.unlink(missing_ok=True)

    def add(self, kv: KeyValue) -> None:
        line: dict[str, Any] = {"key": kv.key, "revision": kv.mod_revision}
        try:
            line["value"] = kv.value.decode()
        except UnicodeDecodeError:
            line["base64"] = b2a_base64(kv.value, newline=False).decode()
        self._line(line)
        self.keys += 1

    def _line(self, content: dict[str, Any]) -> None:
        line = orjson.dumps(content) + b"\n"
        self._sum.update(line)
        self._gzip.write(line)

    def _finish(self) -> None:
        end = {"keys": self.keys, "sha256": self._sum.hexdigest()}
        self._gzip.write(orjson.dumps(end) + b"\n")
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._temporary.rename(self._path)


def check(path: Path) -> Contents:
    """Reads all of a snapshot. Raises `StoreError` with one line where anything is wrong."""
    lines = _lines(path)
    head = _head(path, lines)
    keys = sum(1 for _ in lines)
    return Contents(head["revision"], str(head.get("taken", "")), keys)


def read(path: Path) -> Iterator[tuple[str, bytes]]:
    """Each key and its value, in order. Raises `StoreError`, maybe only at the end: see `check`."""
    lines = _lines(path)
    _head(path, lines)
    for line in lines:
        try:
            text = line.get("value")
            value = a2b_base64(line["base64"]) if text is None else text.encode()
            yield line["key"], value
        except (KeyError, TypeError, AttributeError, Base64Error):
            raise _damaged(path, "a line holds no key and value") from None


def _head(path: Path, lines: Iterator[dict[str, Any]]) -> dict[str, Any]:
    head = next(lines, {})
    if head.get("format") != FORMAT or not isinstance(head.get("revision"), int):
        raise StoreError(f"{path}: is no snapshot of meshkube")
    if head.get("version") != VERSION:
        raise StoreError(
            f"{path}: has version {head.get('version')}, this meshkube knows {VERSION}"
        )
    return head


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """All lines but the last one, which is what they are checked by."""
    digest = hashlib.sha256()
    count = 0
    try:
        with gzip.open(path) as file:
            last = b""
            for line in file:
                if last:
                    digest.update(last)
                    yield _object(path, last)
                    count += 1
                last = line
    except gzip.BadGzipFile as error:
        if count == 0:
            raise StoreError(f"{path}: is no snapshot of meshkube") from None
        raise _damaged(path, str(error)) from None
    except (EOFError, zlib.error) as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from None
    end = _object(path, last) if last else {}
    if end.get("sha256") != digest.hexdigest() or end.get("keys") != count - 1:
        raise _damaged(path, "its lines do not fit its checksum")


def _object(path: Path, line: bytes) -> dict[str, Any]:
    try:
        content = orjson.loads(line)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _damaged(path, "a line is no JSON object")
    return content


def _damaged(path: Path, how: str) -> StoreError:
    return StoreError(f"{path}: is damaged: {how}")
