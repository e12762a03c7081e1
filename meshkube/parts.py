"""The parts that a daemon runs: one Protocol, and the supervisor that keeps them running.

A part that fails is restarted with a growing delay, says so in the log, shows in `/readyz`, and
takes no other part with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from meshkube.clock import Clock

log = logging.getLogger(__name__)

FIRST_DELAY = 0.25
LONGEST_DELAY = 30.0
# A part that ran this long before it failed starts again at the first delay.
STEADY_AFTER = 60.0


class Part(Protocol):
    """Something the daemon runs for as long as it lives."""

    @property
    def name(self) -> str:
        """Short and unique: it names the part in `/readyz`, the log, metrics and `--disable`."""
        ...

    async def run(self, ready: Callable[[], None]) -> None:
        """Works until cancelled. Calls `ready` each time it has become able to serve.

        Owns every task it starts (a TaskGroup), and releases what it holds when cancelled.
        A raise means failure: the supervisor logs it and runs the part again.
        """
        ...


@dataclass(slots=True)
class Health:
    """How one part is doing: what `/readyz?verbose` and `meshkube status` show."""

    ready: bool = False
    failures: int = 0
    message: str = "starting"


class Supervisor:
    """Runs parts side by side until cancelled.

    Parts come in tiers. A tier starts once each part of the one before has become ready, or has
    failed (it is tried on, and the others do what they can without it); it stops before that one,
    so that what stops last (the API) still serves what others say while they stop.
    """

    def __init__(self, tiers: Sequence[Sequence[Part]], clock: Clock) -> None:
        self._tiers = tiers
        self._clock = clock
        self.health: dict[str, Health] = {part.name: Health() for tier in tiers for part in tier}
        self._tried = {name: asyncio.Event() for name in self.health}

    @property
    def ready(self) -> bool:
        """True while every part serves."""
        return all(health.ready for health in self.health.values())

    async def run(self) -> None:
        """Runs every part; returns only when cancelled, once they have all stopped."""
        await self._run_from(0)

    async def _run_from(self, tier: int) -> None:
        if tier == len(self._tiers):
            await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            for part in self._tiers[tier]:
                group.create_task(self._keep(part), name=part.name)
            for part in self._tiers[tier]:
                await self._tried[part.name].wait()
            await self._run_from(tier + 1)

    async def _keep(self, part: Part) -> None:
        health = self.health[part.name]
        delay = FIRST_DELAY

        def ready() -> None:
            health.ready, health.message = True, "ok"
            self._tried[part.name].set()

        while True:
            started = self._clock.monotonic()
            try:
                await part.run(ready)
                reason = "stopped by itself"
            except Exception as error:
                reason = describe(error)
                log.exception("part failed", extra={"part": part.name})
            if self._clock.monotonic() - started >= STEADY_AFTER:
                delay = FIRST_DELAY
            health.ready, health.failures, health.message = False, health.failures + 1, reason
            self._tried[part.name].set()
            log.error(
                "part restarts", extra={"part": part.name, "reason": reason, "in_seconds": delay}
            )
            await self._clock.sleep(delay)
            delay = min(delay * 2, LONGEST_DELAY)


def describe(error: BaseException) -> str:
    """One line that names the first real cause, also out of a group of them."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
