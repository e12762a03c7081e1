"""What a Job does next. Pure: the same Job and pods give the same plan.

Pods are counted exactly once, whatever happens between two steps. Each carries a finalizer. One
that has ended is first noted in the stored status (by uid, or by its completion index); only then
is it let go of; only when that is seen is it moved to the counters.

Source: the Job concept page, and KEP-2307 "Job tracking without lingering Pods".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import job_indexes
from meshkube.control.controllers import job_pods as jp
from meshkube.control.controllers.job_end import Condition, decide, set_condition, true
from meshkube.control.controllers.job_facts import Facts
from meshkube.control.controllers.pod_control import BURST
from meshkube.control.controllers.replicaset import victims

MOST_UNCOUNTED = 500
"""Pods noted in the status at once."""


_BY_INDEX = "index"


@dataclass(slots=True)
class Plan:
    """What to do, in this order."""

    create: list[Object] = field(default_factory=list)
    delete: list[Object] = field(default_factory=list)
    free: list[Object] = field(default_factory=list)
    """Pods to take the finalizer from."""
    status: Object = field(default_factory=dict)
    events: list[tuple[str, str]] = field(default_factory=list)
    """Reason and message, once the status is stored."""
    failed: bool = False
    """The events are warnings."""
    wait: float | None = None


def finished(job: Object) -> bool:
    return true(job, "Complete") is not None or true(job, "Failed") is not None


def plan(job: Object, owned: Sequence[Object], now: datetime) -> Plan:
    """The next step of a Job with these pods."""
    if finished(job):
        return Plan(free=[p for p in owned if jp.tracked(p)], status=job.get("status") or {})
    facts = Facts.of(job, owned)
    todo = Plan(status=_counted(job, facts))
    end = decide(job, facts, now)
    todo.wait = _deadline(job, now)
    if end is not None:
        todo.delete = list(facts.active)
    elif not meta.deleting(job):
        _manage(job, facts, now, todo)
    left = len(facts.active) - len(todo.delete) + len(todo.create)
    if end is None and _all_done(job, facts, left):
        end = Condition.completed()
    _note(job, facts, end, todo)
    _start_and_suspend(job, now, end, todo)
    _finish(job, facts, end, now, todo)
    _count_living(facts, left, todo)
    return todo


def _counted(job: Object, facts: Facts) -> Object:
    """The status with those in the counters that were noted before and let go of since."""
    status = meta.copy(job.get("status") or {})
    noted = status.get("uncountedTerminatedPods") or {}
    left: Object = {}
    for part in ("succeeded", "failed"):
        uids = noted.get(part) or []
        waiting = [uid for uid in uids if uid in facts.tracked]
        gone = len(uids) - len(waiting)
        if gone:
            status[part] = int(status.get(part) or 0) + gone
        if waiting:
            left[part] = waiting
    status["uncountedTerminatedPods"] = left
    return status


def _deadline(job: Object, now: datetime) -> float | None:
    """Seconds until activeDeadlineSeconds are over; None: never, or they are over."""
    seconds = jp.spec_number(job, "activeDeadlineSeconds")
    start = (job.get("status") or {}).get("startTime")
    if seconds is None or not start or jp.suspended(job):
        return None
    left = (meta.parse_timestamp(start) + timedelta(seconds=seconds) - now).total_seconds()
    return left if left > 0 else None


def _all_done(job: Object, facts: Facts, left: int) -> bool:
    completions = jp.spec_number(job, "completions")
    if left:
        return False
    if completions is None:
        return facts.succeeded > 0
    return facts.succeeded >= completions


def _manage(job: Object, facts: Facts, now: datetime, todo: Plan) -> None:
    """Makes and deletes pods: as many as may work at once, and as are still needed."""
    if jp.suspended(job):
        todo.delete = list(facts.active)
        return
    completions = jp.spec_number(job, "completions")
    parallelism = jp.spec_number(job, "parallelism") or 0
    active = len(facts.active)
    if completions is not None:
        wanted = max(min(completions - facts.succeeded, parallelism), 0)
    else:
        # Once one has succeeded, the others may end and no more are made.
        wanted = active if facts.succeeded else parallelism
    todo.delete = _excess(job, facts, max(active - wanted, 0), now)[:BURST]
    if todo.delete:
        return
    held = len(facts.terminating) if jp.only_failed_replaced(job) else 0
    missing = min(wanted - held - active, BURST)
    if missing <= 0:
        return
    if jp.spec_number(job, "backoffLimitPerIndex") is None:
        wait = jp.delay(facts.ended, now)
        if wait:
            todo.wait = min(wait, todo.wait) if todo.wait is not None else wait
            return
    if not jp.indexed(job):
        todo.create = [jp.new_pod(job) for _ in range(missing)]
        return
    _fill_indexes(job, facts, facts.pending(job)[:missing], now, todo)


def _excess(job: Object, facts: Facts, count: int, now: datetime) -> list[Object]:
    """At least `count` of the active pods, and every one whose index is taken or none."""
    if not jp.indexed(job):
        return victims(facts.active, count, now) if count else []
    completions = jp.spec_number(job, "completions") or 0
    doomed: list[Object] = []
    kept: list[Object] = []
    seen: set[int] = set()
    oldest_first = sorted(facts.active, key=lambda pod: (pods.created(pod), meta.name(pod)))
    for pod in oldest_first:
        index = jp.index(pod)
        if index is None or index >= completions or index in seen:
            doomed.append(pod)
        else:
            seen.add(index)
            kept.append(pod)
    more = count - len(doomed)
    if more > 0:
        doomed += sorted(kept, key=lambda pod: -(jp.index(pod) or 0))[:more]
    return doomed


def _fill_indexes(
    job: Object, facts: Facts, wanted: Iterable[int], now: datetime, todo: Plan
) -> None:
    waits = []
    for index in wanted:
        before = facts.last_failed.get(index)
        each = jp.spec_number(job, "backoffLimitPerIndex") is not None
        wait = jp.index_delay(before, now) if each and before is not None else 0.0
        if wait:
            waits.append(wait)
        else:
            todo.create.append(jp.new_pod(job, index, before))
    if waits:
        todo.wait = min(waits) if todo.wait is None else min(*waits, todo.wait)


def _note(job: Object, facts: Facts, end: Condition | None, todo: Plan) -> None:
    """Notes the pods that have ended, and lets go of those that the stored status has noted."""
    noted = todo.status["uncountedTerminatedPods"]
    stored = (job.get("status") or {}).get("uncountedTerminatedPods") or {}
    known = {*(stored.get("succeeded") or ()), *(stored.get("failed") or ())}
    for pod in facts.tracked.values():
        if not _to_be_counted(job, facts, pod, end, todo):
            continue
        part = _part(job, facts, pod, end)
        if part is None or meta.uid(pod) in known:
            todo.free.append(pod)
        elif part != _BY_INDEX and sum(map(len, noted.values())) < MOST_UNCOUNTED:
            noted.setdefault(part, []).append(meta.uid(pod))
    if jp.indexed(job):
        _note_indexes(job, facts, todo)


def _to_be_counted(
    job: Object, facts: Facts, pod: Object, end: Condition | None, todo: Plan
) -> bool:
    ended = pods.finished(pod) or meta.deleting(pod)
    if meta.deleting(job) or end is not None:
        return ended
    if jp.succeeded(pod):
        return True
    return jp.failed(job, pod) and not facts.needed(job, pod, todo.create)


def _part(job: Object, facts: Facts, pod: Object, end: Condition | None) -> str | None:
    """Which counter it belongs to; None where it needs no note (any more)."""
    index = jp.index(pod) if jp.indexed(job) else -1
    counts = index is not None and (index < (jp.spec_number(job, "completions") or 0))
    if jp.succeeded(pod):
        if not jp.indexed(job):
            return "succeeded"
        # Its index is note enough, once that is stored.
        return _BY_INDEX if counts and index not in facts.stored_indexes else None
    failing = end is not None and end.fails
    if counts and (jp.failed(job, pod) or failing) and jp.verdict(job, pod).counts:
        return "failed"
    return None


def _note_indexes(job: Object, facts: Facts, todo: Plan) -> None:
    done = facts.succeeded_indexes
    todo.status["succeeded"] = len(done)
    text = job_indexes.shown(done)
    if text:
        todo.status["completedIndexes"] = text
    else:
        todo.status.pop("completedIndexes", None)
    if jp.spec_number(job, "backoffLimitPerIndex") is not None:
        todo.status["failedIndexes"] = job_indexes.shown(facts.failed_indexes)


def _start_and_suspend(job: Object, now: datetime, end: Condition | None, todo: Plan) -> None:
    status = todo.status
    if not status.get("startTime") and not jp.suspended(job):
        status["startTime"] = meta.timestamp(now)
    if end is not None or meta.deleting(job):
        return
    if jp.suspended(job):
        if set_condition(status, Condition("Suspended", "JobSuspended", "Job suspended"), now):
            todo.events.append(("Suspended", "Job suspended"))
    elif true(job, "Suspended"):
        set_condition(status, Condition("Suspended", "JobResumed", "Job resumed", False), now)
        todo.events.append(("Resumed", "Job resumed"))
        # A deadline counts from when it went on.
        status["startTime"] = meta.timestamp(now)


def _finish(job: Object, facts: Facts, end: Condition | None, now: datetime, todo: Plan) -> None:
    """The end in two steps: what is decided, and once every pod is counted and gone, what is."""
    if end is None:
        return
    was_decided = true(job, end.type) is not None
    set_condition(todo.status, end, now)
    uncounted = any(todo.status["uncountedTerminatedPods"].values())
    if not was_decided or uncounted or facts.active or facts.terminating or todo.free:
        return
    last = end.final()
    set_condition(todo.status, last, now)
    todo.wait = None
    if last.type == "Complete":
        todo.status["completionTime"] = meta.timestamp(now)
        todo.events.append(("Completed", "Job completed"))
    else:
        todo.failed = True
        todo.events.append((last.reason, last.message))


def _count_living(facts: Facts, active: int, todo: Plan) -> None:
    ready = sum(pods.ready(pod) for pod in facts.active if pod not in todo.delete)
    todo.status["ready"] = ready
    todo.status["terminating"] = len(facts.terminating) + len(todo.delete)
    for part, count in (("active", active), *((p, todo.status.get(p)) for p in _COUNTERS)):
        if count:
            todo.status[part] = count
        else:
            todo.status.pop(part, None)


_COUNTERS = ("succeeded", "failed")
