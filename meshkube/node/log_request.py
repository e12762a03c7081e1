"""The query of a log request (`PodLogOptions`). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import meta
from meshkube.node.runtime import LogOptions


class BadLogRequest(ValueError):
    """A value that makes no sense; the message names it."""


@dataclass(frozen=True, slots=True)
class LogRequest:
    options: LogOptions
    previous: bool
    limit_bytes: int | None


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
    return LogRequest(options, _flag(query, "previous"), _number(query, "limitBytes", 1))


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
