"""String formats of OpenAPI that an API server checks; others say nothing.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Validation".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable
from datetime import date
from typing import Final
from urllib.parse import urlsplit

from meshkube.api.schemas import scalars
from meshkube.api.validation.formats import dns_label, dns_subdomain

_DURATION: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:ns|us|µs|μs|ms|s|m|h)")
_WORDED: Final = re.compile(
    r"\d+\s*(?:ns|us|µs|ms|s|m|h|d|w|(?:nano|micro|milli)?s(?:ec(?:ond)?s?)?|min(?:ute)?s?|hr?s?"
    r"|hours?|days?|wks?|weeks?)",
    re.IGNORECASE,
)
_HEX: Final = "[0-9a-f]{2}"
_UUID: Final = r"[0-9a-f]{8}-?[0-9a-f]{4}-?%s[0-9a-f]{3}-?%s[0-9a-f]{3}-?[0-9a-f]{12}"


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda text: compiled.fullmatch(text) is not None


def _reads(read: Callable[[str], object]) -> Callable[[str], bool]:
    def check(text: str) -> bool:
        try:
            read(text)
        except (ValueError, TypeError, binascii.Error):
            return False
        return True

    return check


def _uri(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) or text.startswith("/")


def _date(text: str) -> object:
    if len(text) != 10:
        raise ValueError(text)
    return date.fromisoformat(text)


def duration(text: str) -> bool:
    """`1h30m`, `2 days`: what Go's `time.ParseDuration` reads, and units in words."""
    rest = text.lstrip("+-")
    if rest == "0":
        return True
    at = 0
    while at < len(rest):
        match = _DURATION.match(rest, at)
        if match is None:
            return _WORDED.fullmatch(rest) is not None
        at = match.end()
    return bool(rest)


def _isbn(text: str) -> bool:
    return _isbn10(text) or _isbn13(text)


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"\d{9}[\dX]", digits):
        return False
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum((10 - place) * value for place, value in enumerate(values)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(r"\d{13}", digits):
        return False
    return sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(digits)) % 10 == 0


def _card(text: str) -> bool:
    digits = re.sub(r"\D", "", text)
    if not 12 <= len(digits) <= 19:
        return False
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


_CHECKS: Final[dict[str, Callable[[str], bool]]] = {
    "bsonobjectid": _matches(r"[0-9a-f]{24}"),
    "uri": _uri,
    "email": _matches(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)*"),
    "hostname": lambda text: not dns_subdomain(text.lower().rstrip(".")),
    "ipv4": _reads(ipaddress.IPv4Address),
    "ipv6": _reads(ipaddress.IPv6Address),
    "cidr": _reads(lambda text: ipaddress.ip_interface(text) if "/" in text else int("no")),
    "mac": _matches(rf"({_HEX}([:-]))({_HEX}\2){{4}}{_HEX}|({_HEX}{_HEX}\.){{2}}{_HEX}{_HEX}"),
    "uuid": _matches(_UUID % ("[0-9a-f]", "[0-9a-f]")),
    "uuid3": _matches(_UUID % ("3", "[0-9a-f]")),
    "uuid4": _matches(_UUID % ("4", "[89ab]")),
    "uuid5": _matches(_UUID % ("5", "[89ab]")),
    "isbn": _isbn,
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _card,
    "ssn": _matches(r"\d{3}[- ]?\d{2}[- ]?\d{4}"),
    "hexcolor": _matches(r"#?([0-9a-f]{3}|[0-9a-f]{6})"),
    "rgbcolor": _matches(r"rgb\(\s*\d{1,3}\s*,\s*\d{1,3}\s*,\s*\d{1,3}\s*\)"),
    "byte": _reads(lambda text: base64.b64decode(text, validate=True)),
    "date": _reads(_date),
    "date-time": _reads(lambda text: scalars.time(text, "")),
    "datetime": _reads(lambda text: scalars.time(text, "")),
    "duration": duration,
    "k8s-short-name": lambda text: not dns_label(text),
    "k8s-long-name": lambda text: not dns_subdomain(text),
}  # fmt: skip
KNOWN: Final = frozenset(_CHECKS)


def fits(format_: str, text: str) -> bool:
    """Whether text has a format; True for formats that nobody checks."""
    check = _CHECKS.get(format_)
    return check is None or check(text)
