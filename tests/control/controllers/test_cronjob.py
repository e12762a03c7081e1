"""CronJobs: when a Job is due, and what becomes of it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.control.controllers import cronjob
from meshkube.control.controllers.cronjob_times import due, schedule_of, wait
from tests.support.cluster import Cluster, cluster

START = datetime(2026, 3, 2, 10, 0, 30, tzinfo=UTC)  # a Monday


def cron_job(schedule: str = "*/5 * * * *", **spec: Any) -> Object:
    pod = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "busybox:1"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": "tick",
            "namespace": "default",
            "creationTimestamp": meta.timestamp(START),
        },
        "spec": {
            "schedule": schedule,
            "jobTemplate": {"spec": {"template": {"spec": pod}}},
            **spec,
        },
    }


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "zone", "now", "expected"),
    [
        ("*/5 * * * *", None, "2026-03-02T10:04:59", None),
        ("*/5 * * * *", None, "2026-03-02T10:05:00", "2026-03-02T10:05:00"),
        ("*/5 * * * *", None, "2026-03-02T10:17:31", "2026-03-02T10:15:00"),
        ("@hourly", None, "2026-03-02T12:30:00", "2026-03-02T12:00:00"),
        ("@every 90s", None, "2026-03-02T10:04:00", "2026-03-02T10:03:30"),
        ("0 12 * * *", "Europe/Berlin", "2026-03-02T11:30:00", "2026-03-02T11:00:00"),
        ("0 12 * * *", "Europe/Berlin", "2026-07-02T11:30:00", "2026-07-02T10:00:00"),
        ("0 9 * * MON-FRI", None, "2026-03-08T12:00:00", "2026-03-06T09:00:00"),
        # Both days given: either will do. One of them a star: only the other counts.
        ("0 0 13 * FRI", None, "2026-03-07T00:00:00", "2026-03-06T00:00:00"),
        ("0 0 13 * *", None, "2026-03-14T00:00:00", "2026-03-13T00:00:00"),
        # Also a star with steps is a choice of days.
        ("0 0 */10 * FRI", None, "2026-03-07T00:00:00", "2026-03-06T00:00:00"),
        ("0 0 30 2 *", None, "2027-03-07T00:00:00", None),
        # The hour that spring takes away: right after it.
        ("30 2 * * *", "Europe/Berlin", "2026-03-29T01:30:00", "2026-03-29T01:00:00"),
    ],
)
def test_when_a_start_is_due(
    schedule: str, zone: str | None, now: str, expected: str | None
) -> None:
    obj = cron_job(schedule, **({"timeZone": zone} if zone else {}))
    found = due(obj, schedule_of(obj), at(now)).moment
    assert found == (at(expected) if expected else None)


def test_many_missed_starts_are_counted_and_only_the_last_is_made_good() -> None:
    obj = cron_job("* * * * *")
    found = due(obj, schedule_of(obj), START + timedelta(hours=5))
    assert found.missed == 300
    assert found.moment == at("2026-03-02T15:00:00")
    limited = cron_job("* * * * *", startingDeadlineSeconds=120)
    assert due(limited, schedule_of(limited), START + timedelta(hours=5)).missed == 2


@given(
    st.sampled_from(["* * * * *", "*/7 3-9 * * *", "15 */2 1,15 * *", "0 0 * * 1", "@every 7m"]),
    st.integers(0, 400 * 24 * 3600),
)
def test_a_start_is_never_in_the_future_and_always_one_of_the_schedule(
    schedule: str, seconds: int
) -> None:
    obj = cron_job(schedule)
    plan, now = schedule_of(obj), START + timedelta(seconds=seconds)
    found = due(obj, plan, now).moment
    if found is None:
        first = plan.after(START)
        assert first is not None
        assert first > now
        return
    assert START < found <= now
    following = plan.after(found)
    assert following is not None
    assert following > now
    again = wait(obj, plan, now)
    assert again is not None
    assert abs(now.timestamp() + again - 0.1 - following.timestamp()) < 1


class Shifted(SystemClock):
    """The machine's clock with an offset that a test moves."""

    offset = timedelta()

    def now(self) -> datetime:
        return super().now() + self.offset


def jobs(c: Cluster) -> list[str]:
    return sorted(meta.name(job) for job in c.list(kinds.JOB))


def status(c: Cluster) -> Object:
    return c.list(kinds.CRON_JOB)[0].get("status") or {}


