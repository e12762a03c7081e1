"""The plan of a Job, by tables, and played through at random: every end is counted exactly once."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import job_indexes, job_pods
from meshkube.control.controllers.job_end import true
from meshkube.control.controllers.job_plan import finished, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(**spec: Any) -> Object:
    return {
        "metadata": {"name": "sum", "namespace": "d", "uid": "u"},
        "spec": {
            "parallelism": 1,
            "backoffLimit": 6,
            "podReplacementPolicy": "TerminatingOrFailed",
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main"}]}},
            **spec,
        },
    }


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", []), ("3", [3]), ("0,1", [0, 1]), ("0-2,5", [0, 1, 2, 5]), ("1,3-6", [1, 3, 4, 5, 6])],
)
def test_indexes_are_written_as_short_as_can_be(text: str, numbers: list[int]) -> None:
    assert job_indexes.shown(numbers) == text
    assert job_indexes.parse(text, 100) == set(numbers)


@given(st.sets(st.integers(0, 60)))
def test_indexes_read_back(numbers: set[int]) -> None:
    assert job_indexes.parse(job_indexes.shown(numbers), 61) == numbers


@pytest.mark.parametrize(("passed", "wait"), [(0, 2.0), (1.5, 0.5), (2, None), (60, None)])
def test_a_deadline_is_waited_for_until_it_has_passed(passed: float, wait: float | None) -> None:
    """After it the ends of the pods wake the Job, however long they take."""
    late = job(activeDeadlineSeconds=2)
    late["status"] = {"startTime": meta.timestamp(NOW)}
    ending = {
        "metadata": {"name": "p", "uid": "p", "deletionTimestamp": meta.timestamp(NOW),
                     "finalizers": [job_pods.FINALIZER]},
        "spec": {"containers": [{"name": "main"}]},
        "status": {"phase": "Running"},
    }  # fmt: skip
    assert plan(late, [ending], NOW + timedelta(seconds=passed)).wait == wait


@pytest.mark.parametrize(
    ("failures", "passed", "expected"),
    [(0, 0, 0), (1, 0, 10), (1, 4, 6), (2, 0, 20), (3, 5, 35), (20, 0, 600), (2, 100, 0)],
)
def test_tries_come_slower_after_each_failure(
    failures: int, passed: float, expected: float
) -> None:
    ended = [
        {"status": {"phase": "Failed", "conditions": []}, "metadata": {"deletionTimestamp": stamp}}
        for stamp in [meta.timestamp(NOW)] * failures
    ]
    assert job_pods.delay(ended, NOW + timedelta(seconds=passed)) == expected


class Play:
    """A Job and its pods in memory. Every step of a plan may be the last one before a crash."""

    def __init__(self, obj: Object, seed: int) -> None:
        self.job = obj
        self.pods: dict[str, Object] = {}
        self.random = random.Random(seed)
        self.now = NOW
        self.made = 0
        self.ends = {"Succeeded": 0, "Failed": 0}

    def reconcile(self) -> None:
        todo = plan(self.job, list(self.pods.values()), self.now)
        steps = [*((self._make, p) for p in todo.create), *((self._end, p) for p in todo.delete),
                 *((self._free, p) for p in todo.free)]  # fmt: skip
        # A crash may come after any step; what is not done is planned again.
        reached = self.random.choice([len(steps), self.random.randint(0, len(steps))])
        for step, pod in steps[:reached]:
            step(pod)
        if reached == len(steps):
            self.job = {**self.job, "status": todo.status}

    def _make(self, pod: Object) -> None:
        self.made += 1
        uid = f"p{self.made}"
        described = {**pod["metadata"], "name": uid, "uid": uid}
        described["creationTimestamp"] = meta.timestamp(self.now)
        self.pods[uid] = {**pod, "metadata": described, "status": {"phase": "Running"}}

    def _end(self, pod: Object) -> None:
        self.finish(meta.uid(pod), "Failed")

    def _free(self, pod: Object) -> None:
        uid = meta.uid(pod)
        self.pods[uid] = job_pods.freed(self.pods[uid])
        if self.random.random() < 0.5:
            del self.pods[uid]

    def finish(self, uid: str, phase: str) -> None:
        pod = self.pods[uid]
        if not pods.finished(pod):
            self.ends[phase] += 1
            self.pods[uid] = {**pod, "status": {"phase": phase}}

    def world(self, failing: float) -> None:
        """Somebody else's turn: a pod may end."""
        running = [uid for uid, pod in self.pods.items() if not pods.finished(pod)]
        if running and self.random.random() < 0.7:
            phase = "Failed" if self.random.random() < failing else "Succeeded"
            self.finish(self.random.choice(running), phase)
        self.now += timedelta(seconds=self.random.choice([0, 1, 700]))


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    completions=st.integers(1, 8),
    parallelism=st.integers(1, 5),
    limit=st.integers(0, 4),
    failing=st.sampled_from([0.0, 0.2, 0.6]),
    indexed=st.booleans(),
)
def test_each_end_is_counted_once_whatever_stops_in_between(
    seed: int, completions: int, parallelism: int, limit: int, failing: float, indexed: bool
) -> None:
    mode = "Indexed" if indexed else "NonIndexed"
    play = Play(
        job(
            completions=completions,
            parallelism=parallelism,
            backoffLimit=limit,
            completionMode=mode,
        ),
        seed,
    )
    for _ in range(600):
        play.reconcile()
        active = [p for p in play.pods.values() if pods.active(p)]
        assert len(active) <= parallelism
        if finished(play.job):
            break
        play.world(failing)
    assert finished(play.job)
    status = play.job["status"]
    assert status["uncountedTerminatedPods"] == {}
    assert "active" not in status
    assert status.get("failed", 0) == play.ends["Failed"]
    if indexed:
        done = job_indexes.parse(status.get("completedIndexes", ""), completions)
        assert status.get("succeeded", 0) == len(done)
    else:
        assert status.get("succeeded", 0) == play.ends["Succeeded"]
    if true(play.job, "Complete"):
        assert status["succeeded"] == completions
        assert status.get("failed", 0) <= limit
    else:
        assert status["failed"] > limit
    assert not any(job_pods.tracked(pod) for pod in play.pods.values())


@given(seed=st.integers(0, 10**6))
def test_a_plan_that_was_carried_out_is_planned_no_more(seed: int) -> None:
    play = Play(job(completions=3, parallelism=3), seed)
    for _ in range(50):
        play.reconcile()
    before = len(play.pods)
    play.reconcile()
    assert len(play.pods) == before == 3
