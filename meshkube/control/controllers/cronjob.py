"""CronJobs: a Job at each time of a schedule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from email.utils import format_datetime

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.schedules import time_zone
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes
from meshkube.control.controllers import cronjob_times as times
from meshkube.control.controllers.cronjob_times import Schedule
from meshkube.control.controllers.job_end import true
from meshkube.control.controllers.job_plan import finished
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import controller_key
from meshkube.control.told import told

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


async def reconcile(context: Context, key: str) -> float | None:
    cron_job = context.caches.of(kinds.CRON_JOB).get(key)
    if cron_job is None:
        return None
    jobs = context.caches.of(kinds.JOB).by_index(indexes.CONTROLLER, meta.uid(cron_job))
    cron_job = await _observe(context, cron_job, jobs)
    await _clean(context, cron_job, jobs)
    if meta.deleting(cron_job) or cron_job["spec"].get("suspend"):
        return None
    try:
        schedule = times.schedule_of(cron_job)
    except ValueError as error:
        text = cron_job["spec"].get("schedule")
        message = f'unparseable schedule: "{text}" : {error}'
        context.events.event(cron_job, "Warning", "UnparseableSchedule", message)
        return None
    await _start(context, cron_job, schedule)
    return times.wait(cron_job, schedule, context.clock.now())


def new_status(cron_job: Object, jobs: Sequence[Object], gone: Iterable[str]) -> Object:
    """The status without Jobs that have ended or are `gone` (uids), and the last success."""
    status = meta.copy(cron_job.get("status") or {})
    ended = {meta.uid(job) for job in jobs if finished(job)} | set(gone)
    active = [ref for ref in status.get("active") or () if ref.get("uid") not in ended]
    status.pop("active", None)
    if active:
        status["active"] = active
    done = [
        job["status"]["completionTime"]
        for job in jobs
        if true(job, "Complete") is not None and job["status"].get("completionTime")
    ]
    latest = max((*done, status.get("lastSuccessfulTime") or ""), default="")
    if latest:
        status["lastSuccessfulTime"] = latest
    return status


async def _observe(context: Context, cron_job: Object, jobs: Sequence[Object]) -> Object:
    """The CronJob with what has become of its Jobs, stored."""
    active = {ref.get("uid"): ref for ref in (cron_job.get("status") or {}).get("active") or ()}
    for job in jobs:
        name = meta.name(job)
        if finished(job) and meta.uid(job) in active:
            how = "Complete" if true(job, "Complete") else "Failed"
            message = f"Saw completed job: {name}, condition: {how}"
            context.events.event(cron_job, "Normal", "SawCompletedJob", message)
        elif not finished(job) and meta.uid(job) not in active:
            message = f"Saw a job that the controller did not create or forgot: {name}"
            context.events.event(cron_job, "Warning", "UnexpectedJob", message)
    known = {meta.uid(job) for job in jobs}
    gone = []
    for uid, ref in active.items():
        if uid not in known and await _absent(context, cron_job, ref):
            message = f"Active job went missing: {ref.get('name')}"
            context.events.event(cron_job, "Normal", "MissingJob", message)
            gone.append(str(uid))
    return await _write_status(context, cron_job, new_status(cron_job, jobs, gone))


async def _absent(context: Context, cron_job: Object, ref: Object) -> bool:
    try:
        found = await context.client.get(kinds.JOB, str(ref["name"]), meta.namespace(cron_job))
    except ApiError as error:
        if error.code == 404:
            return True
        raise
    return meta.uid(found) != ref.get("uid")


async def _write_status(context: Context, cron_job: Object, status: Object) -> Object:
    if status == (cron_job.get("status") or {}):
        return cron_job
    changed = {**cron_job, "status": status}
    return await context.client.update(kinds.CRON_JOB, changed, subresource="status")


def surplus(cron_job: Object, jobs: Sequence[Object]) -> list[Object]:
    """The oldest Jobs that have ended, beyond what the history limits keep."""
    found = []
    for type, field in (
        ("Complete", "successfulJobsHistoryLimit"),
        ("Failed", "failedJobsHistoryLimit"),
    ):
        limit = cron_job["spec"].get(field)
        if limit is None:
            continue
        ended = [job for job in jobs if true(job, type) is not None and not meta.deleting(job)]
        ended.sort(key=lambda job: (job["status"].get("startTime") or "", meta.name(job)))
        found += ended[: max(len(ended) - int(limit), 0)]
    return found


async def _clean(context: Context, cron_job: Object, jobs: Sequence[Object]) -> None:
    for job in surplus(cron_job, jobs):
        await _delete(context, cron_job, meta.name(job), meta.uid(job))


async def _delete(context: Context, cron_job: Object, name: str, uid: str) -> None:
    try:
        await context.client.delete(
            kinds.JOB, name, meta.namespace(cron_job), propagation="Background", uid=uid
        )
    except ApiError as error:
        if error.code == 404:
            return
        message = f"Deleted job: {error.message}"
        context.events.event(cron_job, "Warning", "FailedDelete", message)
        raise told(error) from error
    context.events.event(cron_job, "Normal", "SuccessfulDelete", f"Deleted job {name}")


async def _start(context: Context, cron_job: Object, schedule: Schedule) -> None:
    """Makes the Job that is due, unless the CronJob's policies say otherwise."""
    now = context.clock.now()
    found = times.due(cron_job, schedule, now)
    if found.moment is None:
        return
    if found.missed > times.MANY:
        message = (
            f"too many missed start times: {found.missed}. Set or decrease"
            " .spec.startingDeadlineSeconds or check clock skew"
        )
        context.events.event(cron_job, "Warning", "TooManyMissedTimes", message)
    job = new_job(cron_job, found.moment)
    active = (cron_job.get("status") or {}).get("active") or []
    if any(ref.get("name") == meta.name(job) for ref in active):
        return
    if too_late(cron_job, found.moment, now):
        moment = format_datetime(found.moment)
        message = f"Missed scheduled time to start a job: {moment}"
        context.events.event(cron_job, "Warning", "MissSchedule", message)
        return
    policy = cron_job["spec"].get("concurrencyPolicy")
    if policy == "Forbid" and active:
        message = (
            "Not starting job because prior execution is running and concurrency policy is Forbid"
        )
        context.events.event(cron_job, "Normal", "JobAlreadyActive", message)
        return
    if policy == "Replace":
        for ref in active:
            await _delete(context, cron_job, str(ref.get("name")), str(ref.get("uid") or ""))
        active = []
    made = await _create(context, cron_job, job)
    if made is not None:
        await _note(context, cron_job, made, active, found.moment)


