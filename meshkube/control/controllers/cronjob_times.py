"""When a CronJob is due. Pure.

Source: the CronJob concept page, "Deadline for delayed Job start" and "Job creation".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from cronsim import CronSim, CronSimError

from meshkube.api import meta
from meshkube.api.schedules import Times, parse, time_zone
from meshkube.api.types import Object

MANY = 100
"""Missed starts that are told of."""


class Schedule(Protocol):
    """Moments, one after the other."""

    def after(self, moment: datetime) -> datetime | None:
        """The first one later than that; None where there is none in reach."""
        ...

    def last(self, start: datetime, now: datetime) -> datetime | None:
        """The latest one after `start` and not after `now`."""
        ...


@dataclass(frozen=True, slots=True)
class Every:
    """One each interval, from when it began."""

    interval: timedelta

    def after(self, moment: datetime) -> datetime | None:
        return moment.replace(microsecond=0) + self.interval

    def last(self, start: datetime, now: datetime) -> datetime | None:
        passed = (now - start.replace(microsecond=0)) // self.interval
        return start.replace(microsecond=0) + passed * self.interval if passed >= 1 else None


@dataclass(frozen=True, slots=True)
class Calendar:
    """By the calendar and the clock of a place."""

    times: Times
    place: Any

    def after(self, moment: datetime) -> datetime | None:
        return self._one(moment, reverse=False)

    def last(self, start: datetime, now: datetime) -> datetime | None:
        # Backwards, the moment itself does not count.
        found = self._one(now.replace(microsecond=0) + timedelta(seconds=1), reverse=True)
        return found if found is not None and found > start else None

    def _one(self, moment: datetime, reverse: bool) -> datetime | None:
        local = moment.astimezone(self.place)
        try:
            return next(CronSim(self.times.expression, local, reverse)).astimezone(UTC)
        except (CronSimError, StopIteration):
            return None


def schedule_of(cron_job: Object) -> Schedule:
    """Raises `ValueError`."""
    spec = cron_job["spec"]
    times = parse(spec.get("schedule") or "")
    if isinstance(times, timedelta):
        return Every(times)
    return Calendar(times, time_zone(spec.get("timeZone") or "UTC"))


@dataclass(frozen=True, slots=True)
class Due:
    """The start that is due, if any; `missed` counts all since the last one, roughly."""

    moment: datetime | None
    missed: int = 0


def due(cron_job: Object, schedule: Schedule, now: datetime) -> Due:
    """The latest start that has not been made. `startingDeadlineSeconds` forgets older ones."""
    start = _since(cron_job)
    seconds = cron_job["spec"].get("startingDeadlineSeconds")
    if seconds is not None:
        start = max(start, now - timedelta(seconds=int(seconds)))
    moment = schedule.last(start, now)
    if moment is None:
        return Due(None)
    first = schedule.after(start)
    second = schedule.after(first) if first is not None else None
    if first is None or second is None or second > now:
        return Due(moment, 1)
    return Due(moment, int((now - first) / (second - first)) + 1)


def _since(cron_job: Object) -> datetime:
    last = (cron_job.get("status") or {}).get("lastScheduleTime")
    return meta.parse_timestamp(last or str(meta.metadata(cron_job)["creationTimestamp"]))


def wait(cron_job: Object, schedule: Schedule, now: datetime) -> float | None:
    """Seconds until the next start."""
    since = _since(cron_job)
    following = schedule.after(schedule.last(since, now) or since)
    return (following - now).total_seconds() + 0.1 if following is not None else None
