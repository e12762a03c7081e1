"""Responses in gzip, for clients that take it: a `Downstream` in front of the client's own.

Only where a setting asks for it. Each piece is flushed as it comes, so that a stream of events
stays one.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from meshkube.ingress.dressing import without
from meshkube.ingress.http1 import UNTIL_CLOSE, field_value

if TYPE_CHECKING:
    from meshkube.ingress.problems import Problem
    from meshkube.ingress.response_head import ResponseHead
    from meshkube.ingress.sides import Downstream
    from meshkube.ingress.upstream import Upstream

_LEVEL = 4
_SMALLEST = 1024
"""Bytes of a body that are worth it."""
_TYPE = re.compile(
    rb"(?i)(?:text/.+|application/(?:(?:.+\+)?(?:json|xml)|javascript|"
    rb"x-javascript|wasm|xhtml|rss|manifest)|image/(?:svg\+xml|bmp|x-icon)|font/(?:ttf|otf))\s*(?:;.*)?"
)
_FRAMING = frozenset({b"content-length", b"accept-ranges"})


def accepts(header: str) -> bool:
    """Whether an Accept-Encoding header takes gzip (RFC 9110, section 12.5.3)."""
    found: dict[str, float] = {}
    for each in header.lower().split(","):
        name, _, parameters = each.strip().partition(";")
        weight = 1.0
        key, _, value = parameters.strip().partition("=")
        if key == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
        found[name.strip()] = weight
    return found.get("gzip", found.get("x-gzip", found.get("*", 0.0))) > 0


class Compressed:
    """Passes everything on, the bodies of some responses smaller."""

    takes_chunks = False

    def __init__(self, inner: Downstream, accepted: bool, head_only: bool) -> None:
        """`accepted`: the client takes gzip; `head_only`: it asked for no body."""
        self._inner = inner
        self._accepted = accepted
        self._head_only = head_only
        self._zip: Any = None

    def respond(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        if not _compressible(head):
            self._pass(head, length, data, start, end)
            return
        vary = b"Vary: Accept-Encoding\r\n"
        size = field_value(head.kept, b"content-length")
        if not self._accepted or self._head_only or (size and int(size) < _SMALLEST):
            self._pass(replace(head, kept=head.kept + vary), length, data, start, end)
            return
        self._zip = zlib.compressobj(_LEVEL, zlib.DEFLATED, 31)
        body = self._smaller(data[start:], end)
        block = _weak(without(head.kept, _FRAMING)) + b"Content-Encoding: gzip\r\n" + vary
        if end:
            block += b"Content-Length: %d\r\n" % len(body)
        self._inner.respond(_unframed(head, block), len(body) if end else UNTIL_CLOSE, body, 0, end)

    def respond_whole(self, head: ResponseHead, data: bytes) -> None:
        self.respond(head, head.body, data, head.size, True)

    def _pass(self, head: ResponseHead, length: int, data: bytes, start: int, end: bool) -> None:
        # Bodies come without their chunks here, so the inner side frames them anew.
        if length < 0:
            length = UNTIL_CLOSE
        self._inner.respond(_unframed(head, head.kept), length, data, start, end)

    def more(self, data: bytes, end: bool) -> None:
        if self._zip is not None:
            data = self._smaller(data, end)
        if data or end:
            self._inner.more(data, end)

    def _smaller(self, data: bytes, end: bool) -> bytes:
        packed: bytes = self._zip.compress(data)
        if data or end:
            packed += self._zip.flush(zlib.Z_FINISH if end else zlib.Z_SYNC_FLUSH)
        return packed

    # The rest is the inner side's

    def trailers(self, block: bytes) -> None:
        self._inner.trailers(block)

    def interim(self, head: ResponseHead) -> None:
        self._inner.interim(head)

    def tunnel(self, head: ResponseHead, upstream: Upstream, first: bytes) -> None:
        self._inner.tunnel(head, upstream, first)

    def fail(self, problem: Problem) -> None:
        self._inner.fail(problem)

    def reply(self, status: int, block: bytes, body: bytes) -> None:
        self._inner.reply(status, block, body)

    def broken(self, problem: Problem) -> None:
        self._inner.broken(problem)

    def pause_body(self) -> None:
        self._inner.pause_body()

    def resume_body(self) -> None:
        self._inner.resume_body()

    def describe(self) -> dict[str, str]:
        return self._inner.describe()

    def header(self, name: bytes) -> str:
        return self._inner.header(name)


def _compressible(head: ResponseHead) -> bool:
    if not 200 <= head.status < 600 or head.status in (204, 206, 304):
        return False
    block = head.kept
    return (
        _TYPE.fullmatch(field_value(block, b"content-type")) is not None
        and not field_value(block, b"content-encoding")
        and b"no-transform" not in field_value(block, b"cache-control").lower()
    )


def _unframed(head: ResponseHead, block: bytes) -> ResponseHead:
    wire = b"".join((head.line, block, b"\r\n"))
    return replace(head, kept=block, wire=wire, verbatim=False, length=None)


def _weak(block: bytes) -> bytes:
    """Two forms of the same are not the same byte for byte: their ETag must say so."""
    return re.sub(rb'(?im)^(etag:[ \t]*)"', rb'\1W/"', block)
