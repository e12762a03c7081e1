"""HTTP/2 frames, as far as h2 must not see them. Pure.

h2 takes a GOAWAY for the end of everything; RFC 9113 (section 6.8) means it as "nothing new", so
that what is under way can finish. Frames of that type are taken out here.
"""

from __future__ import annotations

from typing import NamedTuple

from h2.errors import ErrorCodes

_HEADER = 9
_GOAWAY = 7


class GoAway(NamedTuple):
    last: int
    """The last stream that the sender has done something with."""
    code: int

    def __str__(self) -> str:
        return error_name(self.code)


class GoAwayFilter:
    """Follows the frames of one direction over any split of their bytes."""

    __slots__ = ("_held", "_left", "found")

    def __init__(self) -> None:
        self._held = b""
        """The beginning of a frame's header, or of a GOAWAY."""
        self._left = 0
        """Bytes of the current frame that only pass."""
        self.found: GoAway | None = None
        """The last one seen."""

    def feed(self, data: bytes) -> bytes:
        """`data` without GOAWAY frames."""
        if self._held:
            data = self._held + data
            self._held = b""
        at = 0
        pieces = []
        while True:
            pieces.append(data[at : at + self._left])
            passed = len(pieces[-1])
            self._left -= passed
            at += passed
            if self._left or len(data) - at < _HEADER:
                break
            size = _HEADER + int.from_bytes(data[at : at + 3])
            # One of more than a few bytes of debug data is for h2 to make something of.
            if data[at + 3] != _GOAWAY or not _HEADER + 8 <= size <= 4096:
                self._left = size
                continue
            if len(data) - at < size:
                break
            last = int.from_bytes(data[at + 9 : at + 13]) & 0x7FFFFFFF
            self.found = GoAway(last, int.from_bytes(data[at + 13 : at + 17]))
            at += size
        self._held = data[at:]
        return b"".join(pieces)


def error_name(code: int) -> str:
    """`ENHANCE_YOUR_CALM`; a number where it has no name."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return str(code)
