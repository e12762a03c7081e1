"""Evictions: a pod may go while the budgets of its namespace allow it. Pure.

Source: the Kubernetes documents, "API-initiated Eviction" and "Disruptions".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from meshkube.api import errors, kinds, meta
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.control import pods

_REFUSED: Final = "Cannot evict pod as it would violate the pod's disruption budget."
_MOST_DISRUPTED: Final = 2000


def budget_of(pod: Object, budgets: Iterable[Object]) -> Object | None:
    """The budget that has a say in whether this pod may go; None where none has. Raises `ApiError`
    500 where there are two."""
    if pods.phase(pod) in ("Succeeded", "Failed", "Pending") or meta.deleting(pod):
        return None
    found = [budget for budget in budgets if covers(budget, pod)]
    if len(found) > 1:
        raise errors.internal(
            "This pod has more than one PodDisruptionBudget, which the eviction subresource does"
            " not support."
        )
    if not found or (not pods.ready(pod) and _ignores_unready(found[0])):
        return None
    return found[0]


def covers(budget: Object, pod: Object) -> bool:
    """Whether the pod is one of those that the budget counts."""
    selector = (budget.get("spec") or {}).get("selector")
    if selector is None or meta.namespace(budget) != meta.namespace(pod):
        return False
    return from_label_selector(selector).matches(meta.labels(pod))


def _ignores_unready(budget: Object) -> bool:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    if spec.get("unhealthyPodEvictionPolicy") == "AlwaysAllow":
        return True
    desired = status.get("desiredHealthy") or 0
    return desired > 0 and (status.get("currentHealthy") or 0) >= desired


def spent(budget: Object, pod: Object, now: datetime) -> Object:
    """The budget with one disruption less. Raises `ApiError` 429 where none is left."""
    name, status = meta.name(budget), budget.get("status") or {}
    if (status.get("observedGeneration") or 0) < meta.generation(budget):
        raise _too_many(f"The disruption budget {name} is still being processed by the server.")
    allowed = status.get("disruptionsAllowed") or 0
    disrupted = status.get("disruptedPods") or {}
    if allowed < 0:
        raise _forbidden(name, "pdb disruptions allowed is negative")
    if len(disrupted) > _MOST_DISRUPTED:
        raise _forbidden(
            name,
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        )
    if allowed == 0:
        raise _too_many(_why(name, status))
    left = {
        **status,
        "disruptionsAllowed": allowed - 1,
        "disruptedPods": {**disrupted, meta.name(pod): meta.timestamp(now)},
    }
    return {**budget, "status": left}


def _why(name: str, status: Object) -> str:
    condition = pods.condition({"status": status}, "DisruptionAllowed") or {}
    if condition.get("reason") == "SyncFailed":
        return (
            f"The disruption budget {name} does not allow evicting pods currently because it"
            f" failed sync: {condition.get('message') or ''}"
        )
    return (
        f"The disruption budget {name} needs {status.get('desiredHealthy') or 0} healthy pods and"
        f" has {status.get('currentHealthy') or 0} currently"
    )


def _too_many(cause: str) -> errors.ApiError:
    causes = [{"reason": "DisruptionBudget", "message": cause}]
    return errors.ApiError(429, "TooManyRequests", _REFUSED, {"causes": causes})


def _forbidden(name: str, why: str) -> errors.ApiError:
    kind = kinds.POD_DISRUPTION_BUDGET
    return errors.forbidden(kind.group, kind.plural, name, why)


def targeted(pod: Object, now: datetime) -> Object:
    """A copy of the pod that says what is done to it."""
    return pods.targeted(pod, "EvictionByEvictionAPI", "Eviction API: evicting", now)
