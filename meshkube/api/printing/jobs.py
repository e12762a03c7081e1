"""Jobs and CronJobs: what has completed, and when it is done again."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.meta import parse_timestamp
from meshkube.api.printing.ages import age, human_duration, since
from meshkube.api.printing.columns import AGE, NAME, NONE, UNSET, Column, Printer
from meshkube.api.printing.workloads import TEMPLATE, template_cells
from meshkube.api.types import Object

_JOB = (
    NAME,
    Column("Status", "Whether it runs, or how it ended."),
    Column("Completions", "Pods that have succeeded, of those wanted."),
    Column("Duration", "The time it took, or has taken until now."),
    AGE,
    *TEMPLATE,
)
# The first of these that holds says how a Job stands.
_STATES = ("Complete", "Failed", "Terminating", "Suspended", "FailureTarget")


def _job(job: Object, now: datetime) -> list[Any]:
    return [
        meta.name(job),
        _status(job),
        _completions(job),
        _duration(job.get("status") or {}, now),
        age(job, now),
        *template_cells(job.get("spec") or {}),
    ]


def _status(job: Object) -> str:
    entries = (job.get("status") or {}).get("conditions") or ()
    true = {entry.get("type") for entry in entries if entry.get("status") == "True"}
    if meta.deleting(job):
        true.add("Terminating")
    return next((name for name in _STATES if name in true), "Running")


def _completions(job: Object) -> str:
    spec, status = job.get("spec") or {}, job.get("status") or {}
    succeeded, parallelism = status.get("succeeded") or 0, spec.get("parallelism") or 0
    if spec.get("completions") is not None:
        return f"{succeeded}/{spec['completions']}"
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(status: Object, now: datetime) -> str:
    start, end = status.get("startTime"), status.get("completionTime")
    if not start:
        return ""
    ended = parse_timestamp(end) if end else now
    return human_duration((ended - parse_timestamp(start)).total_seconds())


_CRON_JOB = (
    NAME,
    Column("Schedule", "When it makes a Job."),
    Column("Timezone", "Where its schedule counts; without one, where the control plane does."),
    Column("Suspend", "Whether it is held back.", type="boolean"),
    Column("Active", "Jobs that run.", type="integer"),
    Column("Last Schedule", "The time since it last made a Job."),
    AGE,
    *TEMPLATE,
)


def _cron_job(cron_job: Object, now: datetime) -> list[Any]:
    spec, status = cron_job.get("spec") or {}, cron_job.get("status") or {}
    last, suspend = status.get("lastScheduleTime"), spec.get("suspend")
    return [
        meta.name(cron_job),
        spec.get("schedule") or "",
        NONE if spec.get("timeZone") is None else spec["timeZone"],
        UNSET if suspend is None else "True" if suspend else "False",
        len(status.get("active") or ()),
        since(last, now) if last else NONE,
        age(cron_job, now),
        *template_cells((spec.get("jobTemplate") or {}).get("spec") or {}),
    ]


PRINTERS = {
    kinds.JOB: Printer(_JOB, _job),
    kinds.CRON_JOB: Printer(_CRON_JOB, _cron_job),
}
