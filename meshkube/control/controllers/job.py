"""Jobs: pods that are to end, counted exactly."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes
from meshkube.control.controllers import job_pods, pod_control
from meshkube.control.controllers.job_plan import Plan, plan
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import claim, controller_key, settle

MANAGER = "kubernetes.io/job-controller"
LARGEST_BATCH = 64


async def reconcile(context: Context, key: str) -> float | None:
    job = context.caches.of(kinds.JOB).get(key)
    if job is None:
        await _free(context, _orphans(context, key))
        return None
    if job["spec"].get("managedBy") not in (None, MANAGER):
        return None
    owned = await _owned(context, job)
    todo = plan(job, owned, context.clock.now())
    error = await pod_control.create_all(context, job, todo.create)
    if error is not None and pod_control.terminating(error):
        error = None
    error = await pod_control.delete_all(context, job, todo.delete) or error
    if error is not None:
        _correct(todo)
    await _free(context, todo.free)
    await _write_status(context, job, todo)
    if error is not None:
        raise error
    return todo.wait


def _correct(todo: Plan) -> None:
    """Not all pods were made or deleted: the next look says how many there are."""
    active = int(todo.status.get("active") or 0) - len(todo.create)
    todo.status.pop("active", None)
    if active > 0:
        todo.status["active"] = active


def _orphans(context: Context, key: str) -> list[Object]:
    """Pods that a Job which is no more still holds."""
    space, _ = meta.split_key(key)
    return [
        pod
        for pod in context.caches.of(kinds.POD).list(space)
        if job_pods.tracked(pod) and key in controller_key(pod, kinds.JOB)
    ]


async def _owned(context: Context, job: Object) -> list[Object]:
    selector = from_label_selector(job["spec"].get("selector") or {})
    cache = context.caches.of(kinds.POD)
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(job)),
        *cache.by_index(indexes.UNCONTROLLED, meta.namespace(job)),
    ]
    claimed = claim(job, selector.matches, candidates)
    claimed.adopt = [job_pods.held(pod) for pod in claimed.adopt]
    claimed.release = [job_pods.freed(pod) for pod in claimed.release]
    return await settle(context.client, kinds.JOB, job, kinds.POD, claimed)


async def _free(context: Context, held: Sequence[Object]) -> None:
    for start in range(0, len(held), LARGEST_BATCH):
        async with asyncio.TaskGroup() as group:
            for pod in held[start : start + LARGEST_BATCH]:
                group.create_task(_free_one(context, pod))


async def _free_one(context: Context, pod: Object) -> None:
    try:
        await context.client.update(kinds.POD, job_pods.freed(pod))
    except ApiError as error:
        # On a conflict the cache will wake the Job again, with what the pod is by then.
        if error.code not in (404, 409):
            raise


async def _write_status(context: Context, job: Object, todo: Plan) -> None:
    if todo.status != job.get("status"):
        changed = {**job, "status": todo.status}
        await context.client.update(kinds.JOB, changed, subresource="status")
    for reason, message in todo.events:
        context.events.event(job, "Warning" if todo.failed else "Normal", reason, message)


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    keys = {*controller_key(old, kinds.JOB), *controller_key(new, kinds.JOB)}
    if new is not None and meta.controller_of(new) is None and not meta.deleting(new):
        for job in caches.of(kinds.JOB).list(meta.namespace(new)):
            selector = from_label_selector(job["spec"].get("selector") or {})
            if selector.matches(meta.labels(new)):
                keys.add(meta.key(job))
    return keys


def _all(caches: Informers) -> Iterable[str]:
    """Also Jobs that are gone and still hold pods."""
    held = (pod for pod in caches.of(kinds.POD).list() if job_pods.tracked(pod))
    return {key for pod in held for key in controller_key(pod, kinds.JOB)}


CONTROLLER = Controller(
    name="job",
    kind=kinds.JOB,
    keys=_all,
    watches={kinds.POD: _of_pod},
    reconcile=reconcile,
)
