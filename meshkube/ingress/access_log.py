"""The access log: one line a request, in text as web servers write it or as JSON.

The loop only appends to a list; a thread writes, to standard output or to a file that may be
rotated by renaming it. When the writer does not keep up, lines are dropped and counted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import orjson

Form = Literal["off", "text", "json"]

_FLUSH = 65_536
_MOST = 4 * 2**20
"""Bytes that may wait for the writer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is known of a request that is over."""

    client: str
    method: str
    host: str
    target: str
    protocol: str
    status: int
    """0: the client went away before it was answered."""
    size: int
    """Of the response's body, in bytes as they were passed on."""
    seconds: float
    referer: str
    agent: str
    request_id: str
    trace: str
    ingress: str
    rule: str
    service: str
    pod: str
    tries: int


def text_line(entry: Entry, at: float) -> bytes:
    """The "combined" form of web servers, and after it the time taken in seconds, the host, the
    Service, the pod and the request's id."""
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(at))
    line = (
        f"{entry.client or '-'} - - [{stamp}] "
        f'"{_quoted(entry.method)} {_quoted(entry.target)} {entry.protocol}" '
        f'{entry.status} {entry.size} "{_quoted(entry.referer) or "-"}" '
        f'"{_quoted(entry.agent) or "-"}" {entry.seconds:.6f} "{_quoted(entry.host)}" '
        f"{entry.service or '-'} {entry.pod or '-'} {_quoted(entry.request_id)}\n"
    )
    return line.encode("utf-8", "replace")


def json_line(entry: Entry, at: float) -> bytes:
    """One object, its `time` in RFC 3339."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    facts = {"time": f"{whole}.{int(at % 1 * 1000):03}Z"}
    for name in Entry.__dataclass_fields__:
        value = getattr(entry, name)
        facts[name] = value.encode("utf-8", "replace").decode() if type(value) is str else value
    return orjson.dumps(facts) + b"\n"


def _quoted(text: str) -> str:
    if text.isprintable() and '"' not in text and "\\" not in text:
        return text
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


class AccessLog:
    """Collects lines and has them written."""

    def __init__(self, form: Form, path: str = "") -> None:
        """`path` empty: standard output. It is opened with the first line."""
        self._line = json_line if form == "json" else text_line
        self._path = path
        self._lines: list[bytes] = []
        self._size = 0
        self._thread: ThreadPoolExecutor | None = None
        self._writing: Future[None] | None = None
        self._file = -1
        self._failed = ""
        self.dropped = 0
        """Lines that nobody will read."""

    def add(self, entry: Entry) -> None:
        """Takes one line. Never waits."""
        if self._size > _MOST:
            self.dropped += 1
            return
        line = self._line(entry, time.time())
        self._lines.append(line)
        self._size += len(line)
        if self._size > _FLUSH:
            self.flush()

    def flush(self) -> str:
        """Has the thread write what there is, unless it is still busy. Returns why the last lines
        could not be written, once."""
        failed, self._failed = self._failed, ""
        if self._lines and (self._writing is None or self._writing.done()):
            lines, self._lines, self._size = self._lines, [], 0
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, "access-log")
            self._writing = self._thread.submit(self._write, lines)
        return failed

    def close(self) -> None:
        """Writes the rest, and waits for it."""
        if self._writing is not None:
            self._writing.result()
        self._write(self._lines)
        self._lines, self._size = [], 0
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._path and self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        try:
            self._open()
            data = memoryview(b"".join(lines))
            while data:
                data = data[os.write(self._file, data) :]
        except (OSError, ValueError) as error:
            self.dropped += len(lines)
            self._failed = f"{self._path or 'standard output'}: {error}"

    def _open(self) -> None:
        if not self._path:
            self._file = sys.stdout.fileno()
            return
        if self._file >= 0:
            with contextlib.suppress(OSError):
                found, held = os.stat(self._path), os.fstat(self._file)
                if (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino):
                    return
            os.close(self._file)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(self._path, flags, 0o640)
