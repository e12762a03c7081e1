"""The query of a log request (`PodLogOptions`). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import meta
from meshkube.node.runtime import LogOptions

_STREAMS = {"All": frozenset({1, 2}), "Stdout": frozenset({1}), "Stderr": frozenset({2})}


class BadLogRequest(ValueError):
    """A value that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class LogRequest:
    options: LogOptions
    previous: bool
    limit_bytes: int | None
    streams: frozenset[int] = frozenset({1, 2})
    """1 is standard output, 2 standard error."""


def parse_log_request(query: Mapping[str, str], now: datetime) -> LogRequest:
    """Raises `BadLogRequest`."""
    tail = _number(query, "tailLines", 0)
    since_seconds = _number(query, "sinceSeconds", 1)
    since = _since(query, since_seconds, now)
    options = LogOptions(
        follow=_flag(query, "follow"),
        timestamps=_flag(query, "timestamps"),
        tail=tail,
        since=since,
    )
    limit = _number(query, "limitBytes", 1)
    return LogRequest(options, _flag(query, "previous"), limit, _streams(query))


def _streams(query: Mapping[str, str]) -> frozenset[int]:
    name = query.get("stream") or "All"
    if name not in _STREAMS:
        raise BadLogRequest(f"stream: {name!r} is none of {', '.join(_STREAMS)}")
    return _STREAMS[name]


def _since(query: Mapping[str, str], seconds: int | None, now: datetime) -> datetime | None:
    text = query.get("sinceTime")
    if text and seconds is not None:
        raise BadLogRequest("at most one of sinceTime or sinceSeconds may be specified")
    if seconds is not None:
        return now - timedelta(seconds=seconds)
    if not text:
        return None
    try:
        return meta.parse_timestamp(text)
    except ValueError:
        raise BadLogRequest(f"sinceTime: {text!r} is not a time") from None


def _flag(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")


def _number(query: Mapping[str, str], name: str, least: int) -> int | None:
    text = query.get(name)
    if not text:
        return None
    try:
        number = int(text)
    except ValueError:
        raise BadLogRequest(f"{name}: {text!r} is not a whole number") from None
    if number < least:
        raise BadLogRequest(f"{name}: must be greater than or equal to {least}")
    return number
