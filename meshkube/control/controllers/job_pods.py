"""The pods of a Job: what they are made of, how they ended, what a failure means. Pure.

Source: the Job concept page, "Completion mode" and "Pod failure policy".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers.pod_control import pod_of

FINALIZER = "batch.kubernetes.io/job-tracking"
"""Keeps a pod until the Job has counted it."""
INDEX = "batch.kubernetes.io/job-completion-index"
INDEX_FAILURES = "batch.kubernetes.io/job-index-failure-count"
_INDEX_VARIABLE = "JOB_COMPLETION_INDEX"


def spec_number(job: Object, field: str) -> int | None:
    value = job["spec"].get(field)
    return None if value is None else int(value)


def indexed(job: Object) -> bool:
    return bool(job["spec"].get("completionMode") == "Indexed")


def suspended(job: Object) -> bool:
    return bool(job["spec"].get("suspend"))


def only_failed_replaced(job: Object) -> bool:
    """True where a pod that is being deleted is waited for before another takes its place."""
    return bool(job["spec"].get("podReplacementPolicy") == "Failed")


def tracked(pod: Object) -> bool:
    """True until the Job let go of it."""
    return FINALIZER in (meta.metadata(pod).get("finalizers") or ())


def succeeded(pod: Object) -> bool:
    return pods.phase(pod) == "Succeeded"


def failed(job: Object, pod: Object) -> bool:
    """Failed, or deleted before it could end (where that is enough to replace it)."""
    if pods.phase(pod) == "Failed":
        return True
    return not only_failed_replaced(job) and meta.deleting(pod) and not succeeded(pod)


def index(pod: Object) -> int | None:
    text = meta.annotations(pod).get(INDEX, "")
    return int(text) if text.isdigit() else None


def failures(pod: Object) -> int:
    """How often its index had failed before it was made."""
    text = meta.annotations(pod).get(INDEX_FAILURES, "")
    return int(text) if text.isdigit() else 0


def held(pod: Object) -> Object:
    """The pod with the Job's hold on it."""
    if tracked(pod):
        return pod
    changed = meta.copy(pod)
    changed["metadata"].setdefault("finalizers", []).append(FINALIZER)
    return changed


def freed(pod: Object) -> Object:
    """The pod without the Job's hold on it."""
    changed = meta.copy(pod)
    kept = [name for name in changed["metadata"].get("finalizers") or () if name != FINALIZER]
    changed["metadata"]["finalizers"] = kept
    return changed


def ended_at(pod: Object, now: datetime) -> datetime:
    """When its last container ended; else when it stopped to be ready, was deleted, or was made:
    never a time that moves on with `now`, which would put off the next try for ever."""
    status = pod.get("status") or {}
    ends = [
        ((entry.get("state") or {}).get("terminated") or {}).get("finishedAt")
        for entry in status.get("containerStatuses") or ()
    ]
    if ends and all(ends):
        return max(meta.parse_timestamp(text) for text in ends if text)
    entry = pods.condition(pod, "Ready") or {}
    described = meta.metadata(pod)
    text = entry.get("lastTransitionTime") or described.get("deletionTimestamp")
    text = text or pods.created(pod)
    return meta.parse_timestamp(text) if text else now


def new_pod(job: Object, number: int | None = None, before: Object | None = None) -> Object:
    """A pod of the Job; `number` is its completion index, `before` the last that failed there."""
    pod = pod_of(kinds.JOB, job, job["spec"]["template"])
    metadata = pod["metadata"]
    finalizers = metadata.setdefault("finalizers", [])
    if FINALIZER not in finalizers:
        finalizers.append(FINALIZER)
    if number is None:
        return pod
    metadata["generateName"] = f"{meta.name(job)}-{number}-"
    annotations = metadata.setdefault("annotations", {})
    annotations[INDEX] = str(number)
    metadata.setdefault("labels", {})[INDEX] = str(number)
    if spec_number(job, "backoffLimitPerIndex") is not None:
        annotations[INDEX_FAILURES] = str(_failures_after(job, before) if before else 0)
    pod["spec"]["hostname"] = f"{meta.name(job)}-{number}"
    _add_variable(pod["spec"])
    return pod


def _failures_after(job: Object, before: Object) -> int:
    return failures(before) + verdict(job, before).counts


def _add_variable(spec: Object) -> None:
    source = {"fieldRef": {"apiVersion": "v1", "fieldPath": f"metadata.labels['{INDEX}']"}}
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        env = container.setdefault("env", [])
        if not any(entry.get("name") == _INDEX_VARIABLE for entry in env):
            env.append({"name": _INDEX_VARIABLE, "valueFrom": source})


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failed pod means by the Job's policy."""

    counts: bool = True
    action: str = ""
    message: str = ""
    """Why the whole Job fails with it; empty where it does not."""


def verdict(job: Object, pod: Object) -> Verdict:
    """By the first rule that matches."""
    policy = job["spec"].get("podFailurePolicy") or {}
    for number, rule in enumerate(policy.get("rules") or ()):
        action = str(rule.get("action") or "")
        reason = _matches(rule, pod)
        if reason is None or action not in ("Ignore", "FailJob", "FailIndex", "Count"):
            continue
        message = f"{reason} matching {action} rule at index {number}"
        return Verdict(action != "Ignore", action, message if action == "FailJob" else "")
    return Verdict()


def _matches(rule: Mapping[str, Any], pod: Object) -> str | None:
    """What about the pod the rule matches, in words; None where it does not."""
    status, name = pod.get("status") or {}, meta.key(pod)
    if rule.get("onExitCodes") is not None:
        for part in ("containerStatuses", "initContainerStatuses"):
            found = _by_exit_code(rule["onExitCodes"], status.get(part) or ())
            if found is not None:
                container, code = found
                return f"Container {container} for pod {name} failed with exit code {code}"
        return None
    for entry in status.get("conditions") or ():
        for pattern in rule.get("onPodConditions") or ():
            wanted = (pattern.get("type"), pattern.get("status") or "True")
            if (entry.get("type"), entry.get("status")) == wanted:
                return f"Pod {name} has condition {entry['type']}"
    return None


def _by_exit_code(wanted: Mapping[str, Any], statuses: Iterable[Object]) -> tuple[str, int] | None:
    only = wanted.get("containerName")
    for entry in statuses:
        ended = (entry.get("state") or {}).get("terminated")
        code = int((ended or {}).get("exitCode") or 0)
        if not code or (only is not None and only != entry.get("name")):
            continue
        if (code in (wanted.get("values") or ())) == (wanted.get("operator") == "In"):
            return str(entry.get("name")), code
    return None


FIRST_DELAY = 10.0
LONGEST_DELAY = 600.0
"""Seconds between a failure and the next try: 10, 20, 40, ..."""


def delay(ended: Sequence[Object], now: datetime) -> float:
    """Seconds until another pod may be tried, after the failures since the last success."""
    in_order = sorted(ended, key=lambda pod: ended_at(pod, now))
    count, last = 0, None
    for pod in in_order:
        count = 0 if succeeded(pod) else count + 1
        last = ended_at(pod, now)
    if not count or last is None:
        return 0.0
    return _remaining(count, last, now)


def index_delay(before: Object, now: datetime) -> float:
    """The same for one index, by its last pod that failed."""
    return _remaining(failures(before) + 1, ended_at(before, now), now)


def _remaining(count: int, last: datetime, now: datetime) -> float:
    wanted = min(FIRST_DELAY * float(2 ** min(count - 1, 10)), LONGEST_DELAY)
    return max(wanted - (now - last).total_seconds(), 0.0)
