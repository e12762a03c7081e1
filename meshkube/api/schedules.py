"""Schedules of CronJobs: what may be written, as explicit numbers.

Source: the CronJob concept page, "Schedule syntax"; the words of faults are those of the parser
that Kubernetes uses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from zoneinfo import ZoneInfo

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]


@dataclass(frozen=True, slots=True)
class _Field:
    least: int
    most: int
    names: tuple[str, ...] = ()
    """Names of the numbers from `least` on."""


_FIELDS = (
    _Field(0, 59),
    _Field(0, 23),
    _Field(1, 31),
    _Field(1, 12, tuple(_MONTHS)),
    _Field(0, 6, tuple(_DAYS)),
)
_NAMED = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_EVERY = "@every "
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|ms|s|m|h)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Times:
    """Minutes, hours, days of the month, months, days of the week: `*`, or every number."""

    expression: str


def parse(text: str) -> Times | timedelta:
    """The times, or the interval of `@every`. Raises `ValueError` with what is wrong."""
    if not text:
        raise ValueError("empty spec string")
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, _, text = text.partition(" ")
        time_zone(zone.partition("=")[2])
        text = text.strip()
    if text.startswith("@"):
        if text.startswith(_EVERY):
            return _interval(text.removeprefix(_EVERY))
        if text not in _NAMED:
            raise ValueError(f"unrecognized descriptor: {text}")
        text = _NAMED[text]
    parts = text.split()
    if len(parts) != len(_FIELDS):
        listed = " ".join(parts)
        raise ValueError(f"expected exactly 5 fields, found {len(parts)}: [{listed}]")
    return Times(" ".join(_field(*pair) for pair in zip(parts, _FIELDS, strict=True)))


def time_zone(name: str) -> ZoneInfo:
    """Raises `ValueError` for one that there is not."""
    try:
        return ZoneInfo(name or "UTC")
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name}") from None


def _interval(text: str) -> timedelta:
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    if not text or _DURATION.sub("", text):
        shown = f'"{text}"'
        raise ValueError(f"failed to parse duration {_EVERY}{text}: time: invalid duration {shown}")
    return timedelta(seconds=max(int(seconds), 1))


def _field(text: str, field: _Field) -> str:
    numbers: set[int] = set()
    star = False
    for part in filter(None, text.split(",")):
        found, whole = _range(part, field)
        numbers |= found
        star = star or whole
    return "*" if star else ",".join(map(str, sorted(numbers)))


def _range(text: str, field: _Field) -> tuple[set[int], bool]:
    """The numbers of one range, and whether it is a plain star."""
    ends, *steps = text.split("/")
    low, *high = ends.split("-")
    star = low in ("*", "?")
    if star:
        first, last = field.least, field.most
    else:
        if len(high) > 1:
            raise ValueError(f"too many hyphens: {text}")
        first = _number(low, field)
        last = _number(high[0], field) if high else first
    if len(steps) > 1:
        raise ValueError(f"too many slashes: {text}")
    step = _whole(steps[0]) if steps else 1
    if steps and not high:
        last = field.most
    if first < field.least:
        raise ValueError(f"beginning of range ({first}) below minimum ({field.least}): {text}")
    if last > field.most:
        raise ValueError(f"end of range ({last}) above maximum ({field.most}): {text}")
    if first > last:
        raise ValueError(f"beginning of range ({first}) beyond end of range ({last}): {text}")
    if step == 0:
        raise ValueError(f"step of range should be a positive number: {text}")
    return set(range(first, last + 1, step)), star and step == 1


def _number(text: str, field: _Field) -> int:
    if text.lower() in field.names:
        return field.names.index(text.lower()) + field.least
    return _whole(text)


def _whole(text: str) -> int:
    if not re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
        why = f'strconv.Atoi: parsing "{text}": invalid syntax'
        raise ValueError(f"failed to parse int from {text}: {why}")
    if int(text) < 0:
        raise ValueError(f"negative number ({int(text)}) not allowed: {text}")
    return int(text)
