"""The supervisor: parts live side by side, fail alone, and stop in order."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from meshkube.parts import Supervisor, describe


class FakeClock:
    """Never waits; remembers for how long it was asked to."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)


class Steady:
    def __init__(self, name: str, journal: list[str]) -> None:
        self.name = name
        self.journal = journal

    async def run(self, ready) -> None:
        ready()
        self.journal.append(f"{self.name} starts")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.journal.append(f"{self.name} stops")


class Failing:
    name = "failing"

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.done = asyncio.Event()

    async def run(self, ready) -> None:
        if self.failures:
            self.failures -= 1
            raise ValueError("no luck")
        ready()
        self.done.set()
        await asyncio.Event().wait()


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level("CRITICAL")


async def test_a_part_that_fails_starts_again_later_each_time_and_takes_nothing_with_it():
    clock, journal, failing = FakeClock(), [], Failing(failures=3)
    supervisor = Supervisor([[Steady("steady", journal), failing]], clock)
    task = asyncio.create_task(supervisor.run())
    await asyncio.wait_for(failing.done.wait(), 5)
    assert clock.slept == [0.25, 0.5, 1.0]
    assert journal == ["steady starts"]
    assert supervisor.ready
    assert supervisor.health["failing"].failures == 3
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_part_that_is_down_shows_why():
    failing = Failing(failures=10**9)
    supervisor = Supervisor([[failing]], FakeClock())
    task = asyncio.create_task(supervisor.run())
    await asyncio.sleep(0.01)
    assert not supervisor.ready
    assert supervisor.health["failing"].message == "ValueError: no luck"
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_earlier_tier_stops_only_after_the_later_ones():
    journal: list[str] = []
    parts = [[Steady("api", journal)], [Steady("node", journal), Steady("dns", journal)]]
    task = asyncio.create_task(Supervisor(parts, FakeClock()).run())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal[0] == "api starts"
    assert sorted(journal[1:3]) == ["dns starts", "node starts"]
    assert sorted(journal[3:5]) == ["dns stops", "node stops"]
    assert journal[5] == "api stops"


async def test_a_later_tier_waits_for_an_earlier_one_but_not_for_its_recovery():
    journal: list[str] = []
    failing = Failing(failures=10**9)
    supervisor = Supervisor([[failing], [Steady("node", journal)]], FakeClock())
    task = asyncio.create_task(supervisor.run())
    async with asyncio.timeout(5):
        while not journal:
            await asyncio.sleep(0)
    assert failing.failures < 10**9
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_first_real_cause_of_a_group_is_described():
    group = ExceptionGroup("all", [ExceptionGroup("some", [OSError(98, "in use")])])
    assert describe(group) == "OSError: [Errno 98] in use"
