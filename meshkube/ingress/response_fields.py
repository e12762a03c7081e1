"""The heads of responses in HTTP/1.1, parsed as strictly as those of requests. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from meshkube.ingress.http1 import (
    BLOCK,
    CHUNKED,
    NO_OPTIONS,
    USUAL_OPTIONS,
    HeadError,
    length_of,
    options_of,
    why_malformed,
    without_named,
)

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\x00-\x08\x0a-\x1f\x7f]*+)?\r\n")


def _named(*names: str) -> re.Pattern[bytes]:
    """Finds the lines of these headers. A dash may be an underscore."""
    by_letter: dict[str, list[str]] = {}
    for name in names:
        by_letter.setdefault(name[0], []).append(name[1:].replace("-", "[-_]"))
    choices = "|".join(
        f"[{letter.upper()}{letter}](?i:{'|'.join(rests)})" for letter, rests in by_letter.items()
    )
    # The CRLF at the end is not taken in: it is also the beginning of the next line.
    return re.compile(rf"\n({choices}):([^\r]*)\r".encode())


_RESPONSE_SPECIALS = _named(
    "content-length",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "upgrade",
)


@dataclass(slots=True)
class ResponseFields:
    """What the header lines of a response say, and the lines that go on to the client."""

    kept: bytes
    """The block without hop-by-hop lines; Content-Length stays in, Transfer-Encoding does not."""
    length: int | None = None
    """`CHUNKED`; None where no header says."""
    chunked: bool = False
    close: bool = False
    keep_alive: bool = False
    upgrade: bytes = b""
    verbatim: bool = True
    """Whether the block can go to an HTTP/1.1 client as it is."""


def parse_status_line(data: bytes) -> tuple[int, int, int]:
    """`(status, minor version, end of the line)`. Raises `HeadError`."""
    match = _STATUS_LINE.match(data)
    if match is None:
        raise HeadError(502, "it sent a malformed status line")
    return int(match[2]), 1 if match[1] == b"1" else 0, match.end()


def parse_response_fields(block: bytes) -> ResponseFields:
    """Reads the header lines of a response. Raises `HeadError`."""
    if BLOCK.fullmatch(block) is None:
        raise HeadError(502, "it sent a malformed head: " + why_malformed(block))
    fields = ResponseFields(block)
    text = b"\n" + block
    cuts: list[tuple[int, int]] = []
    lengths: list[tuple[int, int]] = []
    options = NO_OPTIONS
    for match in _RESPONSE_SPECIALS.finditer(text):
        name = match[1].lower()
        value = match[2].strip(b" \t")
        if name == b"content-length":
            _take_response_length(fields, value)
            lengths.append(match.span())
            continue
        cuts.append(match.span())
        if name == b"transfer-encoding":
            if fields.chunked or value.lower() != b"chunked":
                raise HeadError(502, "it sent a Transfer-Encoding other than chunked")
            fields.chunked = True
        elif name == b"connection":
            options |= options_of(value)
        elif name == b"upgrade":
            fields.upgrade = value
    if fields.chunked and lengths:
        # Transfer-Encoding wins, and the connection is not to be trusted further (RFC 9112, 6.3).
        fields.close = True
    if fields.chunked:
        fields.length = CHUNKED
        cuts += lengths
    else:
        cuts += lengths[1:]
    fields.verbatim = not cuts or (fields.chunked and len(cuts) == 1)
    fields.close = fields.close or b"close" in options
    fields.keep_alive = b"keep-alive" in options
    if cuts:
        fields.kept = _without(text, sorted(cuts))
        if not options <= USUAL_OPTIONS:
            lines = without_named(fields.kept.split(b"\r\n"), options)
            fields.kept = b"\r\n".join(lines)
    return fields


def _take_response_length(fields: ResponseFields, value: bytes) -> None:
    length = length_of(value, 502, "it sent a malformed Content-Length")
    if fields.length not in (None, length):
        raise HeadError(502, "it sent two different values of Content-Length")
    fields.length = length


def _without(text: bytes, cuts: list[tuple[int, int]]) -> bytes:
    """`text`, a line feed and a block, without what the cuts (in order) hold, as a block."""
    pieces = []
    start = 0
    for begin, end in cuts:
        pieces.append(text[start:begin])
        start = end
    pieces.append(text[start:])
    return b"".join(pieces)[1:]
