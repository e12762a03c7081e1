"""How soon what only tells of progress is written: later the busier the API is. Pure.

A pod that starts passes through several statuses that nobody waits for; where a write takes longer
than these last, the last of them says all.
"""

from __future__ import annotations

LEAST, MOST = 0.3, 5.0
"""Seconds."""
WRITES = 5
"""Of which so many could have been made meanwhile."""
WEIGHT = 0.2
"""Of the newest write among all before it."""


class Pace:
    """Of one node's writes."""

    def __init__(self) -> None:
        self._taken = 0.0

    def took(self, seconds: float) -> None:
        """A write did."""
        self._taken += (seconds - self._taken) * WEIGHT

    @property
    def patience(self) -> float:
        """Seconds that a word on progress waits for a weightier one."""
        return min(max(self._taken * WRITES, LEAST), MOST)
