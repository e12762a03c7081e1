"""What controllers ask of a Pod: phases, conditions, readiness over time."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from meshkube.api import meta
from meshkube.api.types import Object


def phase(pod: Mapping[str, Any]) -> str:
    return str((pod.get("status") or {}).get("phase") or "Pending")


def finished(pod: Mapping[str, Any]) -> bool:
    """True once every container has ended for good."""
    return phase(pod) in ("Succeeded", "Failed")


def active(pod: Mapping[str, Any]) -> bool:
    """True while it runs or may still come to run."""
    return not finished(pod) and not meta.deleting(pod)


def node_name(pod: Mapping[str, Any]) -> str:
    return str((pod.get("spec") or {}).get("nodeName") or "")


def condition(obj: Mapping[str, Any], type: str) -> Object | None:
    """The condition of that type in the object's status."""
    for entry in (obj.get("status") or {}).get("conditions") or ():
        if entry.get("type") == type:
            return entry  # type: ignore[no-any-return]
    return None


def ready(pod: Mapping[str, Any]) -> bool:
    entry = condition(pod, "Ready")
    return entry is not None and entry.get("status") == "True"


def ready_since(pod: Mapping[str, Any]) -> datetime | None:
    """Since when it is ready; None while it is not, or where it does not say."""
    entry = condition(pod, "Ready")
    if entry is None or entry.get("status") != "True" or not entry.get("lastTransitionTime"):
        return None
    return meta.parse_timestamp(entry["lastTransitionTime"])


def available_in(pod: Mapping[str, Any], min_ready_seconds: int, now: datetime) -> float | None:
    """Seconds until it counts as available (0: it does); None while it is not ready."""
    if not ready(pod):
        return None
    since = ready_since(pod)
    if min_ready_seconds <= 0:
        return 0.0
    if since is None:
        return None
    return max(0.0, min_ready_seconds - (now - since).total_seconds())


def restarts(pod: Mapping[str, Any]) -> int:
    statuses = (pod.get("status") or {}).get("containerStatuses") or ()
    return max((int(status.get("restartCount") or 0) for status in statuses), default=0)


def created(obj: Mapping[str, Any]) -> str:
    """The creation time as text: RFC 3339 in UTC sorts as text does."""
    return str(meta.metadata(obj).get("creationTimestamp") or "")


def set_condition(conditions: list[Object], entry: Object) -> bool:
    """Puts a condition in the list in place of the one of its type. The time of the last
    transition is kept where the status stays; True where anything but times changed."""
    for index, old in enumerate(conditions):
        if old.get("type") != entry["type"]:
            continue
        if old.get("status") == entry.get("status") and "lastTransitionTime" in old:
            entry["lastTransitionTime"] = old["lastTransitionTime"]
        conditions[index] = entry
        return any(old.get(part) != entry.get(part) for part in ("status", "reason", "message"))
    conditions.append(entry)
    return True


def disruption(reason: str, message: str, now: datetime) -> Object:
    """The condition that says why a pod is disrupted. Source: Kubernetes documentation,
    "Disruptions", pod disruption conditions."""
    return {
        "type": "DisruptionTarget",
        "status": "True",
        "lastProbeTime": None,
        "lastTransitionTime": meta.timestamp(now),
        "reason": reason,
        "message": message,
    }


def targeted(pod: Object, reason: str, message: str, now: datetime) -> Object:
    """A copy of the pod with that condition."""
    marked = meta.copy(pod)
    conditions = marked.setdefault("status", {}).setdefault("conditions", [])
    set_condition(conditions, disruption(reason, message, now))
    return marked
