"""A part on a loop of its own: it runs there, tells readiness here, and ends before we go on."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable

import pytest

from meshkube.aside import Aside, side_loop
from meshkube.priority import TRAFFIC


class Recorded:
    name = "recorded"

    def __init__(self, error: Exception | None = None) -> None:
        self.threads: list[str] = []
        self.ended = False
        self._error = error

    async def run(self, ready: Callable[[], None]) -> None:
        self.threads.append(threading.current_thread().name)
        ready()
        if self._error is not None:
            raise self._error
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.05)
            self.ended = True


async def test_it_runs_in_its_thread_and_readiness_comes_home() -> None:
    part = Recorded()
    ready = asyncio.Event()
    home = threading.current_thread().name
    seen: list[str] = []

    def on_ready() -> None:
        seen.append(threading.current_thread().name)
        ready.set()

    with side_loop("aside-test") as loop:
        running = asyncio.ensure_future(Aside(part, loop).run(on_ready))
        async with asyncio.timeout(5):
            await ready.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert part.ended
    assert part.threads == ["aside-test"]
    assert seen == [home]


async def test_a_failure_is_raised_to_the_supervisor_and_the_part_may_run_again() -> None:
    part = Recorded(ValueError("no luck"))
    with side_loop("aside-test") as loop:
        aside = Aside(part, loop)
        for _ in range(2):
            with pytest.raises(ValueError, match="no luck"):
                await aside.run(lambda: None)
    assert part.threads == ["aside-test", "aside-test"]


async def test_traffic_goes_before_other_threads_where_that_is_allowed() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    with side_loop("aside-test") as loop:

        async def look() -> int:
            return niceness()

        found = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(look(), loop))
    allowed = os.geteuid() == 0 or before <= TRAFFIC
    assert found == (TRAFFIC if allowed else before)
    assert niceness() == before


async def test_what_holds_this_loop_does_not_hold_that_one() -> None:
    gaps: list[float] = []

    class Ticking:
        name = "ticking"

        async def run(self, ready: Callable[[], None]) -> None:
            ready()
            last = time.perf_counter()
            while True:
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                gaps.append(now - last)
                last = now

    with side_loop("aside-test") as loop:
        running = asyncio.ensure_future(Aside(Ticking(), loop).run(lambda: None))
        await asyncio.sleep(0.05)
        until = time.perf_counter() + 0.5
        while time.perf_counter() < until:
            pass
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    assert max(gaps) < 0.4
    assert len(gaps) > 20
