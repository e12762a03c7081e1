"""Heads between HTTP/2 and the form that pods are asked in. Pure.

Sources: RFC 9113 sections 8.2 and 8.3 for what must be refused; h2 checks a good part of it first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from meshkube.ingress.http1 import CHUNKED, Fields, HeadError, check_trailers, parse_fields
from meshkube.ingress.response_head import NEVER, NO_BODY, ResponseHead

Header = tuple[bytes, bytes]

_METHOD = re.compile(rb"[A-Z][A-Z_-]*+")
_TARGET = re.compile(rb"/[!-~]*+|\*")
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]++")
# A line end in here would be a header of the client's own making in HTTP/1.
_VALUE = re.compile(rb"[^\x00-\x08\x0a-\x1f\x7f]*+")
_STATUS = re.compile(rb"[1-5]\d\d")
_PHRASES = {status.value: status.phrase.encode() for status in HTTPStatus}
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
    upgrade: bytes = b""
    """The protocol of an extended CONNECT (RFC 8441)."""


def request(headers: Iterable[Header], ended: bool) -> Request:
    """Reads the header list of a request; `ended`: no body follows. Raises `HeadError`."""
    pseudo, lines = _sorted(headers)
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    _check(method, target, pseudo)
    protocol = pseudo.get(b":protocol", b"")
    lines.insert(0, b"Host: " + pseudo.get(b":authority", b""))
    fields = parse_fields(b"\r\n".join((*lines, b"")), 1)
    if ended and fields.length > 0:
        raise HeadError(400, "the body is shorter than its Content-Length")
    if protocol:
        if fields.has_length:
            raise HeadError(400, "a request for a pipe has a Content-Length")
        return Request(b"GET", target, fields.host or b"", fields, 0, protocol)
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
            if name != b"sec-websocket-key":
                lines.append(b"%b: %b" % (name, value))
        elif pseudo.setdefault(b":authority", value) != value:
            raise HeadError(400, "Host and :authority differ")
    if cookies:
        lines.append(b"cookie: " + b"; ".join(cookies))
    return pseudo, lines


def _check(method: bytes, target: bytes, pseudo: dict[bytes, bytes]) -> None:
    protocol = pseudo.get(b":protocol")
    if protocol is not None and protocol != b"websocket":
        raise HeadError(501, "a protocol other than websocket is not served by CONNECT")
    if method == b"CONNECT" and protocol is None:
        raise HeadError(405, "the method CONNECT is not served here")
    if _METHOD.fullmatch(method) is None or _TARGET.fullmatch(target) is None:
        raise HeadError(400, "the method or the path is malformed")
    if target == b"*" and method != b"OPTIONS":
        raise HeadError(400, "the path is malformed")


def response(status: int, block: bytes) -> list[Header]:
    """The header list of a response whose header lines are `block`, without hop-by-hop ones."""
    return [(b":status", b"%d" % status), *headers_of(block)]


def headers_of(block: bytes) -> list[Header]:
    """A block of lines as a header list."""
    headers = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.append((name.lower(), value.strip(b" \t")))
    return headers


def trailer_block(headers: Iterable[Header]) -> bytes:
    """Trailers as a block of lines. Raises `HeadError`."""
    block = b"".join(_line(name, value) for name, value in headers)
    check_trailers(block)
    return block


def _line(name: bytes, value: bytes) -> bytes:
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise HeadError(400, "a header field is malformed")
    return b"%b: %b\r\n" % (name, value)


def for_pod(head: bytes, scheme: bytes) -> tuple[list[Header], int]:
    """The header list for what would be the head of a request in HTTP/1.1, one of our own making
    (up to the CRLF of its last line); and the length of its body, perhaps `CHUNKED`."""
    first, *lines = head[:-2].split(b"\r\n")
    method, target, _ = first.split(b" ")
    authority, length = b"", 0
    fields: list[Header] = []
    for line in lines:
        name, _, value = line.partition(b":")
        name, value = name.lower(), value.strip(b" \t")
        if name == b"host":
            authority = value
        elif name == b"transfer-encoding":
            length = CHUNKED
        elif name not in _CONNECTION:
            fields.append((name, value))
            if name == b"content-length":
                length = int(value)
    pseudo = [(b":method", method), (b":scheme", scheme), (b":path", target)]
    if authority:
        pseudo.insert(2, (b":authority", authority))
    # Trailers of the response do find their way to clients that take them; gRPC insists on it.
    return [*pseudo, *fields, (b"te", b"trailers")], length


def response_head(headers: Iterable[Header], ended: bool) -> ResponseHead:
    """What a pod's header list would have been in HTTP/1.1; `ended`: no body follows. Raises
    `HeadError`."""
    status = 0
    lines: list[bytes] = []
    length: int | None = None
    grpc = False
    for name, value in headers:
        if name == b":status":
            status = int(value) if _STATUS.fullmatch(value) else 0
            continue
        if name in _CONNECTION or _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise HeadError(502, "it sent a malformed header field")
        if name == b"content-length":
            length = _length(value, length)
        grpc = grpc or (name == b"content-type" and value.startswith(b"application/grpc"))
        lines.append(b"%b: %b\r\n" % (name, value))
    if not status:
        raise HeadError(502, "it sent a malformed status")
    if ended and length is None and status >= 200 and status not in NO_BODY and not grpc:
        lines.append(b"content-length: 0\r\n")
    kept = b"".join(lines)
    line = b"HTTP/1.1 %d %b\r\n" % (status, _PHRASES.get(status, b""))
    framing = b""
    if length is None:
        length = 0 if ended else CHUNKED
        framing = b"" if ended else b"Transfer-Encoding: chunked\r\n"
    wire = b"".join((line, kept, framing, b"\r\n"))
    return ResponseHead(status, line, kept, length, False, b"", False, wire, 0, NEVER)


def _length(value: bytes, before: int | None) -> int:
    if not value.isdigit() or len(value) > 18 or before not in (None, int(value)):
        raise HeadError(502, "it sent a malformed Content-Length")
    return int(value)
