"""Tells when an event loop stalls, and where it stands.

A thread beats on each loop and waits for the answer. A loop that stays silent is held by
somebody's synchronous work: the log gets the stack of its thread, while it still stands there.
Where the watching thread itself woke late, the whole process got no processor (stopped, swapped,
or a starved machine): the log says that instead.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from prometheus_client import Histogram

from meshkube.metrics import REGISTRY

log = logging.getLogger(__name__)

PERIOD = 2.0
"""Seconds between two beats. A stall is told after one to two of them."""

FRAMES = 6
"""How many of the innermost calls the log shows."""

_LAG = Histogram(
    "meshkube_loop_lag_seconds",
    "How long an event loop took to turn to a new call; asked every two seconds",
    ["loop"],
    registry=REGISTRY,
    buckets=(0.001, 0.005, 0.025, 0.1, 0.5, 2, 10),
)


@dataclass(slots=True)
class _Watched:
    """A loop, the thread it runs in, and the beat it has not answered yet."""

    loop: asyncio.AbstractEventLoop
    name: str
    thread: int
    sent: float | None = None
    told: bool = False

    def beat(self, now: float) -> None:
        self.sent = now
        self.loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        """Runs on the loop itself."""
        sent, told = self.sent, self.told
        self.sent, self.told = None, False
        if sent is None:
            return
        lag = time.monotonic() - sent
        _LAG.labels(self.name).observe(lag)
        if told:
            log.warning(
                "the event loop goes on", extra={"loop": self.name, "after": f"{lag:.1f} s"}
            )


class StallWatch:
    """One thread that watches over the loops of this process."""

    def __init__(self, period: float = PERIOD) -> None:
        self._period = period
        self._watched: dict[int, _Watched] = {}
        self._runs = False
        self._lock = threading.Lock()

    @contextmanager
    def over(self, name: str) -> Iterator[None]:
        """Watches the running loop of the calling thread, inside the `with` block."""
        thread = threading.get_ident()
        watched = _Watched(asyncio.get_running_loop(), name, thread)
        with self._lock:
            self._watched[thread] = watched
            if not self._runs:
                self._runs = True
                threading.Thread(target=self._run, name="stalls", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                del self._watched[thread]

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            time.sleep(self._period)
            now = time.monotonic()
            late = now - began - self._period
            with self._lock:
                if not self._watched:
                    self._runs = False
                    return
                for watched in self._watched.values():
                    self._look(watched, now, late)

    def _look(self, watched: _Watched, now: float, late: float) -> None:
        if watched.sent is None:
            watched.beat(now)
        elif late > self._period / 2:
            log.warning("the process got no processor", extra={"for": f"{late:.1f} s"})
        elif not watched.told:
            watched.told = True
            log.warning(
                "the event loop is held",
                extra={
                    "loop": watched.name,
                    "for": f"{now - watched.sent:.1f} s",
                    "at": _place(sys._current_frames().get(watched.thread)),
                },
            )


def _place(frame: FrameType | None) -> str:
    """The innermost calls, innermost first: `fsync (store/sqlite.py:12) < commit (...)`."""
    if frame is None:
        return "a thread that ended"
    stack = traceback.extract_stack(frame)[-FRAMES:]
    return " < ".join(
        f"{call.name} ({'/'.join(call.filename.split('/')[-2:])}:{call.lineno})"
        for call in reversed(stack)
    )


STALLS = StallWatch()
