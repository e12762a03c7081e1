"""Making and deleting the pods of a controller: side by side, with the Events people know."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.loop import Context
from meshkube.control.told import told

BURST = 500
"""Pods made or deleted for one object in one go."""
LARGEST_BATCH = 16
"""Requests at once: each is the better part of a millisecond in which nobody else has a turn."""


def pod_of(kind: Kind, owner: Object, template: Object) -> Object:
    """A pod of the template, owned by `owner`; its name is to be generated."""
    described = template.get("metadata") or {}
    metadata: Object = {
        "generateName": meta.name(owner) + "-",
        "namespace": meta.namespace(owner),
        "ownerReferences": [meta.owner_reference(kind, owner)],
    }
    for part in ("labels", "annotations", "finalizers"):
        if described.get(part):
            metadata[part] = meta.copy(described[part])
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": meta.copy(template.get("spec") or {}),
    }


async def create_all(context: Context, owner: Object, pods: Sequence[Object]) -> ApiError | None:
    """Makes pods in batches of 1, 2, 4, ..., each at once: where all would fail, few do. The first
    error ends it."""
    batch, start = 1, 0
    while start < len(pods):
        error = await _all(create_one(context, owner, pod) for pod in pods[start : start + batch])
        if error is not None:
            return error
        start += batch
        batch = min(batch * 2, LARGEST_BATCH)
    return None


async def delete_all(context: Context, owner: Object, victims: Sequence[Object]) -> ApiError | None:
    """Deletes them; the first error there was, once all have been tried."""
    failed: ApiError | None = None
    for start in range(0, len(victims), LARGEST_BATCH):
        batch = victims[start : start + LARGEST_BATCH]
        failed = await _all(_delete_one(context, owner, pod) for pod in batch) or failed
    return failed


async def _all(tries: Iterable[Coroutine[Any, Any, ApiError | None]]) -> ApiError | None:
    """Side by side; the first error there was, once all have ended."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in tries]
    return next((error for task in tasks if (error := task.result()) is not None), None)


async def create_one(context: Context, owner: Object, pod: Object) -> ApiError | None:
    """Makes one, and says so."""
    try:
        made = await context.client.create(kinds.POD, pod)
    except ApiError as error:
        if not terminating(error):
            message = f"Error creating: {error.message}"
            context.events.event(owner, "Warning", "FailedCreate", message)
        return told(error)
    message = f"Created pod: {meta.name(made)}"
    context.events.event(owner, "Normal", "SuccessfulCreate", message)
    return None


async def _delete_one(context: Context, owner: Object, pod: Object) -> ApiError | None:
    try:
        await context.client.delete(
            kinds.POD, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod)
        )
    except ApiError as error:
        if error.code == 404:
            return None
        message = f"Error deleting: {error.message}"
        context.events.event(owner, "Warning", "FailedDelete", message)
        return told(error)
    context.events.event(owner, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}")
    return None


def terminating(error: ApiError) -> bool:
    """True where the namespace is going: whatever wanted the pod is about to go, too."""
    return error.code == 403 and "being terminated" in error.message
