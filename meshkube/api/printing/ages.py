"""How long ago, in the few characters that a table has room for."""

from __future__ import annotations

from datetime import datetime

from meshkube.api.meta import metadata, parse_timestamp
from meshkube.api.types import Object

UNKNOWN = "<unknown>"

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_YEAR = 365 * _DAY

# Below the first number of seconds: the larger unit, then the smaller one (0: not shown).
_STEPS = (
    (2 * _MINUTE, 1, "s", 0, ""),
    (10 * _MINUTE, _MINUTE, "m", 1, "s"),
    (3 * _HOUR, _MINUTE, "m", 0, ""),
    (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
    (2 * _DAY, _HOUR, "h", 0, ""),
    (8 * _DAY, _DAY, "d", _HOUR, "h"),
    (2 * _YEAR, _DAY, "d", 0, ""),
    (8 * _YEAR, _YEAR, "y", _DAY, "d"),
)


def human_duration(seconds: float) -> str:
    """`5s`, `3m20s`, `47m`, `5h10m`, `2d4h`, `94d`: more precise the shorter it is, as Kubernetes
    prints ages. Up to two seconds in the future count as now; more is `<invalid>`."""
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    step = next((step for step in _STEPS if whole < step[0]), None)
    if step is None:
        return f"{whole // _YEAR}y"
    _, large, large_name, small, small_name = step
    text = f"{whole // large}{large_name}"
    rest = whole % large // small if small else 0
    return f"{text}{rest}{small_name}" if rest else text


def since(timestamp: str | None, now: datetime) -> str:
    """The age of an RFC 3339 timestamp; `<unknown>` without one."""
    if not timestamp:
        return UNKNOWN
    try:
        return human_duration((now - parse_timestamp(timestamp)).total_seconds())
    except (ValueError, TypeError):
        return UNKNOWN


def age(obj: Object, now: datetime) -> str:
    """How long ago the object was created."""
    return since(metadata(obj).get("creationTimestamp"), now)
