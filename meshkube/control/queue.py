"""The work queue of a controller: each key waits at most once and is worked on by one at a time.

Delays per key grow from 5 ms to 1000 s while it fails, as in Kubernetes' workqueue.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

FIRST_DELAY = 0.005
LONGEST_DELAY = 1000.0


def retry_delay(failures: int) -> float:
    """Seconds to wait after that many failures in a row (1, 2, ...)."""
    # Past 2^20 the product is above the limit whatever the first delay.
    return min(FIRST_DELAY * 2.0 ** min(failures - 1, 20), LONGEST_DELAY)


class WorkQueue:
    """Keys to reconcile. One event loop; not for threads."""

    def __init__(self, rank: Callable[[str], int] | None = None) -> None:
        """With `rank`, the key of the least rank comes first, and of equal ones the oldest."""
        self._rank = rank or (lambda key: 0)
        self._numbers = itertools.count()
        self._ready: asyncio.PriorityQueue[tuple[int, int, str]] = asyncio.PriorityQueue()
        self._waiting: set[str] = set()
        self._working: set[str] = set()
        self._again: set[str] = set()
        self._failures: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Keys that wait now, without those that wait for a time."""
        return len(self._waiting) + len(self._again)

    def add(self, key: str) -> None:
        """Queues the key, unless it already waits. One being worked on is queued again after."""
        if key in self._working:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait((self._rank(key), next(self._numbers), key))

    def add_after(self, key: str, seconds: float) -> None:
        """Queues the key once that time has passed; of several times the earliest counts."""
        if seconds <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + seconds
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timers[key] = loop.call_at(when, self._due, key)

    def _due(self, key: str) -> None:
        self._timers.pop(key, None)
        self.add(key)

    async def get(self) -> str:
        """The next key, now marked as worked on: `done` must follow."""
        _, _, key = await self._ready.get()
        self._waiting.discard(key)
        self._working.add(key)
        return key

    def done(self, key: str) -> None:
        """The work on the key has ended, well or not."""
        self._working.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def failed(self, key: str, at_least: float = 0.0) -> float:
        """Queues the key again after its growing delay (or `at_least` seconds); returns that."""
        self._failures[key] = self.failures(key) + 1
        delay = max(retry_delay(self._failures[key]), at_least)
        self.add_after(key, delay)
        return delay

    def forget(self, key: str) -> None:
        """The key did well: its next failure is its first."""
        self._failures.pop(key, None)

    def failures(self, key: str) -> int:
        return self._failures.get(key, 0)

    def close(self) -> None:
        """Stops the timers; nothing is queued by itself any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
