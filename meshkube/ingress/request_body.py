"""Where the body of a request in HTTP/1 ends, and what of it may go on. Pure."""

from __future__ import annotations

from meshkube.ingress.chunked import ChunkedBody
from meshkube.ingress.http1 import CHUNKED, HeadError


class RequestBody:
    """A body on its way."""

    __slots__ = ("_chunks", "_left", "_limit", "_seen", "_unchecked", "done")

    def __init__(self, length: int, limit: int) -> None:
        """`length` is in bytes, or `CHUNKED`; so is `limit` (0: none), beyond which a body is
        refused. Raises `HeadError`."""
        if limit and length > limit:
            raise _too_large(limit)
        self._chunks = ChunkedBody() if length == CHUNKED else None
        self._left = length
        self._limit = limit
        self._seen = 0
        self._unchecked = b""
        """Of a chunked body: held back until it is known to be sound."""
        self.done = False

    def feed(self, data: bytes) -> int:
        """How many bytes of `data` belong to the body. Raises `HeadError`."""
        chunks = self._chunks
        if chunks is None:
            used = min(len(data), self._left)
            self._left -= used
            self.done = not self._left
            return used
        used = chunks.feed(data)
        self._seen += used
        if self._limit and self._seen > self._limit:
            raise _too_large(self._limit)
        self.done = chunks.done
        return used

    def sound(self, data: bytes) -> bytes:
        """What of the body may go to the pod now that `data` was fed: no line of a chunked body
        before all of it is there."""
        chunks = self._chunks
        if chunks is None:
            return data
        if self._unchecked:
            data = self._unchecked + data
        late = chunks.unchecked
        self._unchecked = data[len(data) - late :]
        return data[: len(data) - late]


def _too_large(limit: int) -> HeadError:
    return HeadError(413, f"the body is larger than {limit} bytes")
