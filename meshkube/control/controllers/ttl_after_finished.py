"""Jobs that have ended go after their `ttlSecondsAfterFinished`."""

from __future__ import annotations

from datetime import datetime, timedelta

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.controllers.job_end import true
from meshkube.control.loop import Context, Controller


def expires(job: Object) -> datetime | None:
    """When it may go; None while it has not ended, or is to stay."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    ended = true(job, "Complete") or true(job, "Failed")
    if seconds is None or ended is None or not ended.get("lastTransitionTime"):
        return None
    return meta.parse_timestamp(ended["lastTransitionTime"]) + timedelta(seconds=int(seconds))


async def reconcile(context: Context, key: str) -> float | None:
    job = context.caches.of(kinds.JOB).get(key)
    moment = expires(job) if job is not None and not meta.deleting(job) else None
    if job is None or moment is None:
        return None
    left = (moment - context.clock.now()).total_seconds()
    if left > 0:
        return left
    try:
        await context.client.delete(
            kinds.JOB,
            meta.name(job),
            meta.namespace(job),
            propagation="Foreground",
            uid=meta.uid(job),
            resource_version=meta.resource_version(job),
        )
    except ApiError as error:
        if error.code != 404:
            raise
    return None


CONTROLLER = Controller(
    name="ttl-after-finished",
    kind=kinds.JOB,
    component="ttl-after-finished-controller",
    reconcile=reconcile,
)
