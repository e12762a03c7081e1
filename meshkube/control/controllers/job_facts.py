"""What the pods of a Job say: who works, who has ended, which indexes are done. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import job_indexes
from meshkube.control.controllers import job_pods as jp


@dataclass(frozen=True, slots=True)
class Facts:
    """All pods are of one Job."""

    everyone: Sequence[Object]
    active: Sequence[Object]
    terminating: Sequence[Object]
    """Deleted, and not at their end yet."""
    ended: Sequence[Object]
    tracked: Mapping[str, Object]
    """By uid: those that are not let go of."""
    succeeded: int
    failed: int
    stored_indexes: frozenset[int]
    """Completed indexes that the stored status has."""
    succeeded_indexes: frozenset[int]
    failed_indexes: frozenset[int]
    last_failed: Mapping[int, Object]
    """The pod of each index that failed last."""

    @classmethod
    def of(cls, job: Object, owned: Sequence[Object]) -> Facts:
        status = job.get("status") or {}
        tracked = {meta.uid(pod): pod for pod in owned if jp.tracked(pod)}
        noted = status.get("uncountedTerminatedPods") or {}
        known = {uid for part in ("succeeded", "failed") for uid in noted.get(part) or ()}
        new = [pod for uid, pod in tracked.items() if uid not in known]
        last_failed = _last_failed(job, owned)
        stored, done = _done(job, tracked.values())
        return cls(
            everyone=owned,
            active=[pod for pod in owned if pods.active(pod)],
            terminating=[p for p in owned if meta.deleting(p) and not pods.finished(p)],
            ended=[pod for pod in owned if pods.finished(pod)],
            tracked=tracked,
            succeeded=len(done)
            if jp.indexed(job)
            else _total(status, "succeeded") + sum(jp.succeeded(pod) for pod in new),
            failed=_total(status, "failed")
            + sum(jp.failed(job, pod) and jp.verdict(job, pod).counts for pod in new),
            stored_indexes=stored,
            succeeded_indexes=done,
            failed_indexes=_given_up(job, last_failed) - done,
            last_failed=last_failed,
        )

    def pending(self, job: Object) -> list[int]:
        """Indexes that nobody works on and that are not at their end, the lowest first."""
        working = [*self.active, *(self.terminating if jp.only_failed_replaced(job) else ())]
        taken = {jp.index(pod) for pod in working} | self.succeeded_indexes | self.failed_indexes
        return [i for i in range(jp.spec_number(job, "completions") or 0) if i not in taken]

    def needed(self, job: Object, pod: Object, new: Iterable[Object]) -> bool:
        """True while only this pod says how often its index has failed."""
        if jp.spec_number(job, "backoffLimitPerIndex") is None:
            return False
        index = jp.index(pod)
        if index is None or index not in self.last_failed:
            return False
        if index in self.succeeded_indexes or index in self.failed_indexes:
            return False
        if meta.uid(self.last_failed[index]) != meta.uid(pod):
            return False
        return not any(jp.index(other) == index for other in self.active)


def _total(status: Object, part: str) -> int:
    noted = (status.get("uncountedTerminatedPods") or {}).get(part) or ()
    return int(status.get(part) or 0) + len(noted)


def _done(job: Object, tracked: Iterable[Object]) -> tuple[frozenset[int], frozenset[int]]:
    """Completed indexes: those stored, and with those that pods have completed since."""
    if not jp.indexed(job):
        return frozenset(), frozenset()
    completions = jp.spec_number(job, "completions") or 0
    text = (job.get("status") or {}).get("completedIndexes") or ""
    stored = frozenset(job_indexes.parse(text, completions))
    new = {i for pod in tracked if jp.succeeded(pod) and (i := jp.index(pod)) is not None}
    return stored, stored | {index for index in new if index < completions}


def _last_failed(job: Object, owned: Iterable[Object]) -> dict[int, Object]:
    found: dict[int, Object] = {}
    for pod in sorted(owned, key=lambda pod: (jp.failures(pod), pods.created(pod))):
        index = jp.index(pod)
        if index is not None and jp.failed(job, pod):
            found[index] = pod
    return found


def _given_up(job: Object, last_failed: Mapping[int, Object]) -> frozenset[int]:
    """Indexes that have failed too often, or by a rule."""
    limit = jp.spec_number(job, "backoffLimitPerIndex")
    if limit is None or not jp.indexed(job):
        return frozenset()
    text = (job.get("status") or {}).get("failedIndexes") or ""
    found = job_indexes.parse(text, jp.spec_number(job, "completions") or 0)
    for index, pod in last_failed.items():
        verdict = jp.verdict(job, pod)
        if verdict.action == "FailIndex" or (verdict.counts and jp.failures(pod) >= limit):
            found.add(index)
    return frozenset(found)
