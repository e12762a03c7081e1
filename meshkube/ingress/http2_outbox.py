"""What one stream still has to send, let through by the windows. Pure."""

from __future__ import annotations

from collections import deque

from meshkube.ingress.http2_sending import Piece, Sending


class Outbox:
    """The body of a request or a response, on its way out."""

    __slots__ = ("_waiting", "size")

    def __init__(self) -> None:
        self._waiting: deque[Piece] = deque()
        self.size = 0
        """Bytes that wait."""

    def add(self, piece: bytes) -> None:
        """More of the body."""
        self._waiting.append(piece)
        self.size += len(piece)

    def clear(self) -> None:
        self._waiting.clear()
        self.size = 0

    def send(self, codec: Sending, number: int, whole: bool, trailers: bytes = b"") -> bool:
        """Hands over as much as the windows let through and, where that is all and the body is
        `whole`, the end, with trailers where there are any (encoded). True once the end is out.
        Raises `H2Error`."""
        waiting = self._waiting
        while waiting:
            piece = waiting[0]
            last = whole and not trailers and len(waiting) == 1
            sent = codec.send_data(number, piece, end_stream=last)
            self.size -= sent
            if sent < len(piece):
                if not sent:
                    return False
                # No copy of what is left for each frame of it.
                waiting[0] = memoryview(piece)[sent:]
                continue
            waiting.popleft()
            if last:
                return True
        if whole and trailers:
            codec.send_block(number, trailers, end_stream=True)
        elif whole:
            codec.end_stream(number)
        return whole
