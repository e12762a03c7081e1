"""What a head must be to be one (RFC 9113, sections 8.1 and 8.3). Pure."""

from __future__ import annotations

from functools import lru_cache

from meshkube.ingress.hpack import Headers
from meshkube.ingress.http2_errors import ErrorCodes, StreamError

_PSEUDO_REQUEST = frozenset((b":method", b":scheme", b":authority", b":path", b":protocol"))

_AUTHORITY = frozenset((b":authority",))
_USUAL = frozenset((b":method", b":scheme", b":path"))
_CONNECT = frozenset((b":method",))
# RFC 8441, section 4.
_EXTENDED = _USUAL | {b":protocol"}


def checked_request(headers: Headers) -> int:
    """The length that a request says its body has, -1 for none (section 8.3). Raises
    `StreamError`."""
    pseudo: set[bytes] = set()
    for name, _ in headers:
        if name[:1] != b":":
            break
        if name in pseudo or name not in _PSEUDO_REQUEST:
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        pseudo.add(name)
    if pseudo - _AUTHORITY != _needed(headers, pseudo):
        raise StreamError(ErrorCodes.PROTOCOL_ERROR)
    return _checked_fields(headers[len(pseudo) :])


@lru_cache(256)
def _checked_fields(fields: Headers) -> int:
    length = -1
    for name, value in fields:
        if name[:1] == b":":
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        if name == b"content-length":
            length = _length(value, length)
        elif name == b"te" and value != b"trailers":
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
    return length


def _needed(headers: Headers, pseudo: set[bytes]) -> frozenset[bytes]:
    if (b":method", b"CONNECT") not in headers[: len(pseudo)]:
        return _USUAL
    return _EXTENDED if b":protocol" in pseudo else _CONNECT


@lru_cache(256)
def checked_response(headers: Headers) -> tuple[int, int]:
    """(status, the length that the body is said to have). Raises `StreamError`."""
    if not headers or headers[0][0] != b":status" or not headers[0][1].isdigit():
        raise StreamError(ErrorCodes.PROTOCOL_ERROR)
    if headers[0][1] == b"101":
        # HTTP/2 has no upgrades (section 8.6).
        raise StreamError(ErrorCodes.PROTOCOL_ERROR)
    length = -1
    for name, value in headers[1:]:
        if name[:1] == b":":
            raise StreamError(ErrorCodes.PROTOCOL_ERROR)
        if name == b"content-length":
            length = _length(value, length)
    return int(headers[0][1]), length


@lru_cache(256)
def check_trailers(headers: Headers) -> None:
    """Trailers have no pseudo-headers (section 8.1). Raises `StreamError`."""
    if any(name[:1] == b":" for name, _ in headers):
        raise StreamError(ErrorCodes.PROTOCOL_ERROR)


def _length(value: bytes, before: int) -> int:
    if not value.isdigit() or len(value) > 18 or before not in (-1, int(value)):
        raise StreamError(ErrorCodes.PROTOCOL_ERROR)
    return int(value)
