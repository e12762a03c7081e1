"""PodDisruptionBudgets: how many pods may go, counted from those that are there.

Source: the Kubernetes documents, "Disruptions" and "Specifying a Disruption Budget".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.intstr import scaled
from meshkube.api.kinds import Kind
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import pods
from meshkube.control.loop import Context, Controller

PATIENCE: Final = timedelta(minutes=2)
"""How long an evicted pod that is still there counts as going."""
_SCALED: Final[dict[str, Kind]] = {
    kind.kind: kind
    for kind in (kinds.REPLICA_SET, kinds.STATEFUL_SET, kinds.REPLICATION_CONTROLLER)
}


@dataclass(frozen=True, slots=True)
class Count:
    """`status` fields of a budget: pods that are wanted in all, must stay, and are healthy."""

    expected: int
    desired: int
    healthy: int

    @property
    def allowed(self) -> int:
        return max(0, self.healthy - self.desired) if self.expected > 0 else 0


def count(spec: Mapping[str, Any], pods_: int, healthy: int, scale: int) -> Count:
    """`scale`: how many pods those who control them want, where `needs_scale`."""
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    if most is not None:
        return Count(scale, max(0, scale - scaled(most, scale, round_up=True)), healthy)
    if isinstance(least, str):
        return Count(scale, scaled(least, scale, round_up=True), healthy)
    return Count(pods_, least if least is not None else 1, healthy)


def needs_scale(spec: Mapping[str, Any]) -> bool:
    """Whether a budget is about a part of what is wanted."""
    return spec.get("maxUnavailable") is not None or isinstance(spec.get("minAvailable"), str)


def going(status: Mapping[str, Any], found: Iterable[Object], now: datetime) -> dict[str, str]:
    """The evicted pods that are still expected to go."""
    names = {meta.name(pod) for pod in found if not meta.deleting(pod)}
    return {
        name: since
        for name, since in (status.get("disruptedPods") or {}).items()
        if name in names and meta.parse_timestamp(since) + PATIENCE > now
    }


def new_status(budget: Object, counted: Count, evicted: dict[str, str], now: datetime) -> Object:
    """The whole status of a budget whose pods were counted."""
    enough = counted.allowed > 0
    reason = "SufficientPods" if enough else "InsufficientPods"
    status: Object = {
        "observedGeneration": meta.generation(budget),
        "disruptionsAllowed": counted.allowed,
        "currentHealthy": counted.healthy,
        "desiredHealthy": counted.desired,
        "expectedPods": counted.expected,
        "conditions": _conditions(budget, "True" if enough else "False", reason, "", now),
    }
    if evicted:
        status["disruptedPods"] = evicted
    return status


def failed_status(budget: Object, why: str, now: datetime) -> Object:
    """Nothing may go while nobody knows how many pods are wanted."""
    old = budget.get("status") or {}
    conditions = _conditions(budget, "False", "SyncFailed", why, now)
    return {**old, "disruptionsAllowed": 0, "conditions": conditions}


def _conditions(
    budget: Object, status: str, reason: str, message: str, now: datetime
) -> list[Object]:
    conditions = [dict(each) for each in (budget.get("status") or {}).get("conditions") or ()]
    entry = {
        "type": "DisruptionAllowed",
        "status": status,
        "observedGeneration": meta.generation(budget),
        "lastTransitionTime": meta.timestamp(now),
        "reason": reason,
        "message": message,
    }
    pods.set_condition(conditions, entry)
    return conditions


class _NoScale(Exception):
    """Nobody can say how many pods there should be."""


def _scale(caches: Informers, found: Iterable[Object]) -> int:
    """How many pods the controllers of these want together."""
    wanted: dict[str, int] = {}
    for pod in found:
        owner = meta.controller_of(pod)
        if owner is None or owner["uid"] in wanted:
            continue
        kind = _SCALED.get(str(owner.get("kind")))
        held = caches.of(kind).get(f"{meta.namespace(pod)}/{owner['name']}") if kind else None
        if held is None:
            raise _NoScale(f'found no controllers for pod "{meta.name(pod)}"')
        deployment = _deployment(caches, held)
        if deployment is not None:
            held = deployment
        wanted[meta.uid(held)] = int((held.get("spec") or {}).get("replicas", 1))
        # Its other pods, and those of the Deployment's other ReplicaSets, add nothing.
        wanted.setdefault(owner["uid"], 0)
    return sum(wanted.values())


def _deployment(caches: Informers, replica_set: Object) -> Object | None:
    owner = meta.controller_of(replica_set)
    if owner is None or owner.get("kind") != "Deployment":
        return None
    return caches.of(kinds.DEPLOYMENT).get(f"{meta.namespace(replica_set)}/{owner['name']}")


async def reconcile(context: Context, key: str) -> float | None:
    budget = context.caches.of(kinds.POD_DISRUPTION_BUDGET).get(key)
    if budget is None or meta.deleting(budget):
        return None
    now, found = context.clock.now(), _covered(context.caches, budget)
    evicted = going(budget.get("status") or {}, found, now)
    healthy = sum(
        1
        for pod in found
        if not meta.deleting(pod) and meta.name(pod) not in evicted and pods.ready(pod)
    )
    try:
        spec = budget.get("spec") or {}
        scale = _scale(context.caches, found) if needs_scale(spec) else 0
        counted = count(spec, len(found), healthy, scale)
        status = new_status(budget, counted, evicted, now)
    except _NoScale as error:
        status = failed_status(budget, str(error), now)
    if status != budget.get("status"):
        try:
            await context.client.update(
                kinds.POD_DISRUPTION_BUDGET, {**budget, "status": status}, subresource="status"
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return 0.1  # an eviction was faster: count again
    return PATIENCE.total_seconds() if evicted else None


def _covered(caches: Informers, budget: Object) -> list[Object]:
    selector = (budget.get("spec") or {}).get("selector")
    if selector is None:
        return []
    chosen = from_label_selector(selector)
    inside = caches.of(kinds.POD).list(meta.namespace(budget))
    return [pod for pod in inside if chosen.matches(meta.labels(pod))]


def _budgets_of(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """The budgets that count a pod, or did before its labels changed."""
    for pod in (old, new):
        if pod is None:
            continue
        for budget in caches.of(kinds.POD_DISRUPTION_BUDGET).list(meta.namespace(pod)):
            selector = (budget.get("spec") or {}).get("selector")
            if selector is not None and from_label_selector(selector).matches(meta.labels(pod)):
                yield meta.key(budget)


def _all_of(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """What controls pods was scaled: every budget of its namespace looks again."""
    before, after = ((obj or {}).get("spec") or {} for obj in (old, new))
    if before.get("replicas") != after.get("replicas"):
        space = meta.namespace(new or old or {})
        for budget in caches.of(kinds.POD_DISRUPTION_BUDGET).list(space):
            yield meta.key(budget)


CONTROLLER = Controller(
    name="disruption",
    kind=kinds.POD_DISRUPTION_BUDGET,
    watches={
        kinds.POD: _budgets_of,
        kinds.DEPLOYMENT: _all_of,
        **dict.fromkeys(_SCALED.values(), _all_of),
    },
    component="disruption-controller",
    reconcile=reconcile,
)
