"""How a Job ends: why it fails, when it has succeeded. Pure.

Source: the Job concept page, "Job termination and cleanup" and "Success policy".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import job_indexes
from meshkube.control.controllers import job_pods as jp
from meshkube.control.controllers.job_facts import Facts

_FINAL = {"FailureTarget": "Failed", "SuccessCriteriaMet": "Complete"}


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of a Job, without its times."""

    type: str
    reason: str
    message: str
    holds: bool = True

    @property
    def fails(self) -> bool:
        return self.type == "FailureTarget"

    def final(self) -> Condition:
        """What it turns into once every pod is counted."""
        return Condition(_FINAL[self.type], self.reason, self.message)

    @classmethod
    def failed(cls, reason: str, message: str) -> Condition:
        return cls("FailureTarget", reason, message)

    @classmethod
    def completed(cls) -> Condition:
        message = "Reached expected number of succeeded pods"
        return cls("SuccessCriteriaMet", "CompletionsReached", message)


def true(job: Object, type: str) -> Object | None:
    """The condition of that type, where it holds."""
    entry = pods.condition(job, type)
    return entry if entry is not None and entry.get("status") == "True" else None


def set_condition(status: Object, condition: Condition, now: datetime) -> bool:
    """Puts it in the status; True where it did not hold so before."""
    stamp = meta.timestamp(now)
    wanted = "True" if condition.holds else "False"
    conditions = status.setdefault("conditions", [])
    for entry in conditions:
        if entry.get("type") == condition.type and entry.get("status") == wanted:
            return False
    entry = {
        "type": condition.type,
        "status": wanted,
        "lastProbeTime": stamp,
        "lastTransitionTime": stamp,
        "reason": condition.reason,
        "message": condition.message,
    }
    conditions[:] = [c for c in conditions if c.get("type") != condition.type] + [entry]
    return True


def decide(job: Object, facts: Facts, now: datetime) -> Condition | None:
    """How the Job ends, if it does. What was decided before stays."""
    for type in _FINAL:
        entry = true(job, type)
        if entry is not None:
            return Condition(type, entry.get("reason") or "", entry.get("message") or "")
    return (
        _by_policy(job, facts)
        or _by_limits(job, facts, now)
        or _by_indexes(job, facts)
        or _by_success_policy(job, facts)
    )


def _by_policy(job: Object, facts: Facts) -> Condition | None:
    for pod in facts.everyone:
        message = jp.verdict(job, pod).message if jp.failed(job, pod) else ""
        if message:
            return Condition.failed("PodFailurePolicy", message)
    return None


def _by_limits(job: Object, facts: Facts, now: datetime) -> Condition | None:
    limit = jp.spec_number(job, "backoffLimit")
    limit = 6 if limit is None else limit
    if facts.failed > limit or _restarted_too_often(job, facts, limit):
        message = "Job has reached the specified backoff limit"
        return Condition.failed("BackoffLimitExceeded", message)
    seconds = jp.spec_number(job, "activeDeadlineSeconds")
    start = (job.get("status") or {}).get("startTime")
    if seconds is None or not start or jp.suspended(job):
        return None
    if now - meta.parse_timestamp(start) < timedelta(seconds=seconds):
        return None
    message = "Job was active longer than specified deadline"
    return Condition.failed("DeadlineExceeded", message)


def _restarted_too_often(job: Object, facts: Facts, limit: int) -> bool:
    """Where containers are restarted in their pods, these are the tries."""
    template = (job["spec"].get("template") or {}).get("spec") or {}
    if template.get("restartPolicy") != "OnFailure":
        return False
    count = 0
    for pod in facts.everyone:
        if pods.phase(pod) in ("Running", "Pending"):
            status = pod.get("status") or {}
            entries = (
                *status.get("initContainerStatuses", ()),
                *status.get("containerStatuses", ()),
            )
            count += sum(int(entry.get("restartCount") or 0) for entry in entries)
    return count > 0 if limit == 0 else count >= limit


def _by_indexes(job: Object, facts: Facts) -> Condition | None:
    given_up, most = len(facts.failed_indexes), jp.spec_number(job, "maxFailedIndexes")
    if most is not None and given_up > most:
        message = "Job has exceeded the specified maximal number of failed indexes"
        return Condition.failed("MaxFailedIndexesExceeded", message)
    completions = jp.spec_number(job, "completions") or 0
    if given_up and given_up + len(facts.succeeded_indexes) >= completions:
        return Condition.failed("FailedIndexes", "Job has failed indexes")
    return None


def _by_success_policy(job: Object, facts: Facts) -> Condition | None:
    policy = job["spec"].get("successPolicy") or {}
    completions = jp.spec_number(job, "completions") or 0
    for number, rule in enumerate(policy.get("rules") or ()):
        done = facts.succeeded_indexes
        text, count = rule.get("succeededIndexes"), rule.get("succeededCount")
        if text is not None:
            wanted = job_indexes.parse(text, completions)
            done = done & wanted
            count = len(wanted) if count is None else count
        if count is not None and len(done) >= count:
            message = f"Matched rules at index {number}"
            return Condition("SuccessCriteriaMet", "SuccessPolicy", message)
    return None