async def poke(c: Cluster) -> None:
    """Any change makes it look."""
    text = meta.timestamp(c.clock.now()) + str(asyncio.get_running_loop().time())
    change = {"metadata": {"annotations": {"look": text}}}
    await c.change(kinds.CRON_JOB, "tick", change)


async def finish(c: Cluster, name: str, type: str = "Complete") -> None:
    stamp = meta.timestamp(c.clock.now())
    entry = {"type": type, "status": "True", "lastTransitionTime": stamp}
    ended: Object = {"conditions": [entry], "startTime": stamp}
    if type == "Complete":
        ended["completionTime"] = stamp
    job = await c.client.get(kinds.JOB, name, "default")
    await c.client.update(kinds.JOB, {**job, "status": ended}, subresource="status")


async def later(c: Cluster, clock: Shifted, minutes: int) -> None:
    clock.offset += timedelta(minutes=minutes)
    await poke(c)


async def test_a_job_is_made_at_each_time_and_old_ones_go(tmp_path: Path) -> None:
    clock = Shifted()
    async with cluster(tmp_path, [cronjob.CONTROLLER], clock=clock, kubelets=False) as c:
        await c.create(cron_job("* * * * *", successfulJobsHistoryLimit=1))
        made: set[str] = set()
        for _ in range(3):
            await later(c, clock, 1)
            new = await c.until(lambda m=frozenset(made): set(jobs(c)) - m)
            made |= new
            await c.until(lambda: status(c).get("active"))
            await finish(c, *new)
            await c.until(lambda: not status(c).get("active"))
        await c.until(lambda: len(jobs(c)) == 1)
        assert status(c)["lastSuccessfulTime"]
        owner = meta.controller_of(c.list(kinds.JOB)[0])
        assert owner is not None
        assert owner["kind"] == "CronJob"
        assert len(await c.events_of("SawCompletedJob")) >= 1


@pytest.mark.parametrize(("policy", "expected"), [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
async def test_what_happens_while_the_last_job_still_runs(
    tmp_path: Path, policy: str, expected: int
) -> None:
    clock = Shifted()
    async with cluster(tmp_path, [cronjob.CONTROLLER], clock=clock, kubelets=False) as c:
        await c.create(cron_job("* * * * *", concurrencyPolicy=policy))
        await later(c, clock, 1)
        first = await c.until(lambda: jobs(c) and status(c).get("active") and jobs(c))
        await later(c, clock, 1)
        if policy == "Forbid":
            await c.until(lambda: c.caches)
            await asyncio.sleep(0.3)
            assert jobs(c) == first
            assert await c.events_of("JobAlreadyActive")
            return
        await c.until(lambda: len(jobs(c)) == expected and jobs(c) != first)
        await c.until(lambda: len(status(c).get("active") or ()) == expected)


async def test_a_suspended_one_makes_none(tmp_path: Path) -> None:
    clock = Shifted()
    async with cluster(tmp_path, [cronjob.CONTROLLER], clock=clock, kubelets=False) as c:
        await c.create(cron_job("* * * * *", suspend=True))
        await later(c, clock, 5)
        await asyncio.sleep(0.3)
        assert jobs(c) == []


async def test_the_clock_that_jumps_back_makes_no_second_job(tmp_path: Path) -> None:
    clock = Shifted()
    async with cluster(tmp_path, [cronjob.CONTROLLER], clock=clock, kubelets=False) as c:
        await c.create(cron_job("0 * * * *"))
        await later(c, clock, 60)
        await c.until(lambda: len(jobs(c)) == 1 and status(c).get("lastScheduleTime"))
        await later(c, clock, -30)
        await later(c, clock, 30)
        await asyncio.sleep(0.3)
        assert len(jobs(c)) == 1


async def test_a_clock_that_jumps_a_day_ahead_makes_one_job_and_says_so(tmp_path: Path) -> None:
    clock = Shifted()
    async with cluster(tmp_path, [cronjob.CONTROLLER], clock=clock, kubelets=False) as c:
        await c.create(cron_job("* * * * *"))
        await later(c, clock, 24 * 60)
        await c.until(lambda: len(jobs(c)) == 1 and status(c).get("lastScheduleTime"))
        last = meta.parse_timestamp(status(c)["lastScheduleTime"])
        # The newest of the missed ones, not the first.
        assert clock.now() - last < timedelta(minutes=2)
        (event,) = await c.events_of("TooManyMissedTimes")
        assert event["message"].startswith("too many missed start times")
        # An hour back: nothing is due until the clock is past what was made.
        await later(c, clock, -60)
        await asyncio.sleep(0.3)
        assert len(jobs(c)) == 1
