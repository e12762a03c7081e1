"""Jobs on the real API: pods that end are counted, each exactly once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers import garbage, job, job_pods, ttl_after_finished
from tests.support.cluster import Cluster, cluster

CONTROLLERS = [job.CONTROLLER, garbage.CONTROLLER]
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def new_job(policy: str = "Never", **spec: Any) -> Object:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "sum", "namespace": "default"},
        "spec": {
            "template": {
                "spec": {
                    "restartPolicy": policy,
                    "containers": [{"name": "main", "image": "busybox:1"}],
                }
            },
            **spec,
        },
    }


def status(c: Cluster) -> Object:
    return c.list(kinds.JOB)[0].get("status") or {}


def conditions(c: Cluster) -> dict[str, str]:
    entries = status(c).get("conditions") or ()
    return {e["type"]: e["reason"] for e in entries if e["status"] == "True"}


def running(c: Cluster) -> list[Object]:
    return [p for p in c.list(kinds.POD) if (p.get("status") or {})["phase"] == "Pending"]


async def end(c: Cluster, pod: Object, code: int = 0, since: str = "2026-01-01T00:00:00Z") -> None:
    ended = {"terminated": {"exitCode": code, "finishedAt": since, "reason": "x"}}
    state: Object = {
        "phase": "Failed" if code else "Succeeded",
        "containerStatuses": [
            {
                "name": "main",
                "image": "busybox:1",
                "imageID": "",
                "ready": False,
                "restartCount": 0,
                "state": ended,
            }
        ],
    }
    stored = await c.client.update(kinds.POD, {**pod, "status": state}, subresource="status")
    version = int(meta.resource_version(stored))
    await c.until(lambda: int(c.caches.of(kinds.POD).resource_version or 0) >= version)


async def test_it_runs_as_many_pods_as_it_may_until_enough_have_succeeded(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(completions=5, parallelism=2))
        for done in range(5):
            pods = await c.until(lambda d=done: len(running(c)) == min(2, 5 - d) and running(c))
            await end(c, pods[0])
            await c.until(lambda d=done: status(c).get("succeeded") == d + 1)
        await c.until(lambda: conditions(c).get("Complete"))
        assert conditions(c) == {
            "SuccessCriteriaMet": "CompletionsReached",
            "Complete": "CompletionsReached",
        }
        assert status(c)["uncountedTerminatedPods"] == {}
        assert len(c.list(kinds.POD)) == 5
        assert not any(job_pods.tracked(p) for p in c.list(kinds.POD))
        labels = meta.labels(c.list(kinds.POD)[0])
        assert labels["job-name"] == labels["batch.kubernetes.io/job-name"] == "sum"
        assert await c.events_of("Completed")


async def test_too_many_failures_end_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(backoffLimit=1, parallelism=2, completions=2))
        pods = await c.until(lambda: len(running(c)) == 2 and running(c))
        await end(c, pods[0], 1)
        await c.until(lambda: status(c).get("failed") == 1)
        pods = await c.until(lambda: len(running(c)) == 2 and running(c))
        await end(c, pods[0], 1)
        # The other is deleted; no node runs it, so it is gone at once.
        await c.until(lambda: conditions(c).get("Failed") == "BackoffLimitExceeded")
        assert conditions(c)["FailureTarget"] == "BackoffLimitExceeded"
        assert status(c)["failed"] == 3
        assert "active" not in status(c)


async def test_each_index_is_done_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(completions=4, parallelism=4, completionMode="Indexed"))
        pods = await c.until(lambda: len(running(c)) == 4 and running(c))
        by_index = {job_pods.index(p): p for p in pods}
        assert set(by_index) == {0, 1, 2, 3}
        assert by_index[2]["spec"]["hostname"] == "sum-2"
        variables = by_index[2]["spec"]["containers"][0]["env"]
        assert variables[0]["name"] == "JOB_COMPLETION_INDEX"
        for number in (0, 1, 3):
            await end(c, by_index[number])
        await c.until(lambda: status(c).get("completedIndexes") == "0,1,3")
        await end(c, by_index[2], 1)
        again = await c.until(lambda: running(c))
        assert [job_pods.index(p) for p in again] == [2]
        await end(c, again[0])
        await c.until(lambda: conditions(c).get("Complete"))
        assert (status(c)["completedIndexes"], status(c)["succeeded"]) == ("0-3", 4)
        assert status(c)["failed"] == 1


async def test_a_failed_index_does_not_stop_the_others(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(
            new_job(completions=2, parallelism=2, completionMode="Indexed", backoffLimitPerIndex=0)
        )
        pods = await c.until(lambda: len(running(c)) == 2 and running(c))
        by_index = {job_pods.index(p): p for p in pods}
        await end(c, by_index[0], 1)
        await c.until(lambda: status(c).get("failedIndexes") == "0")
        await end(c, by_index[1])
        await c.until(lambda: conditions(c).get("Failed") == "FailedIndexes")
        assert status(c)["completedIndexes"] == "1"


async def test_the_policy_decides_what_a_failure_means(tmp_path: Path) -> None:
    rules = [
        {"action": "Ignore", "onExitCodes": {"operator": "In", "values": [3]}},
        {"action": "FailJob", "onExitCodes": {"operator": "In", "values": [42]}},
    ]
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(backoffLimit=0, podFailurePolicy={"rules": rules}))
        pods = await c.until(lambda: running(c))
        await end(c, pods[0], 3)
        again = await c.until(lambda: running(c))
        assert "failed" not in status(c)
        await end(c, again[0], 42)
        await c.until(lambda: conditions(c).get("Failed") == "PodFailurePolicy")
        entry = next(e for e in status(c)["conditions"] if e["type"] == "Failed")
        assert entry["message"] == (
            f"Container main for pod {meta.key(again[0])} failed with exit code 42"
            " matching FailJob rule at index 1"
        )


async def test_a_suspended_job_has_no_pods_until_it_goes_on(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(suspend=True))
        await c.until(lambda: conditions(c).get("Suspended"))
        assert "startTime" not in status(c)
        assert not c.list(kinds.POD)
        await c.change(kinds.JOB, "sum", {"spec": {"suspend": False}})
        await c.until(lambda: running(c))
        await c.until(lambda: not conditions(c))
        await c.change(kinds.JOB, "sum", {"spec": {"suspend": True}})
        await c.until(lambda: not c.list(kinds.POD))
        assert await c.events_of("Resumed")


async def test_a_deadline_ends_it(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(activeDeadlineSeconds=1))
        await c.until(lambda: running(c))
        await c.until(lambda: conditions(c).get("Failed") == "DeadlineExceeded")
        assert not c.list(kinds.POD)


async def test_it_goes_after_its_time_and_its_pods_with_it(tmp_path: Path) -> None:
    controllers = [*CONTROLLERS, ttl_after_finished.CONTROLLER]
    async with cluster(tmp_path, controllers, kubelets=False) as c:
        await c.create(new_job(ttlSecondsAfterFinished=1))
        pods = await c.until(lambda: running(c))
        await end(c, pods[0])
        await c.until(lambda: not c.list(kinds.JOB) and not c.list(kinds.POD))


async def test_pods_of_a_deleted_job_are_let_go_of(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(new_job(completions=2, parallelism=2))
        await c.until(lambda: len(running(c)) == 2)
        await c.client.delete(kinds.JOB, "sum", "default", propagation="Background")
        await c.until(lambda: not c.list(kinds.JOB) and not c.list(kinds.POD))


async def test_enough_of_some_indexes_is_success(tmp_path: Path) -> None:
    rules = [{"succeededIndexes": "0-1", "succeededCount": 1}]
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(
            new_job(
                completions=3,
                parallelism=3,
                completionMode="Indexed",
                successPolicy={"rules": rules},
            )
        )
        pods = await c.until(lambda: len(running(c)) == 3 and running(c))
        await end(c, next(p for p in pods if job_pods.index(p) == 1))
        await c.until(lambda: conditions(c).get("Complete") == "SuccessPolicy")
        assert status(c)["completedIndexes"] == "1"
