"""A fair share of a loop for a long run of short steps.

A fixed time for each turn is no share: where the turns of the others grow long, as when hundreds of
requests are under way, it becomes next to nothing, and what follows a stream falls ever further
behind. So a turn here grows with theirs.
"""

from __future__ import annotations

import asyncio
from time import perf_counter

SHORTEST = 0.001
LONGEST = 0.05
"""Seconds of a turn. Thousands of steps may be at hand; requests must not wait for all."""
PART = 0.5
"""Of the time that the others took for their last turn."""


class Share:
    """Counts the time of steps, and lets others run when it is their turn."""

    def __init__(self) -> None:
        self._left = SHORTEST
        self._since = 0.0

    def begin(self) -> None:
        """A step begins."""
        self._since = perf_counter()

    @property
    def over(self) -> bool:
        """A step has ended; whether `others` should follow now."""
        self._left -= perf_counter() - self._since
        return self._left <= 0

    async def others(self) -> None:
        """One turn of everybody else on the loop."""
        began = perf_counter()
        await asyncio.sleep(0)
        self._left = min(max((perf_counter() - began) * PART, SHORTEST), LONGEST)
