"""ReplicaSets: the right number of pods, the least useful ones deleted first.

Source: the ReplicaSet API, and the deletion order in Kubernetes' "ReplicaSet" concept page.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import claim, controller_key, settle

BURST = 500
"""Pods made or deleted for one ReplicaSet in one go."""
LARGEST_BATCH = 64
"""Requests at once."""
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Plan:
    """How many pods to make, or which to delete."""

    create: int = 0
    delete: Sequence[Object] = ()


def plan(replica_set: Object, owned: Sequence[Object], now: datetime) -> Plan:
    """What brings the pods it owns to `spec.replicas`."""
    living = [pod for pod in owned if pods.active(pod)]
    missing = desired(replica_set) - len(living)
    if missing >= 0:
        return Plan(create=min(missing, BURST))
    return Plan(delete=victims(living, min(-missing, BURST), now))


def desired(replica_set: Object) -> int:
    replicas = replica_set["spec"].get("replicas")
    return 1 if replicas is None else int(replicas)


def victims(living: Sequence[Object], count: int, now: datetime) -> list[Object]:
    """The `count` pods that are missed least, in Kubernetes' order."""
    if count >= len(living):
        return list(living)
    on_node = Counter(pods.node_name(pod) for pod in living if pods.node_name(pod))

    def rank(pod: Object) -> tuple[Any, ...]:
        ready = pods.ready(pod)
        since = pods.ready_since(pod)
        return (
            bool(pods.node_name(pod)),
            _PHASES.get(pods.phase(pod), 1),
            ready,
            _cost(pod),
            -on_node[pods.node_name(pod)],
            _age_bucket(since, now),
            -pods.restarts(pod),
            _age_bucket(_created(pod), now),
            meta.uid(pod),
        )

    return sorted(living, key=rank)[:count]


def _cost(pod: Object) -> int:
    try:
        return int(meta.annotations(pod).get(DELETION_COST) or 0)
    except ValueError:
        return 0


def _created(pod: Object) -> datetime | None:
    text = pods.created(pod)
    return meta.parse_timestamp(text) if text else None


def _age_bucket(since: datetime | None, now: datetime) -> int:
    """Younger is smaller, and so goes first; ages of the same order of magnitude are equal."""
    if since is None:
        return -1
    return int(math.log2(max((now - since).total_seconds(), 0.0) + 1))


def new_pod(replica_set: Object) -> Object:
    """A pod of its template, owned by it."""
    template = replica_set["spec"].get("template") or {}
    described = template.get("metadata") or {}
    metadata: Object = {
        "generateName": meta.name(replica_set) + "-",
        "namespace": meta.namespace(replica_set),
        "ownerReferences": [meta.owner_reference(kinds.REPLICA_SET, replica_set)],
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


def status(
    replica_set: Object, owned: Iterable[Object], now: datetime, failure: str = ""
) -> tuple[Object, float | None]:
    """The status these pods make, and seconds until it changes by time alone. `failure` says why
    pods could not be made."""
    spec = replica_set["spec"]
    wanted = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
    minimum = int(spec.get("minReadySeconds") or 0)
    living = [pod for pod in owned if pods.active(pod)]
    waits = [pods.available_in(pod, minimum, now) for pod in living]
    counts = {
        "replicas": len(living),
        "fullyLabeledReplicas": sum(wanted.items() <= meta.labels(p).items() for p in living),
        "readyReplicas": sum(pods.ready(pod) for pod in living),
        "availableReplicas": sum(wait == 0 for wait in waits),
    }
    result: Object = {name: n for name, n in counts.items() if n or name == "replicas"}
    result["observedGeneration"] = meta.generation(replica_set)
    old = (replica_set.get("status") or {}).get("conditions") or ()
    conditions = [dict(entry) for entry in old if entry.get("type") != "ReplicaFailure"]
    if failure:
        entry = {
            "type": "ReplicaFailure",
            "status": "True",
            "reason": "FailedCreate",
            "message": failure,
            "lastTransitionTime": meta.timestamp(now),
        }
        before = pods.condition(replica_set, "ReplicaFailure")
        conditions.append(dict(before) if before else entry)
    if conditions:
        result["conditions"] = conditions
    return result, min((wait for wait in waits if wait), default=None)


async def reconcile(context: Context, key: str) -> float | None:
    replica_set = context.caches.of(kinds.REPLICA_SET).get(key)
    if replica_set is None:
        return None
    selector = from_label_selector(replica_set["spec"].get("selector") or {})
    cache = context.caches.of(kinds.POD)
    # Its own, and those nobody controls: what it may adopt.
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(replica_set)),
        *cache.by_index(indexes.UNCONTROLLED, meta.namespace(replica_set)),
    ]
    candidates = [pod for pod in candidates if not pods.finished(pod)]
    claimed = claim(replica_set, selector.matches, candidates)
    owned = await settle(context.client, kinds.REPLICA_SET, replica_set, kinds.POD, claimed)
    now = context.clock.now()
    error: ApiError | None = None
    if not meta.deleting(replica_set):
        todo = plan(replica_set, owned, now)
        error = await _create(context, replica_set, todo.create)
        if error is not None and _terminating(error):
            # The ReplicaSet itself is about to go.
            error = None
        error = await _delete(context, replica_set, todo.delete) or error
    wait = await _write_status(context, replica_set, owned, now, error)
    if error is not None:
        raise error
    return wait


