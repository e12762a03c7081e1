"""Takes out what Docker Engine says twice while it follows a log. Pure.

When a log file is rotated under a reader, the engine (20.10 was seen to) goes back some lines and
tells them again. Each message has a time in nanoseconds, so one that goes back to a time already
told is a repetition. A clock that is set back is none: its times are new.
"""

from __future__ import annotations

from collections import Counter, deque

REMEMBERED = 4096
"""Messages of a stream that a repetition may go back."""
STAMP = len("2026-01-02T03:04:05.000000000Z")


def parted(frame: bytes) -> tuple[bytes, bytes]:
    """The time and the text of a message that was asked for with its time."""
    stamp, space, text = frame.partition(b" ")
    return (stamp, text) if space and len(stamp) >= STAMP else (b"", frame)


class Replays:
    """Follows one stream of one container."""

    def __init__(self) -> None:
        self._order: deque[bytes] = deque()
        self._told: Counter[bytes] = Counter()
        self._again: Counter[bytes] = Counter()
        """Of the times told, how often they came in the repetition that goes on."""
        self._last = b""

    def is_new(self, stamp: bytes) -> bool:
        """Whether a message of that time has not been told yet. To be asked once for each."""
        if not stamp:
            return True
        if stamp < self._last and stamp in self._told and not self._again:
            self._again = Counter({stamp: 1})
            return False
        if self._again and self._again[stamp] < self._told[stamp]:
            self._again[stamp] += 1
            return False
        self._again = Counter()
        self._tell(stamp)
        return True

    def _tell(self, stamp: bytes) -> None:
        self._last = stamp
        self._told[stamp] += 1
        self._order.append(stamp)
        if len(self._order) > REMEMBERED:
            oldest = self._order.popleft()
            self._told[oldest] -= 1
            if not self._told[oldest]:
                del self._told[oldest]
