"""The trace header of requests: a client's goes on as it came, others get one. Pure.

The id of a trace made here is the request's id. No span is made for the ingress itself, so a trace
that a client began is not broken by one that nobody reports. Source: W3C Trace Context, level 1.
"""

from __future__ import annotations

import re

from meshkube.ingress.dressing import without
from meshkube.ingress.http1 import field_value

_PARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_ID = re.compile(rb"(?!0{32})[0-9a-f]{32}")
_HEADERS = frozenset({b"traceparent", b"tracestate"})


def checked(block: bytes) -> tuple[bytes, bool]:
    """The header lines of a request, and whether they hold a trace. One that is malformed is cut,
    its `tracestate` with it."""
    given = field_value(block, b"traceparent")
    if not given:
        return block, False
    if _PARENT.fullmatch(given):
        return block, True
    return without(block, _HEADERS), False


def line(request_id: bytes, number: int) -> bytes:
    """The header line that begins a trace."""
    made = request_id
    if _ID.fullmatch(request_id) is None:
        made = b"%032x" % (hash(request_id) & (2**64 - 1) | 1)
    return b"traceparent: 00-%b-%016x-01\r\n" % (made, (number & (2**64 - 1)) or 1)


def trace_id(parent: str, request_id: str) -> str:
    """The id of the trace that a request belongs to, by its header or its id; empty for none."""
    match = _PARENT.fullmatch(parent.encode("latin-1"))
    if match is not None:
        return match[1].decode()
    return request_id if _ID.fullmatch(request_id.encode("latin-1")) else ""
