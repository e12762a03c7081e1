"""Heads between HTTP/2 and the form that pods are asked in. Pure.

Sources: RFC 9113 sections 8.2 and 8.3 for what must be refused; the codec checks a good part of it
first. Clients and pods repeat themselves: what follows from the same fields is remembered, a few
hundred of each.
"""

from __future__ import annotations

import re
from functools import lru_cache
from http import HTTPStatus
from typing import NamedTuple

from meshkube.ingress import hpack
from meshkube.ingress.hpack import Header, Headers
from meshkube.ingress.http1 import CHUNKED, Fields, HeadError, check_trailers, parse_fields
from meshkube.ingress.response_head import NEVER, NO_BODY, ResponseHead

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


class Request(NamedTuple):
    """A request's head."""

    method: bytes
    target: bytes
    host: bytes
    fields: Fields
    """Shared with other requests that say the same."""
    length: int
    """Of the body, in bytes; `CHUNKED` where nobody says."""
    upgrade: bytes = b""
    """The protocol of an extended CONNECT (RFC 8441)."""


def request(headers: Headers, ended: bool) -> Request:
    """Reads the header list of a request, pseudo-headers first; `ended`: no body follows. Raises
    `HeadError`."""
    pseudo: dict[bytes, bytes] = {}
    for name, value in headers:
        if name[:1] != b":":
            break
        pseudo[name] = value
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    _check(method, target, pseudo)
    fields = _fields(pseudo.get(b":authority"), headers[len(pseudo) :])
    protocol = pseudo.get(b":protocol", b"")
    if ended and fields.length > 0:
        raise HeadError(400, "the body is shorter than its Content-Length")
    if protocol:
        if fields.has_length:
            raise HeadError(400, "a request for a pipe has a Content-Length")
        return Request(b"GET", target, fields.host or b"", fields, 0, protocol)
    length = fields.length if ended or fields.has_length else CHUNKED
    return Request(method, target, fields.host or b"", fields, length)


@lru_cache(256)
def _fields(authority: bytes | None, headers: Headers) -> Fields:
    """What a request says, but for its pseudo-headers."""
    lines: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in headers:
        if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
            raise HeadError(400, "a header field is malformed")
        if name in _CONNECTION:
            raise HeadError(400, f"the field {name.decode()} has no place in HTTP/2")
        if name == b"cookie":
            cookies.append(value)
        elif name != b"host":
            if name != b"sec-websocket-key":
                lines.append(b"%b: %b" % (name, value))
        elif authority is None:
            authority = value
        elif authority != value:
            raise HeadError(400, "Host and :authority differ")
    if cookies:
        lines.append(b"cookie: " + b"; ".join(cookies))
    return parse_fields(b"\r\n".join((b"Host: " + (authority or b""), *lines, b"")), 1)


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


@lru_cache(256)
def encoded_response(status: int, block: bytes, added: Headers) -> bytes:
    """`response` as it goes over the wire, with the headers to add that it does not have."""
    headers = response(status, block)
    return hpack.encode(with_added(headers, added))


def with_added(headers: list[Header], added: Headers) -> list[Header]:
    """The header list and what of `added` it does not have."""
    names = {name for name, _ in headers} if added else ()
    return headers + [each for each in added if each[0] not in names]


def headers_of(block: bytes) -> list[Header]:
    """A block of lines as a header list."""
    headers = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon:
            headers.append((name.lower(), value.strip(b" \t")))
    return headers


@lru_cache(256)
def trailer_block(headers: Headers) -> bytes:
    """Trailers as a block of lines. Raises `HeadError`."""
    block = b"".join(_line(name, value) for name, value in headers)
    check_trailers(block)
    return block


@lru_cache(256)
def encoded_trailers(block: bytes) -> bytes:
    """Trailers that are a block of lines as they go over the wire."""
    return hpack.encode(headers_of(block))


def _line(name: bytes, value: bytes) -> bytes:
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        raise HeadError(400, "a header field is malformed")
    return b"%b: %b\r\n" % (name, value)


def for_pod(head: bytes, scheme: bytes) -> tuple[bytes, int]:
    """What would be the head of a request in HTTP/1.1, one of our own making (up to the CRLF of its
    last line), as it goes over the wire in HTTP/2; and the length of its body, perhaps `CHUNKED`.
    """
    line, _, block = head.partition(b"\r\n")
    method, target, _ = line.split(b" ")
    # Our own lines come last, and are new for each request.
    at = block.rfind(b"\r\nX-Request-Id: ")
    at = at + 2 if at >= 0 else len(block)
    authority, fields, length = _for_pod(block[:at])
    pseudo = hpack.encode(((b":method", method), (b":scheme", scheme), (b":path", target)))
    own = map(hpack.encode_one, headers_of(block[at:]))
    return b"".join((pseudo, authority, fields, *own)), length


@lru_cache(256)
def _for_pod(block: bytes) -> tuple[bytes, bytes, int]:
    """(`:authority`, the other fields, the length of the body), the first two encoded."""
    authority, length = b"", 0
    # Trailers of the response do find their way to clients that take them; gRPC insists on it.
    fields = [(b"te", b"trailers")]
    for name, value in headers_of(block):
        if name == b"host":
            authority = value
        elif name == b"transfer-encoding":
            length = CHUNKED
        elif name not in _CONNECTION:
            fields.append((name, value))
            if name == b"content-length":
                length = int(value)
    pseudo = hpack.encode([(b":authority", authority)]) if authority else b""
    return pseudo, hpack.encode(fields), length


@lru_cache(256)
def response_head(headers: Headers, ended: bool) -> ResponseHead:
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
