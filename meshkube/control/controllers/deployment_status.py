"""A Deployment's status: counts, and the conditions `kubectl rollout status` waits for.

Source: the Deployment concept page, "Deployment status".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers.deployment_sizes import Limits

NO_DEADLINE = 2**31 - 1
AVAILABLE_REASON = "NewReplicaSetAvailable"


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that just happened in the rollout, to be shown as the Progressing condition."""

    status: str
    reason: str
    message: str


def found(name: str) -> Fact:
    return Fact("True", "FoundNewReplicaSet", f'Found new replica set "{name}"')


def created(name: str) -> Fact:
    return Fact("True", "NewReplicaSetCreated", f'Created new replica set "{name}"')


def create_failed(name: str, why: str) -> Fact:
    message = f'Failed to create new replica set "{name}": {why}'
    return Fact("False", "ReplicaSetCreateError", message)


def compute(
    deployment: Object,
    new: Object | None,
    old: Sequence[Object],
    limits: Limits,
    now: datetime,
    fact: Fact | None = None,
) -> tuple[Object, float | None]:
    """The status as of `now`, and seconds until the progress deadline may pass (None: not)."""
    before = deployment.get("status") or {}
    status = _counts(deployment, new, old)
    conditions = [dict(entry) for entry in before.get("conditions") or ()]
    _set(conditions, _available(status, limits, now))
    wait = _progress(deployment, conditions, status, new, now, fact)
    _copy_failure(conditions, [*([new] if new else []), *old])
    if conditions:
        status["conditions"] = conditions
    return status, wait


def _counts(deployment: Object, new: Object | None, old: Sequence[Object]) -> Object:
    everything = [*old, new] if new else list(old)

    def total(part: str) -> int:
        return sum(int((rs.get("status") or {}).get(part) or 0) for rs in everything)

    wanted = sum(int(rs["spec"].get("replicas") or 0) for rs in everything)
    counts = {
        "replicas": total("replicas"),
        "updatedReplicas": int(((new or {}).get("status") or {}).get("replicas") or 0),
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(wanted - total("availableReplicas"), 0),
        "collisionCount": int((deployment.get("status") or {}).get("collisionCount") or 0),
    }
    status: Object = {"observedGeneration": meta.generation(deployment)}
    return status | {name: count for name, count in counts.items() if count}


def _condition(type: str, status: str, reason: str, message: str, now: datetime) -> Object:
    moment = meta.timestamp(now)
    return {
        "type": type,
        "status": status,
        "lastUpdateTime": moment,
        "lastTransitionTime": moment,
        "reason": reason,
        "message": message,
    }


def _set(conditions: list[Object], entry: Object, renew: bool = False) -> None:
    """As `pods.set_condition`, but the same status and reason change nothing unless `renew`."""
    for old in conditions:
        same = old.get("type") == entry["type"] and old.get("reason") == entry["reason"]
        if same and old.get("status") == entry["status"] and not renew:
            return
    pods.set_condition(conditions, entry)


def _available(status: Object, limits: Limits, now: datetime) -> Object:
    if status.get("availableReplicas", 0) >= limits.least:
        message = "Deployment has minimum availability."
        return _condition("Available", "True", "MinimumReplicasAvailable", message, now)
    message = "Deployment does not have minimum availability."
    return _condition("Available", "False", "MinimumReplicasUnavailable", message, now)


def deadline(deployment: Object) -> int | None:
    """`progressDeadlineSeconds`; None where progress is not judged."""
    seconds = deployment["spec"].get("progressDeadlineSeconds")
    return None if seconds is None or int(seconds) >= NO_DEADLINE else int(seconds)


def complete(deployment: Object, status: Object) -> bool:
    """True once every wanted pod is of the present template and available, and no other is."""
    replicas = deployment["spec"].get("replicas")
    wanted = 1 if replicas is None else int(replicas)
    return all(
        int(status.get(part) or 0) == wanted
        for part in ("updatedReplicas", "replicas", "availableReplicas")
    )


def _progress(
    deployment: Object,
    conditions: list[Object],
    status: Object,
    new: Object | None,
    now: datetime,
    fact: Fact | None,
) -> float | None:
    limit = deadline(deployment)
    if limit is None:
        conditions[:] = [entry for entry in conditions if entry.get("type") != "Progressing"]
        return None

    def say(status: str, reason: str, message: str, renew: bool = False) -> None:
        _set(conditions, _condition("Progressing", status, reason, message, now), renew)

    paused = bool(deployment["spec"].get("paused"))
    if (word := _pause_word(paused, _progressing(conditions))) is not None:
        say("Unknown", *word)
    if fact is not None:
        say(fact.status, fact.reason, fact.message)
    if paused:
        return None
    who = f'ReplicaSet "{meta.name(new)}"' if new else f'Deployment "{meta.name(deployment)}"'
    before = deployment.get("status") or {}
    current = _progressing(conditions)
    if complete(deployment, status):
        say("True", AVAILABLE_REASON, f"{who} has successfully progressed.")
        return None
    if _settled(status, current):
        return None
    if _moved(before, status):
        say("True", "ReplicaSetUpdated", f"{who} is progressing.", renew=True)
    elif current and current.get("reason") != "ProgressDeadlineExceeded":
        left = _left(current, limit, now)
        if left > 0:
            return left
        say("False", "ProgressDeadlineExceeded", f"{who} has timed out progressing.")
        return None
    return float(limit) if _moved(before, status) or current is None else None


def _pause_word(paused: bool, current: Object | None) -> tuple[str, str] | None:
    reason = current.get("reason") if current else None
    if reason is None or paused == (reason == "DeploymentPaused"):
        return None
    if not paused:
        return "DeploymentResumed", "Deployment is resumed"
    if reason == "ProgressDeadlineExceeded":
        return None
    return "DeploymentPaused", "Deployment is paused"


def _progressing(conditions: Sequence[Object]) -> Object | None:
    return next((entry for entry in conditions if entry.get("type") == "Progressing"), None)


def _settled(status: Object, current: Object | None) -> bool:
    """A finished rollout: pods that fail later do not put it in question."""
    only_new = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return only_new and current is not None and current.get("reason") == AVAILABLE_REASON


def _moved(before: Object, after: Object) -> bool:
    def grew(part: str) -> bool:
        return int(after.get(part) or 0) > int(before.get(part) or 0)

    def others(status: Object) -> int:
        return int(status.get("replicas") or 0) - int(status.get("updatedReplicas") or 0)

    return any(
        grew(part) for part in ("updatedReplicas", "readyReplicas", "availableReplicas")
    ) or others(after) < others(before)


def _left(current: Object, limit: int, now: datetime) -> float:
    since = current.get("lastUpdateTime") or current.get("lastTransitionTime")
    if not since:
        return float(limit)
    # Times are in whole seconds: one more, so that it is surely over.
    over = meta.parse_timestamp(since) + timedelta(seconds=limit + 1)
    return (over - now).total_seconds()


def _copy_failure(conditions: list[Object], sets: Sequence[Object]) -> None:
    failure = next((c for rs in sets if (c := pods.condition(rs, "ReplicaFailure"))), None)
    others = [entry for entry in conditions if entry.get("type") != "ReplicaFailure"]
    if failure is not None:
        moment = failure.get("lastTransitionTime")
        others.append({**failure, "lastUpdateTime": moment})
    conditions[:] = others
