"""ReplicaSets: the right number of pods, the least useful ones deleted first.

Source: the ReplicaSet API, and the deletion order in Kubernetes' "ReplicaSet" concept page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.selectors import LabelSelector, from_label_selector, from_labels
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods
from meshkube.control.controllers import pod_control
from meshkube.control.controllers.pod_control import BURST
from meshkube.control.loop import Context, Controller
from meshkube.control.ownership import claim, controller_key, settle

REST = 4.0
"""One look then counts all the pods that became ready meanwhile, and is one write."""
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


def selector_of(kind: Kind, replica_set: Object) -> LabelSelector:
    """Which pods it may own. The core group is older than label selectors: a
    ReplicationController has plain labels."""
    selector = replica_set["spec"].get("selector") or {}
    return from_label_selector(selector) if kind.group else from_labels(selector)


async def _reconcile(kind: Kind, context: Context, key: str) -> float | None:
    replica_set = context.caches.of(kind).get(key)
    if replica_set is None:
        return None
    cache = context.caches.of(kinds.POD)
    # Its own, and those nobody controls: what it may adopt.
    candidates = [
        *cache.by_index(indexes.CONTROLLER, meta.uid(replica_set)),
        *cache.by_index(indexes.UNCONTROLLED, meta.namespace(replica_set)),
    ]
    candidates = [pod for pod in candidates if not pods.finished(pod)]
    claimed = claim(replica_set, selector_of(kind, replica_set).matches, candidates)
    owned = await settle(context.client, kind, replica_set, kinds.POD, claimed)
    now = context.clock.now()
    error: ApiError | None = None
    if not meta.deleting(replica_set):
        todo = plan(replica_set, owned, now)
        template = replica_set["spec"].get("template") or {}
        new = [pod_control.pod_of(kind, replica_set, template) for _ in range(todo.create)]
        error = await pod_control.create_all(context, replica_set, new)
        if error is not None and pod_control.terminating(error):
            # The ReplicaSet itself is about to go.
            error = None
        error = await pod_control.delete_all(context, replica_set, todo.delete) or error
    wait = await _write_status(kind, context, replica_set, owned, now, error)
    if error is not None:
        raise error
    return wait


async def _write_status(
    kind: Kind,
    context: Context,
    replica_set: Object,
    owned: Sequence[Object],
    now: datetime,
    error: ApiError | None,
) -> float | None:
    wanted, wait = status(replica_set, owned, now, error.message if error else "")
    if wanted != replica_set.get("status"):
        changed = {**replica_set, "status": wanted}
        await context.client.update(kind, changed, subresource="status")
    return wait


def _of_pod(kind: Kind, caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    keys = {*controller_key(old, kind), *controller_key(new, kind)}
    if new is not None and meta.controller_of(new) is None and not meta.deleting(new):
        # An orphan: whoever selects it may adopt it.
        for replica_set in caches.of(kind).list(meta.namespace(new)):
            if selector_of(kind, replica_set).matches(meta.labels(new)):
                keys.add(meta.key(replica_set))
    return keys


def controller(kind: Kind, name: str, component: str = "") -> Controller:
    """One that keeps a number of pods for each object of `kind`."""
    return Controller(
        name=name,
        kind=kind,
        watches={kinds.POD: partial(_of_pod, kind)},
        reconcile=partial(_reconcile, kind),
        rest=REST,
        component=component,
    )


CONTROLLER = controller(kinds.REPLICA_SET, "replicaset")
