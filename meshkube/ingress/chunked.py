"""Chunked bodies (RFC 9112, section 7.1), checked strictly as they pass. Pure."""

from __future__ import annotations

import re

from meshkube.ingress.http1 import HeadError, check_trailers

# An extension is allowed and passes unread, as long as nobody can see a line end inside it.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*+)?\r\n")
LONGEST_LINE = 4096
LARGEST_TRAILERS = 8192


class ChunkedBody:
    """Follows one chunked body over any split of its bytes."""

    __slots__ = ("_held", "_in_trailers", "_left", "done", "trailers")

    def __init__(self) -> None:
        self._left = 0
        """Bytes until the end of the current chunk, its CRLF counted."""
        self._held = b""
        """The beginning of a line whose end has not come yet."""
        self._in_trailers = False
        self.done = False
        self.trailers = b""
        """A block of header lines, once `done`."""

    @property
    def unchecked(self) -> int:
        """How many of the bytes read last are of a line that has not ended, or of trailers: until
        the rest is there nobody knows whether they are sound."""
        return len(self._held)

    def feed(self, data: bytes, payload: list[bytes] | None = None) -> int:
        """Reads on; returns how many bytes of `data` belong to the body, all of them until `done`.
        Appends what the chunks hold to `payload`, where given. Raises `HeadError`."""
        at = 0
        while at < len(data) and not self.done:
            if self._left:
                at = self._pass_chunk(data, at, payload)
            else:
                at = self._read_line(data, at)
        return at

    def _pass_chunk(self, data: bytes, at: int, payload: list[bytes] | None) -> int:
        piece = data[at : at + self._left]
        inside = max(0, min(len(piece), self._left - 2))
        self._left -= len(piece)
        if payload is not None and inside:
            payload.append(piece[:inside])
        ending = piece[inside:]
        # One or both bytes of the CRLF that ends the chunk.
        expected = b"\r\n"[2 - len(ending) - self._left :][: len(ending)]
        if ending and ending != expected:
            raise HeadError(400, "a chunk is longer than its size says")
        return at + len(piece)

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        self._held += data[at:stop]
        if len(self._held) > (LARGEST_TRAILERS if self._in_trailers else LONGEST_LINE):
            raise HeadError(400, "a line of the chunked body is too long")
        if end >= 0:
            if self._in_trailers:
                self._end_of_trailers()
            else:
                self._size_line()
        return stop

    def _size_line(self) -> None:
        match = _SIZE_LINE.fullmatch(self._held)
        if match is None:
            raise HeadError(400, "the size of a chunk is malformed")
        self._held = b""
        size = int(match[1], 16)
        if size:
            self._left = size + 2
        else:
            self._in_trailers = True

    def _end_of_trailers(self) -> None:
        held = self._held
        if held == b"\r\n":
            self.done = True
            self._held = b""
        elif held.endswith(b"\r\n\r\n"):
            check_trailers(held[:-2])
            self.trailers = held[:-2]
            self.done = True
            self._held = b""
        elif not held.endswith(b"\r\n"):
            raise HeadError(400, "a trailer is malformed")


def chunk(data: bytes) -> bytes:
    """`data` (not empty) as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK = b"0\r\n\r\n"


def last_chunk(trailers: bytes) -> bytes:
    """The end of a body, with a block of trailer lines."""
    return b"0\r\n%b\r\n" % trailers
