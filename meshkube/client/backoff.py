"""Growing delays with jitter, so that many clients do not come back at the same moment."""

from __future__ import annotations

import random

FIRST = 0.2
LONGEST = 15.0


class Backoff:
    """Delays in seconds that double from `first` to `longest`, each moved by up to a half."""

    def __init__(self, first: float = FIRST, longest: float = LONGEST) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """Starts over: something worked."""
        self._next = self._first

    def next(self) -> float:
        """The delay before the next attempt."""
        delay = self._next
        self._next = min(delay * 2, self._longest)
        return delay * random.uniform(0.5, 1.5)
