"""A response's head as all of the proxy sees it, whatever version of HTTP the pod speaks. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from meshkube.ingress.http1 import CHUNKED
from meshkube.ingress.response_fields import parse_response_fields, parse_status_line

NO_BODY = frozenset({204, 304})
NEVER = -(1 << 62)


@dataclass(slots=True)
class ResponseHead:
    """A response's head, parsed once for as long as the pod repeats it byte for byte."""

    status: int
    line: bytes
    """The status line, in HTTP/1.1, with its CRLF."""
    kept: bytes
    length: int | None
    close: bool
    upgrade: bytes
    verbatim: bool
    """The head as it came may go to an HTTP/1.1 client."""
    wire: bytes
    """The head for an HTTP/1.1 client that stays connected."""
    size: int
    """Of the head as it came, in bytes."""
    body: int
    """The length of the body where it is usual: given, and neither forbidden nor the last thing on
    the connection; otherwise a number that no response can match."""


def parse_head(data: bytes, end: int) -> ResponseHead:
    """The head at the start of `data`, whose last line ends at `end`. Raises `HeadError`."""
    status, minor, line_end = parse_status_line(data)
    block = data[line_end : end + 2]
    fields = parse_response_fields(block)
    line = data[:line_end] if minor else b"HTTP/1.1 " + data[9:line_end]
    close = fields.close or (minor == 0 and not fields.keep_alive)
    usual = status >= 200 and status not in NO_BODY and not close and fields.length is not None
    framing = b"Transfer-Encoding: chunked\r\n" if fields.length == CHUNKED else b""
    return ResponseHead(
        status,
        line,
        fields.kept,
        fields.length,
        close,
        fields.upgrade,
        bool(minor) and fields.verbatim,
        b"".join((line, fields.kept, framing, b"\r\n")),
        end + 4,
        fields.length if usual and fields.length is not None and fields.length >= 0 else NEVER,
    )
