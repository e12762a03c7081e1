"""What one stream still has to send, let through by the windows. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from meshkube.ingress.hpack import Header
from meshkube.ingress.http2_sending import Sending


class Outbox:
    """The body of a request or a response, on its way out."""

    __slots__ = ("_waiting", "size")

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self.size = 0
        """Bytes that wait."""

    def add(self, pieces: Iterable[bytes]) -> None:
        """More of the body."""
        for piece in pieces:
            self._waiting.append(piece)
            self.size += len(piece)

    def clear(self) -> None:
        self._waiting.clear()
        self.size = 0

    def send(self, codec: Sending, number: int, whole: bool, trailers: list[Header]) -> bool:
        """Hands over as much as the windows let through and, where that is all and the body is
        `whole`, the end. True once the end is out. Raises `H2Error`."""
        while self._waiting:
            room = min(codec.local_flow_control_window(number), codec.max_outbound_frame_size)
            if room <= 0:
                return False
            data = self._waiting.popleft()
            if len(data) > room:
                self._waiting.appendleft(data[room:])
                data = data[:room]
            self.size -= len(data)
            last = whole and not self._waiting and not trailers
            codec.send_data(number, data, end_stream=last)
            if last:
                return True
        if whole and trailers:
            codec.send_headers(number, trailers, end_stream=True)
        elif whole:
            codec.end_stream(number)
        return whole
