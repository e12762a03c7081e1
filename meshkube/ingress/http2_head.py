"""Heads between HTTP/2 and the form that pods are asked in. Pure.

Sources: RFC 9113 sections 8.2 and 8.3 for what must be refused; h2 checks a good part of it first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from meshkube.ingress.http1 import CHUNKED, Fields, HeadError, parse_fields

Header = tuple[bytes, bytes]

_METHOD = re.compile(rb"[A-Z][A-Z_-]*+")
_TARGET = re.compile(rb"/[!-~]*+|\*")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
# A line end in here would be a header of the client's own making in HTTP/1.
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*+")
# They frame the message or the connection in HTTP/1, and say nothing in HTTP/2.
_CONNECTION = frozenset(
    b"connection keep-alive proxy-connection transfer-encoding upgrade http2-settings".split()
)


@dataclass(frozen=True, slots=True)
class Request:
    """A request's head."""

    method: bytes
    target: bytes
    host: bytes
    fields: Fields
    length: int
    """Of the body, in bytes; `CHUNKED` where nobody says."""


def request(headers: Iterable[Header], ended: bool) -> Request:
    """Reads the header list of a request; `ended`: no body follows. Raises `HeadError`."""
    pseudo, lines = _sorted(headers)
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    _check(method, target)
    lines.insert(0, b"Host: " + pseudo.get(b":authority", b""))
    fields = parse_fields(b"\r\n".join((*lines, b"")), 1)
    if ended and fields.length > 0:
        raise HeadError(400, "the body is shorter than its Content-Length")
    length = fields.length if ended or fields.has_length else CHUNKED
    return Request(method, target, fields.host or b"", fields, length)


def _sorted(headers: Iterable[Header]) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The pseudo-headers, and the others as lines."""
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in headers:
        if name.startswith(b":"):
            pseudo[name] = value
        elif _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise HeadError(400, "a header field is malformed")
        elif name in _CONNECTION:
            raise HeadError(400, f"the field {name.decode()} has no place in HTTP/2")
        elif name == b"cookie":
            cookies.append(value)
        elif name != b"host":
            lines.append(b"%b: %b" % (name, value))
        elif pseudo.setdefault(b":authority", value) != value:
            raise HeadError(400, "Host and :authority differ")
    if cookies:
        lines.append(b"cookie: " + b"; ".join(cookies))
    return pseudo, lines


def _check(method: bytes, target: bytes) -> None:
    if method == b"CONNECT":
        raise HeadError(405, "the method CONNECT is not served here")
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise HeadError(400, "the method or the path is malformed")
    if target == b"*" and method != b"OPTIONS":
        raise HeadError(400, "the path is malformed")


def response(status: int, block: bytes) -> list[Header]:
    """The header list of a response whose header lines are `block`, without hop-by-hop ones."""
    headers = [(b":status", b"%d" % status)]
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.append((name.lower(), value.strip(b" \t")))
    return headers
