"""Structured logs: one line an event, as text (`key=value`) or JSON, with the fields of `extra`."""

from __future__ import annotations

import logging
import sys
import traceback
from datetime import UTC, datetime
from typing import IO, Any, Literal

import orjson

LogFormat = Literal["text", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What the caller gave in `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _time(record: logging.LogRecord) -> str:
    stamp = datetime.fromtimestamp(record.created, UTC)
    return stamp.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _short_name(record: logging.LogRecord) -> str:
    return record.name.removeprefix("meshkube.")


class TextFormatter(logging.Formatter):
    """`2026-01-02T03:04:05.678Z INFO node.agent: pod started pod=default/web`"""

    def format(self, record: logging.LogRecord) -> str:
        line = f"{_time(record)} {record.levelname} {_short_name(record)}: {record.getMessage()}"
        for key, value in fields(record).items():
            line += f" {key}={_quoted(str(value))}"
        if record.exc_info:
            line += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return line


def _quoted(value: str) -> str:
    if value and not any(c.isspace() or c == '"' for c in value):
        return value
    return '"' + value.replace('"', '\\"').replace("\n", "\\n") + '"'


class JsonFormatter(logging.Formatter):
    """The same facts as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": _short_name(record),
            "message": record.getMessage(),
            **fields(record),
        }
        if record.exc_info:
            entry["traceback"] = "".join(traceback.format_exception(*record.exc_info))
        return orjson.dumps(entry, default=str).decode()


def set_up(format: LogFormat, level: str = "INFO", stream: IO[str] | None = None) -> None:
    """Sends every log of this process to `stream` (standard error) in the given format."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    # One access-log line per API request is the API server's own decision, not aiohttp's.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