def too_late(cron_job: Object, moment: datetime, now: datetime) -> bool:
    seconds = cron_job["spec"].get("startingDeadlineSeconds")
    return seconds is not None and (now - moment).total_seconds() > int(seconds)


def new_job(cron_job: Object, moment: datetime) -> Object:
    """The Job of that time. Its name comes of the time, so that it is made once."""
    spec = cron_job["spec"]
    template = spec.get("jobTemplate") or {}
    described = template.get("metadata") or {}
    local = moment.astimezone(time_zone(spec.get("timeZone") or "UTC"))
    stamp = local.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": kinds.JOB.api_version,
        "kind": kinds.JOB.kind,
        "metadata": {
            "name": f"{meta.name(cron_job)}-{int(moment.timestamp()) // 60}",
            "namespace": meta.namespace(cron_job),
            "labels": dict(described.get("labels") or {}),
            "annotations": {**(described.get("annotations") or {}), SCHEDULED: stamp},
            "ownerReferences": [meta.owner_reference(kinds.CRON_JOB, cron_job)],
        },
        "spec": meta.copy(template.get("spec") or {}),
    }


async def _create(context: Context, cron_job: Object, job: Object) -> Object | None:
    """None where the name belongs to somebody else's Job."""
    try:
        made = await context.client.create(kinds.JOB, job)
    except ApiError as error:
        if error.code != 409:
            message = f"Error creating job: {error.message}"
            context.events.event(cron_job, "Warning", "FailedCreate", message)
            raise told(error) from error
        there = await context.client.get(kinds.JOB, meta.name(job), meta.namespace(job))
        owner = meta.controller_of(there)
        ours = owner is not None and owner.get("uid") == meta.uid(cron_job)
        # Made before, and not noted: that is done now. One that has ended is noted as the last.
        return there if ours else None
    message = f"Created job {meta.name(made)}"
    context.events.event(cron_job, "Normal", "SuccessfulCreate", message)
    return made


async def _note(
    context: Context, cron_job: Object, job: Object, active: Sequence[Object], moment: datetime
) -> None:
    status = meta.copy(cron_job.get("status") or {})
    status["lastScheduleTime"] = meta.timestamp(moment)
    listed = list(active)
    if not finished(job):
        listed.append(
            {
                "kind": kinds.JOB.kind,
                "apiVersion": kinds.JOB.api_version,
                "namespace": meta.namespace(job),
                "name": meta.name(job),
                "uid": meta.uid(job),
                "resourceVersion": meta.resource_version(job),
            }
        )
    status.pop("active", None)
    if listed:
        status["active"] = listed
    await _write_status(context, cron_job, status)


def _of_job(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    return {*controller_key(old, kinds.CRON_JOB), *controller_key(new, kinds.CRON_JOB)}


CONTROLLER = Controller(
    name="cronjob",
    kind=kinds.CRON_JOB,
    watches={kinds.JOB: _of_job},
    reconcile=reconcile,
)
