"""CEL's standard functions, by name and number of arguments (the target is the first).

Source: google/cel-spec, "List of Standard Definitions".
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from meshkube.api.cel.operators import no_overload
from meshkube.api.cel.values import (
    Budget,
    CelError,
    Type,
    UInt,
    Value,
    type_name,
    whole,
)

Function = Callable[..., Value]
"""Gets the budget and the arguments."""
_UNITS: Final = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)")


def size(budget: Budget, value: Value) -> int:
    if isinstance(value, str | bytes | list | dict):
        return len(value)
    raise no_overload("size", value)


def to_string(budget: Budget, value: Value) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int():
            return str(int(value))
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
        case datetime():
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        case timedelta():
            seconds = value.total_seconds()
            return f"{int(seconds) if seconds.is_integer() else seconds}s"
    told = getattr(value, "cel_string", None)
    if told is not None:
        return str(told())
    raise no_overload("string", value)


def to_int(budget: Budget, value: Value) -> int:
    if isinstance(value, datetime):
        return int(value.timestamp())
    return _integer(value, int, "int")


def to_uint(budget: Budget, value: Value) -> int:
    return _integer(value, UInt, "uint")


def _integer(value: Value, kind: type[int], name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise no_overload(name, value)
    try:
        if isinstance(value, str) and not re.fullmatch(r"[+-]?\d+", value):
            raise ValueError
        return whole(int(value), kind)
    except (ValueError, OverflowError):
        raise CelError(f"cannot convert {value!r} to {name}") from None


def to_double(budget: Budget, value: Value) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise no_overload("double", value)
    try:
        return float(value)
    except ValueError:
        raise CelError(f"cannot convert {value!r} to double") from None


def to_bytes(budget: Budget, value: Value) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    raise no_overload("bytes", value)


def to_bool(budget: Budget, value: Value) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "t": True, "true": True, "TRUE": True, "True": True, "T": True,
             "0": False, "f": False, "false": False, "FALSE": False, "False": False,
             "F": False}  # fmt: skip
    if isinstance(value, str) and value in words:
        return words[value]
    raise CelError(f"cannot convert {type_name(value)} to bool")


def duration(budget: Budget, value: Value) -> timedelta:
    """`1h30m`, `-1.5s`."""
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise no_overload("duration", value)
    text = value[1:] if value[:1] in ("-", "+") else value
    if text == "0":
        return timedelta()
    seconds, at = 0.0, 0
    while match := _DURATION.match(text, at):
        seconds += float(match[1]) * _UNITS[match[2]]
        at = match.end()
    if at != len(text) or not text:
        raise CelError(f"invalid duration: {value!r}")
    try:
        found = timedelta(seconds=seconds)
    except OverflowError:
        raise CelError("duration overflow") from None
    return -found if value[0] == "-" else found


def timestamp(budget: Budget, value: Value) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        found = datetime.fromisoformat(str(value))
    except (ValueError, OverflowError, OSError):
        raise CelError(f"invalid timestamp: {value!r}") from None
    if found.tzinfo is None:
        raise CelError(f"invalid timestamp: {value!r}")
    return found


def _zone(moment: datetime, zone: Value) -> datetime:
    if not isinstance(zone, str):
        raise no_overload("timezone", zone)
    match = re.fullmatch(r"([+-]?)(\d\d):(\d\d)", zone)
    try:
        if match is None:
            return moment.astimezone(ZoneInfo(zone))
        offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
        return moment.astimezone(UTC) + (-offset if match[1] == "-" else offset)
    except (ValueError, OSError, KeyError):
        raise CelError(f"unknown timezone: {zone!r}") from None


def _part(read: Callable[[datetime], int]) -> Function:
    def part(budget: Budget, value: Value, zone: Value = "UTC") -> int:
        if not isinstance(value, datetime):
            raise no_overload("getDate", value)
        return read(_zone(value, zone))

    return part


def _time_part(read: Callable[[datetime], int], unit: float) -> Function:
    of_moment = _part(read)

    def part(budget: Budget, value: Value, zone: Value = "UTC") -> Value:
        if isinstance(value, timedelta):
            return int(value.total_seconds() / unit)
        return of_moment(budget, value, zone)

    return part


def type_of(budget: Budget, value: Value) -> Type:
    return Type(type_name(value))


def _same(budget: Budget, value: Value) -> Value:
    return value


def text(value: Value, name: str) -> str:
    """Raises `CelError` where a value is no text."""
    if not isinstance(value, str):
        raise no_overload(name, value)
    return value


STANDARD: Final[dict[tuple[str, int], Function]] = {
    ("size", 1): size,
    ("string", 1): to_string,
    ("int", 1): to_int,
    ("uint", 1): to_uint,
    ("double", 1): to_double,
    ("bytes", 1): to_bytes,
    ("bool", 1): to_bool,
    ("duration", 1): duration,
    ("timestamp", 1): timestamp,
    ("type", 1): type_of,
    ("dyn", 1): _same,
}
_PARTS: Final[dict[str, Function]] = {
    "getFullYear": _part(lambda moment: moment.year),
    "getMonth": _part(lambda moment: moment.month - 1),
    "getDate": _part(lambda moment: moment.day),
    "getDayOfMonth": _part(lambda moment: moment.day - 1),
    "getDayOfWeek": _part(lambda moment: moment.isoweekday() % 7),
    "getDayOfYear": _part(lambda moment: moment.timetuple().tm_yday - 1),
    "getHours": _time_part(lambda moment: moment.hour, 3600.0),
    "getMinutes": _time_part(lambda moment: moment.minute, 60.0),
    "getSeconds": _time_part(lambda moment: moment.second, 1.0),
    "getMilliseconds": _time_part(lambda moment: moment.microsecond // 1000, 0.001),
}
METHODS: Final[dict[tuple[str, int], Function]] = {
    ("size", 1): size,
    **{(name, count): part for name, part in _PARTS.items() for count in (1, 2)},
}
