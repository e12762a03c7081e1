"""Single values as an API server's decoder reads them, and its words for those it cannot.

Each reader raises `TypeError` for a JSON type that does not fit, `OverflowError` for a number that
does not, and `ValueError`, with the server's text, for a value that cannot be parsed.
"""

from __future__ import annotations

import re
from typing import Final

from meshkube.api import quantities
from meshkube.api.schemas.nodes import Node
from meshkube.api.types import JSON

_LIMITS: Final = {"int32": 1 << 31, "int64": 1 << 63}
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
_TIME_PARTS: Final = (
    ("2006", re.compile(r"\d{4}")),
    ("-", re.compile("-")),
    ("01", re.compile(r"\d{2}")),
    ("-", re.compile("-")),
    ("02", re.compile(r"\d{2}")),
    ("T", re.compile("T")),
    ("15", re.compile(r"\d{2}")),
    (":", re.compile(":")),
    ("04", re.compile(r"\d{2}")),
    (":", re.compile(":")),
    ("05", re.compile(r"\d{2}(?:[.,]\d+)?")),
    ("Z07:00", re.compile(r"Z|[+-]\d{2}:\d{2}")),
)
_MICRO_PARTS: Final = (
    *_TIME_PARTS[:-2],
    ("05", re.compile(r"\d{2}")),
    (".000000", re.compile(r"[.,]\d{6}")),
    _TIME_PARTS[-1],
)
_RANGES: Final = (
    ("month", 5, 1, 12),
    ("hour", 11, 0, 23),
    ("minute", 14, 0, 59),
    ("second", 17, 0, 59),
)
_DAYS: Final = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def integer(value: JSON, format_: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError
    limit = _LIMITS.get(format_, _LIMITS["int64"])
    if isinstance(value, float) or not -limit <= value < limit:
        raise OverflowError


def number(value: JSON, format_: str) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError


def int_or_string(value: JSON, format_: str) -> None:
    if not isinstance(value, str):
        integer(value, "int32")


def quantity(value: JSON, format_: str) -> None:
    """A `resource.Quantity`: text, or a bare number."""
    quantities.quantity(value)


def canonical_quantity(value: JSON) -> JSON:
    """How a quantity is written; what cannot be read stays as it is."""
    try:
        return quantities.canonical(value)
    except ValueError:
        return value


def time(value: JSON, format_: str) -> None:
    """RFC 3339, as `metav1.Time` reads it."""
    _moment(value, "2006-01-02T15:04:05Z07:00", _TIME_PARTS)


def micro_time(value: JSON, format_: str) -> None:
    """RFC 3339 with six digits of a second, as `metav1.MicroTime` reads it."""
    _moment(value, "2006-01-02T15:04:05.000000Z07:00", _MICRO_PARTS)


def _moment(value: JSON, layout: str, parts: tuple[tuple[str, re.Pattern[str]], ...]) -> None:
    if not isinstance(value, str):
        raise TypeError
    at = 0
    for part, pattern in parts:
        match = pattern.match(value, at)
        if match is None:
            raise ValueError(
                f'parsing time {_quoted(value)} as "{layout}":'
                f' cannot parse {_quoted(value[at:])} as "{part}"'
            )
        at = match.end()
    if at != len(value):
        raise ValueError(f"parsing time {_quoted(value)}: extra text: {_quoted(value[at:])}")
    for what, start, low, high in _RANGES:
        if not low <= int(value[start : start + 2]) <= high:
            raise ValueError(f'parsing time "{value}": {what} out of range')
    year, month, day = int(value[:4]), int(value[5:7]), int(value[8:10])
    leap = month == 2 and year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _DAYS[month - 1] + leap:
        raise ValueError(f'parsing time "{value}": day out of range')


def _quoted(text: str) -> str:
    """As Go's time package quotes: what is not printable ASCII by its bytes."""
    escaped = (
        f"\\x{byte:02x}"
        if not 0x20 <= byte < 0x7F
        else f"\\{byte:c}"
        if byte in b'"\\'
        else chr(byte)
        for byte in text.encode()
    )
    return '"' + "".join(escaped) + '"'


def base64_bytes(value: JSON, format_: str) -> None:
    if not isinstance(value, str):
        raise TypeError
    if not _BASE64.fullmatch(value):
        place = _base64_fault(value)
        if place >= 0:
            raise ValueError(f"illegal base64 data at input byte {place}")


def _base64_fault(text: str) -> int:
    """Where Go's decoder gives up, or -1: it skips line ends wherever they stand."""
    data = text.encode()
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    full = 0  # how much of a group of four was read
    at = 0
    while at < len(data):
        byte = data[at]
        at += 1
        if byte in alphabet:
            full = (full + 1) % 4
        elif byte in b"\r\n":
            continue
        elif byte != ord("=") or full < 2:
            return at - 1
        else:
            return _padding_fault(data, at, full)
    return at - full if full else -1


def _padding_fault(data: bytes, at: int, full: int) -> int:
    def skip_line_ends() -> None:
        nonlocal at
        while at < len(data) and data[at] in b"\r\n":
            at += 1

    skip_line_ends()
    if full == 2:
        if at == len(data):
            return at
        if data[at] != ord("="):
            return at - 1
        at += 1
        skip_line_ends()
    return at if at < len(data) else -1


def json_type(value: JSON) -> str:
    """What Go's decoder calls the type of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def go_type(node: Node) -> str:
    """The Go type a field has, as far as a schema tells it."""
    match node.type:
        case "integer":
            return node.format or "int64"
        case "int-or-string":
            return "int32"
        case "boolean":
            return "bool"
        case "number":
            return "float64"
        case "bytes":
            return "[]uint8"
        case "array" if node.items is not None:
            return "[]" + go_type(node.items)
        case "map" if node.items is not None:
            return "map[string]" + go_type(node.items)
        case "object":
            return ".".join(node.definition.rsplit(".", 2)[-2:])
        case "quantity":
            return "resource.Quantity"
        case "any":
            return "runtime.RawExtension"
    return "string"


def zero(node: Node) -> JSON:
    """What a null becomes where there is no field to leave out."""
    match node.type:
        case "string" | "int-or-string" | "bytes":
            return ""
        case "integer" | "number":
            return 0
        case "boolean":
            return False
        case "quantity":
            return "0"
        case "array":
            return []
        case "json":
            return None
    return {}