async def _create(context: Context, replica_set: Object, count: int) -> ApiError | None:
    """Makes pods in batches of 1, 2, 4, ..., each at once: where all would fail, few do. The first
    error ends it."""
    batch = 1
    while count > 0:
        tries = [_create_one(context, replica_set) for _ in range(min(batch, count))]
        error = await _all(tries)
        if error is not None:
            return error
        count -= batch
        batch = min(batch * 2, LARGEST_BATCH)
    return None


async def _all(tries: Iterable[Coroutine[Any, Any, ApiError | None]]) -> ApiError | None:
    """Side by side; the first error there was, once all have ended."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one) for one in tries]
    return next((error for task in tasks if (error := task.result()) is not None), None)


async def _create_one(context: Context, replica_set: Object) -> ApiError | None:
    try:
        pod = await context.client.create(kinds.POD, new_pod(replica_set))
    except ApiError as error:
        if not _terminating(error):
            message = f"Error creating: {error.message}"
            context.events.event(replica_set, "Warning", "FailedCreate", message)
        return error
    made = f"Created pod: {meta.name(pod)}"
    context.events.event(replica_set, "Normal", "SuccessfulCreate", made)
    return None


def _terminating(error: ApiError) -> bool:
    return error.code == 403 and "being terminated" in error.message


async def _delete(
    context: Context, replica_set: Object, victims: Sequence[Object]
) -> ApiError | None:
    failed: ApiError | None = None
    for start in range(0, len(victims), LARGEST_BATCH):
        batch = victims[start : start + LARGEST_BATCH]
        failed = await _all(_delete_one(context, replica_set, pod) for pod in batch) or failed
    return failed


async def _delete_one(context: Context, replica_set: Object, pod: Object) -> ApiError | None:
    try:
        await context.client.delete(
            kinds.POD, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod)
        )
    except ApiError as error:
        if error.code == 404:
            return None
        message = f"Error deleting: {error.message}"
        context.events.event(replica_set, "Warning", "FailedDelete", message)
        return error
    context.events.event(
        replica_set, "Normal", "SuccessfulDelete", f"Deleted pod: {meta.name(pod)}"
    )
    return None


async def _write_status(
    context: Context,
    replica_set: Object,
    owned: Sequence[Object],
    now: datetime,
    error: ApiError | None,
) -> float | None:
    wanted, wait = status(replica_set, owned, now, error.message if error else "")
    if wanted != replica_set.get("status"):
        changed = {**replica_set, "status": wanted}
        await context.client.update(kinds.REPLICA_SET, changed, subresource="status")
    return wait


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    keys = {*controller_key(old, kinds.REPLICA_SET), *controller_key(new, kinds.REPLICA_SET)}
    if new is not None and meta.controller_of(new) is None and not meta.deleting(new):
        # An orphan: whoever selects it may adopt it.
        for replica_set in caches.of(kinds.REPLICA_SET).list(meta.namespace(new)):
            selector = from_label_selector(replica_set["spec"].get("selector") or {})
            if selector.matches(meta.labels(new)):
                keys.add(meta.key(replica_set))
    return keys


CONTROLLER = Controller(
    name="replicaset",
    kind=kinds.REPLICA_SET,
    watches={kinds.POD: _of_pod},
    reconcile=reconcile,
)
