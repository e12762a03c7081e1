"""How the values of annotations are read: text in, a typed value out, or why not. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, TypeAlias, TypeVar

Network: TypeAlias = IPv4Network | IPv6Network
T = TypeVar("T")

_SIZE = re.compile(r"(\d{1,15})([kKmMgG]?)")
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_URL = re.compile(r"https?://[!-~]+")
_PATH = re.compile(r"/[!-~]*")
_HOST = re.compile(r"[0-9A-Za-z._-]+(?::\d{1,5})?")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[ -~]*")
_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_VARIABLE = re.compile(r"\$(?!(?:request_uri|host|scheme)\b)")
_ORIGIN = re.compile(r"(\*|[a-z][a-z0-9+.-]*://(\*\.)?[A-Za-z0-9._-]+(:\d{1,5})?)")


class Invalid(ValueError):
    """A value that cannot be used: the message says what it should be."""


def flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise Invalid('is not "true" or "false"')
    return text == "true"


def size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    if match is None:
        raise Invalid("is not a size such as 512k, 8m or 0")
    return int(match[1]) * _UNITS[match[2].lower()]


def seconds(text: str) -> float:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 1_000_000:
        raise Invalid("is not a number of seconds")
    return float(text)


def number(lowest: int, highest: int) -> Callable[[str], int]:
    """A whole number within these bounds."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,12}", text) or not lowest <= int(text) <= highest:
            raise Invalid(f"is not a number from {lowest} to {highest}")
        return int(text)

    return read


def networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ip_network(each.strip(), strict=False) for each in text.split(","))
    except ValueError:
        raise Invalid("is not a list of networks such as 10.0.0.0/8,192.0.2.1") from None


def url(text: str) -> str:
    if _URL.fullmatch(text) is None or _VARIABLE.search(text):
        raise Invalid("is not a URL; of variables, $request_uri, $host and $scheme are known")
    return text


def path(text: str) -> str:
    if _PATH.fullmatch(text) is None:
        raise Invalid("is not a path")
    return text


def rewrite(text: str) -> str:
    if re.search(r"\$(?![12](?!\d))", path(text)):
        raise Invalid("is not a path with no captures but $1 and $2")
    return text


def host(text: str) -> str:
    if _HOST.fullmatch(text) is None:
        raise Invalid("is not a host name")
    return text


def hosts(text: str) -> tuple[str, ...]:
    """Names with commas between; a wildcard or expression is none."""
    names = items(text)
    if not names or any(":" in name or _HOST.fullmatch(name) is None for name in names):
        raise Invalid("is not a list of host names (expressions are not supported)")
    return tuple(name.lower().rstrip(".") for name in names)


def redirect_code(text: str) -> int:
    if text not in ("301", "302", "303", "307", "308"):
        raise Invalid("is not a status of a redirect")
    return int(text)


def error_codes(text: str) -> frozenset[int]:
    if not re.fullmatch(r"[345]\d\d(\s*,\s*[345]\d\d)*", text):
        raise Invalid("is not a list of statuses such as 404,503")
    return frozenset(map(int, items(text)))


def token(text: str) -> str:
    """The name of a header or a cookie."""
    if _TOKEN.fullmatch(text) is None:
        raise Invalid("is not the name of a header or cookie")
    return text


def tokens(text: str) -> tuple[str, ...]:
    names = items(text)
    if not names or any(name != "*" and _TOKEN.fullmatch(name) is None for name in names):
        raise Invalid("is not a list of names")
    return names


def value(text: str) -> str:
    """A header's value."""
    if _VALUE.fullmatch(text) is None:
        raise Invalid("is not a value that a header may have")
    return text


def cookie_path(text: str) -> str:
    if not re.fullmatch(r"/[!-:<-~]*", text):
        raise Invalid("is not a path")
    return text


def object_name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise Invalid("is not the name of an object")
    return text


def origins(text: str) -> tuple[str, ...]:
    """What CORS lets in: `*`, origins, and origins with `*.` before the host's name."""
    found = items(text)
    if not found or any(_ORIGIN.fullmatch(origin) is None for origin in found):
        raise Invalid("is not a list of origins such as https://shop.io,https://*.shop.io")
    return found


def pair(text: str) -> tuple[str, str]:
    """`from to`, or `off` for none."""
    if text == "off":
        return "", ""
    words = text.split()
    if len(words) != 2 or "~" in words[0][:1] or "$" in text or _VALUE.fullmatch(text) is None:
        raise Invalid('is not "off" or two words without variables or expressions')
    return words[0], words[1]


def literal(text: str) -> str:
    """Text without variables or expressions; `off` and `default` for none."""
    if text in ("off", "default"):
        return ""
    if not text or _VALUE.fullmatch(text) is None or " " in text or "$" in text or text[0] == "~":
        raise Invalid("is not text without blanks, variables and expressions")
    return text


def one_of(*choices: str) -> Callable[[str], str]:
    """One of these words."""

    def read(text: str) -> str:
        if text not in choices:
            raise Invalid(f"is not supported (only {', '.join(choices)})")
        return text

    return read


def only(*values: str) -> Callable[[str], None]:
    """For what we do in any case: other values are not supported."""

    def check(text: str) -> None:
        one_of(*values)(text)

    return check


def switch(*values: str) -> Callable[[str], bool]:
    """One of these words switches a feature on."""

    def read(text: str) -> bool:
        return bool(one_of(*values)(text))

    return read


def checked(read: Callable[[str], Any]) -> Callable[[str], None]:
    """For what changes nothing here, but must be sound all the same."""

    def check(text: str) -> None:
        read(text)

    return check


def items(text: str) -> tuple[str, ...]:
    return tuple(item for each in text.split(",") if (item := each.strip()))


_CONDITIONS = frozenset(f"http_{status}" for status in (403, 404, 429, 500, 502, 503, 504)) | {
    "error",
    "timeout",
    "invalid_header",
    "non_idempotent",
    "off",
}


def conditions(text: str) -> frozenset[str]:
    """When another pod is asked, as nginx' `proxy_next_upstream` names it."""
    words = frozenset(text.split())
    if not words or words - _CONDITIONS:
        raise Invalid(f"is not a list of: {', '.join(sorted(_CONDITIONS))}")
    return words


def filled_url(template: Callable[[str], str]) -> Callable[[str], str]:
    """A URL that holds variables, after its scheme or in its place."""

    def read(text: str) -> str:
        if not text.startswith(("http://", "https://", "$scheme://")) or not text.isprintable():
            raise Invalid("is not a URL")
        return template(text)

    return read


def cache_times(text: str) -> tuple[tuple[int, float], ...]:
    """`200 202 401 5m` and more of these with commas: nginx' `proxy_cache_valid`."""
    found: list[tuple[int, float]] = []
    for each in items(text):
        match = re.fullmatch(r"((?:\d{3}\s+)*)(\d{1,6})([smhd]?)", each)
        if match is None:
            raise Invalid('is not of the form "200 202 401 5m"')
        length = float(match[2]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}[match[3]]
        found += [(int(status), length) for status in match[1].split() or (200, 301, 302)]
    if not found:
        raise Invalid('is not of the form "200 202 401 5m"')
    return tuple(found)
