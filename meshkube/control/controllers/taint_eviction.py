"""NoExecute taints: pods that do not tolerate one leave its node, some after a while.

Source: the "Taints and Tolerations" concept page.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.loop import Context, Controller
from meshkube.control.scheduler.filters import tolerates


def leaves_in(pod: Object, taints: Iterable[Object], now: datetime) -> float | None:
    """Seconds until the pod has to leave (0: now); None where it may stay."""
    waits = [_leaves_for(pod, taint, now) for taint in taints]
    return min((wait for wait in waits if wait is not None), default=None)


def _leaves_for(pod: Object, taint: Object, now: datetime) -> float | None:
    tolerations = (pod.get("spec") or {}).get("tolerations") or ()
    matching = [one for one in tolerations if tolerates([one], taint)]
    if not matching:
        return 0.0
    seconds = [one.get("tolerationSeconds") for one in matching]
    limits = [max(0, int(limit)) for limit in seconds if limit is not None]
    if not limits:
        return None
    since = meta.parse_timestamp(taint["timeAdded"]) if taint.get("timeAdded") else now
    return max(0.0, min(limits) - (now - since).total_seconds())


def no_execute(node: dict[str, Any]) -> list[Object]:
    taints = (node.get("spec") or {}).get("taints") or ()
    return [taint for taint in taints if taint.get("effect") == "NoExecute"]


async def reconcile(context: Context, key: str) -> float | None:
    node = context.caches.of(kinds.NODE).get(key)
    taints = no_execute(node) if node else []
    if not taints:
        return None
    now = context.clock.now()
    waits = []
    for pod in context.caches.of(kinds.POD).by_index(indexes.NODE, key):
        if meta.deleting(pod) or pods.finished(pod):
            continue
        wait = leaves_in(pod, taints, now)
        if wait == 0:
            await _evict(context, pod)
        elif wait is not None:
            waits.append(wait)
    return min(waits, default=None)


async def _evict(context: Context, pod: Object) -> None:
    message = f"Marking for deletion Pod {meta.key(pod)}"
    context.events.event(pod, "Normal", "TaintManagerEviction", message)
    why = "Taint manager: deleting due to NoExecute taint"
    condition = pods.disruption("DeletionByTaintManager", why, context.clock.now())
    body = {"metadata": {"uid": meta.uid(pod)}, "status": {"conditions": [condition]}}
    try:
        await context.client.patch(
            kinds.POD, meta.name(pod), body, meta.namespace(pod),
            type="strategic", subresource="status",
        )  # fmt: skip
        await context.client.delete(
            kinds.POD, meta.name(pod), meta.namespace(pod), uid=meta.uid(pod)
        )
    except ApiError as error:
        if error.code not in (404, 409):
            # Where it is gone, there may be another one of its name.
            raise


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    if new is None or (old is not None and pods.node_name(old) == pods.node_name(new)):
        return ()
    node = caches.of(kinds.NODE).get(pods.node_name(new))
    return (meta.name(node),) if node is not None and no_execute(node) else ()


CONTROLLER = Controller(
    name="taint-eviction",
    kind=kinds.NODE,
    watches={kinds.POD: _of_pod},
    component="taint-eviction-controller",
    reconcile=reconcile,
)
