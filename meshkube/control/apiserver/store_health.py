"""How the store does, as the requests that it served or failed tell: one line of `/readyz`."""

from __future__ import annotations

from meshkube.clock import Clock
from meshkube.parts import Health
from meshkube.store import StoreError, StoreUnavailable

TOLD_SECONDS = 10.0
"""A write that failed is told of for this long; a leader writes far more often."""


class StoreHealth:
    """Fed by whoever asks the store; asks nothing itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered = clock.monotonic()
        self._reads = ""
        self._writes = ""
        self._write_failed = 0.0

    @property
    def away(self) -> bool:
        """The last question about what is newest got no answer."""
        return bool(self._reads)

    @property
    def reason(self) -> str:
        """Of the last failure of a read; empty where the last one succeeded."""
        return self._reads

    @property
    def age(self) -> float:
        """Seconds since the store last said what is newest."""
        return self._clock.monotonic() - self._answered

    def read(self) -> None:
        """A read succeeded."""
        self._answered = self._clock.monotonic()
        self._reads = ""

    def read_failed(self, error: StoreUnavailable) -> None:
        self._reads = str(error)

    def wrote(self) -> None:
        """A write took effect, or was judged."""
        self._writes = ""

    def write_failed(self, error: StoreError) -> None:
        self._writes = str(error)
        self._write_failed = self._clock.monotonic()

    @property
    def health(self) -> Health:
        """As of a part."""
        if self._reads:
            message = f"no answer for {self.age:.0f} s, reads come from the cache: {self._reads}"
        elif self._writes and self._clock.monotonic() < self._write_failed + TOLD_SECONDS:
            message = f"writes fail: {self._writes}"
        else:
            return Health(True, 0, "ok")
        return Health(False, 0, message)
