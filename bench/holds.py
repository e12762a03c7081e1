"""How long an event loop is held: the CPU that its thread uses between two ticks of a timer.

CPU and not time, so that other processes on the machine do not count. A tick that is late because
several callbacks ran in a row counts them all: what is measured is an upper bound of one callback.
"""

from __future__ import annotations

import asyncio
import time

TICK_SECONDS = 0.001


class Holds:
    """Watches the loop it runs on; `longest` is in milliseconds."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def run(self) -> None:
        """Ticks until cancelled."""
        before = time.thread_time()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.thread_time()
            self.longest = max(self.longest, (now - before) * 1000)
            before = now

    def take(self) -> float:
        """The longest hold since the last call."""
        longest, self.longest = self.longest, 0.0
        return longest
