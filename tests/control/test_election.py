"""Who leads: with a clock that is stepped by hand, and on the real API."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.events import EventRecorder
from meshkube.clock import Clock, SystemClock
from meshkube.control.election import Election, Sighting, Timing, claim, release
from tests.support.api import running_api

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class StepClock:
    """Time that passes when the test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.time)

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.time + seconds, self._count, future))
        await future

    async def step(self, seconds: float) -> None:
        end = self.time + seconds
        await settle()
        while self._sleepers and self._sleepers[0][0] <= end:
            self.time, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await settle()
        self.time = end


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


class Leases:
    """The one Lease, with the compare-on-version of the API; it can be slow, or away."""

    def __init__(self) -> None:
        self.lease: Object | None = None
        self.version = 0
        self.away = False
        self.hangs = False

    async def _reached(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ApiError(503, "ServiceUnavailable", "away")

    async def get(self, kind: Any, name: str, namespace: str) -> Object:
        await self._reached()
        if self.lease is None:
            raise ApiError(404, "NotFound", name)
        return self.lease

    async def create(self, kind: Any, obj: Object, namespace: str = "") -> Object:
        if kind is kinds.EVENT:
            return obj
        await self._reached()
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "taken")
        return self._store(obj)

    async def update(self, kind: Any, obj: Object) -> Object:
        await self._reached()
        if meta.resource_version(obj) != str(self.version):
            raise ApiError(409, "Conflict", "modified")
        return self._store(obj)

    def _store(self, obj: Object) -> Object:
        self.version += 1
        self.lease = meta.copy(obj)
        self.lease["metadata"]["resourceVersion"] = str(self.version)
        return self.lease


class Contender:
    """An election and a record of when its work ran."""

    def __init__(self, client: Any, name: str, clock: Clock) -> None:
        self.clock = clock
        self.spans: list[list[float]] = []
        events = EventRecorder(client, "t", clock=clock)
        self.election = Election(client=client, identity=name, clock=clock, events=events)
        self.task: asyncio.Task[None] | None = None

    @property
    def leads(self) -> bool:
        return bool(self.spans) and len(self.spans[-1]) == 1

    async def work(self) -> None:
        self.spans.append([self.clock.monotonic()])
        try:
            await asyncio.Event().wait()
        finally:
            self.spans[-1].append(self.clock.monotonic())

    async def run(self) -> None:
        await self.election.run(self.work)

    async def kill(self) -> None:
        """As `kill -9`: nothing more is said to the API."""
        self.election._client = Dead()  # type: ignore[assignment]
        await self.stop()

    async def stop(self) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


class Dead:
    def __getattr__(self, name: str) -> Any:
        async def away(*arguments: Any, **more: Any) -> Any:
            raise ApiError(503, "ServiceUnavailable", "dead")

        return away


@contextlib.asynccontextmanager
async def contending(*contenders: Contender) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        for contender in contenders:
            contender.task = group.create_task(contender.run())
            await settle()
        try:
            yield
        finally:
            for contender in contenders:
                assert contender.task is not None
                contender.task.cancel()


def two(leases: Leases, clock: StepClock) -> tuple[Contender, Contender]:
    return Contender(leases, "a", clock), Contender(leases, "b", clock)


async def test_the_first_leads_and_keeps_leading() -> None:
    leases, clock = Leases(), StepClock()
    a, b = two(leases, clock)
    async with contending(a, b):
        await clock.step(60)
        assert (a.leads, b.leads) == (True, False)
        assert len(a.spans) == 1


async def test_a_killed_leader_is_followed_within_three_seconds() -> None:
    leases, clock = Leases(), StepClock()
    a, b = two(leases, clock)
    async with contending(a, b):
        await clock.step(10.05)
        await a.kill()
        await clock.step(1.0)
        assert not b.leads, "the lease still holds"
        await clock.step(2.0)
        assert b.leads
        assert leases.lease is not None
        assert leases.lease["spec"]["leaseTransitions"] == 1


async def test_a_leader_that_stops_hands_over_at_once() -> None:
    leases, clock = Leases(), StepClock()
    a, b = two(leases, clock)
    async with contending(a, b):
        await clock.step(5)
        await a.stop()
        await clock.step(Timing().poll)
        assert b.leads


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_a_leader_without_the_store_stops_before_the_lease_ends(how: str) -> None:
    leases, clock = Leases(), StepClock()
    a = Contender(leases, "a", clock)
    async with contending(a):
        await clock.step(5)
        renewed = a.election._renewed
        setattr(leases, how, True)
        await clock.step(Timing().duration)
        assert not a.leads
        assert a.spans[0][1] - renewed <= Timing().give_up + 0.01
        setattr(leases, how, False)
        await clock.step(3)
        if how == "away":
            assert a.leads, "it lives on, and leads again when it can"


async def test_two_never_lead_at_once_whatever_the_store_does() -> None:
    rng = random.Random(7)
    leases, clock = Leases(), StepClock()
    a, b = two(leases, clock)
    async with contending(a, b):
        for _ in range(150):
            leases.away = rng.random() < 0.4
            await clock.step(rng.random())
            assert not (a.leads and b.leads)
    spans = sorted(span for contender in (a, b) for span in contender.spans)
    assert len(spans) > 4
    for one, other in itertools.pairwise(spans):
        assert one[1] <= other[0]


async def test_a_restarted_process_takes_its_own_lease_back() -> None:
    leases, clock = Leases(), StepClock()
    first = Contender(leases, "a", clock)
    async with contending(first):
        await clock.step(1)
        await first.kill()
    again = Contender(leases, "a", clock)
    async with contending(again):
        await clock.step(0)
        assert again.leads


def test_a_holders_clock_is_not_trusted() -> None:
    lease = claim(None, "m", "n", "a", NOW - timedelta(days=1), 2)
    sighting = Sighting()
    sighting.see(lease, 100.0)
    assert sighting.free_in(lease, "b", 100.5, 9) == pytest.approx(1.5)
    assert sighting.free_in(lease, "b", 103, 9) == 0
    sighting.see(lease, 103.0)
    assert sighting.free_in(lease, "b", 103, 9) == 0, "not renewed since"
    assert sighting.free_in(release(lease, NOW), "b", 100.0, 9) == 0


async def test_on_the_real_api_one_leads_and_the_next_follows(tmp_path: Path) -> None:
    async with running_api(tmp_path) as client:
        clock = SystemClock()
        a, b = Contender(client, "a", clock), Contender(client, "b", clock)
        async with contending(a, b):
            await until(lambda: a.leads or b.leads)
            first, second = (a, b) if a.leads else (b, a)
            await asyncio.sleep(1)
            assert not second.leads
            killed = clock.monotonic()
            await first.kill()
            await until(lambda: second.leads)
            assert second.spans[0][0] - killed < 3
            lease = await client.get(kinds.LEASE, "meshkube", "kube-system")
            assert lease["spec"]["holderIdentity"] == second.election._identity


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
