"""Budgets count their pods, and evictions keep to them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.controllers import deployment, disruption, replicaset
from meshkube.control.controllers.disruption import Count, count
from tests.support.cluster import Cluster, cluster, node
from tests.support.cluster import deployment as a_deployment

LABELS = {"app": "web"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"minAvailable": 2}, Count(3, 2, 3)),
        ({"minAvailable": "50%"}, Count(5, 3, 3)),
        ({"maxUnavailable": 1}, Count(5, 4, 3)),
        ({"maxUnavailable": "30%"}, Count(5, 3, 3)),
        ({"maxUnavailable": 9}, Count(5, 0, 3)),
        ({}, Count(3, 1, 3)),
    ],
)
def test_what_a_budget_asks_for(spec: Object, expected: Count) -> None:
    assert count(spec, 3, 3, 5) == expected


def test_what_may_go() -> None:
    assert Count(5, 3, 5).allowed == 2
    assert Count(5, 3, 2).allowed == 0
    assert Count(0, 0, 3).allowed == 0


def budget(name: str = "web", **spec: Any) -> Object:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": LABELS}, **spec},
    }


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Cluster]:
    controllers = (deployment.CONTROLLER, replicaset.CONTROLLER, disruption.CONTROLLER)
    async with cluster(tmp_path, controllers, nodes=[node("n")], scheduler=True) as made:
        await made.create(a_deployment())
        yield made


async def status(made: Cluster, **wanted: Any) -> Object:
    def current() -> Object | None:
        found = made.caches.of(kinds.POD_DISRUPTION_BUDGET).get("default/web") or {}
        held = found.get("status") or {}
        return held if wanted.items() <= held.items() else None

    found: Object = await made.until(current, f"status {wanted}")
    return found


async def evict(made: Cluster, pod: Object, **body: Any) -> None:
    eviction = {"metadata": {"name": meta.name(pod), "namespace": "default"}, **body}
    await made.client.create(kinds.POD, eviction, "default", subresource="eviction")


async def test_evictions_stop_where_the_budget_does(three: Cluster) -> None:
    await three.create(budget(minAvailable=2))
    found = await status(three, disruptionsAllowed=1)
    assert (found["currentHealthy"], found["desiredHealthy"], found["expectedPods"]) == (3, 2, 3)
    assert found["observedGeneration"] == 1
    assert found["conditions"][0]["reason"] == "SufficientPods"
    three.makes_ready = False
    pods = three.list(kinds.POD, "default")
    await evict(three, pods[0])
    await status(three, disruptionsAllowed=0)
    with pytest.raises(ApiError) as refused:
        await evict(three, pods[1])
    assert refused.value.code == 429
    assert refused.value.reason == "TooManyRequests"
    assert str(refused.value) == (
        "Cannot evict pod as it would violate the pod's disruption budget."
    )
    cause = refused.value.details["causes"][0]
    assert cause["reason"] == "DisruptionBudget"
    assert cause["message"].startswith("The disruption budget web needs 2 healthy pods and has")
    # The next pod becomes ready: one more may go.
    three.makes_ready = True
    await three.client.patch(
        kinds.POD, meta.name(pods[1]), {"metadata": {"labels": {"wake": "kubelets"}}}, "default"
    )
    await status(three, disruptionsAllowed=1)
    await evict(three, pods[1])


async def test_a_budget_in_percent_follows_the_scale(three: Cluster) -> None:
    await three.create(budget(maxUnavailable="34%"))
    await status(three, disruptionsAllowed=2, desiredHealthy=1, expectedPods=3)
    await three.change(kinds.DEPLOYMENT, "web", {"spec": {"replicas": 6}})
    await status(three, disruptionsAllowed=3, desiredHealthy=3, expectedPods=6)


async def test_a_dry_run_evicts_nothing_and_spends_nothing(three: Cluster) -> None:
    await three.create(budget(minAvailable=2))
    await status(three, disruptionsAllowed=1)
    pod = three.list(kinds.POD, "default")[0]
    await evict(three, pod, deleteOptions={"dryRun": ["All"]})
    stored = await three.client.get(kinds.POD, meta.name(pod), "default")
    assert not meta.deleting(stored)
    await status(three, disruptionsAllowed=1)


async def test_two_budgets_over_one_pod_are_refused(three: Cluster) -> None:
    for name in ("web", "other"):
        await three.create(budget(name, minAvailable=1))
    await three.until(lambda: len(three.list(kinds.POD, "default")) == 3)
    await status(three, disruptionsAllowed=2)
    with pytest.raises(ApiError) as refused:
        await evict(three, three.list(kinds.POD, "default")[0])
    assert refused.value.code == 500
    assert "more than one PodDisruptionBudget" in str(refused.value)


async def test_pods_nobody_scales_leave_a_percentage_without_meaning(tmp_path: Path) -> None:
    owner = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "j",
        "uid": "u",
        "controller": True,
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "labels": LABELS, "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    async with cluster(tmp_path, (disruption.CONTROLLER,)) as made:
        await made.create(pod)
        await made.create(budget(maxUnavailable="50%"))

        def failed() -> bool:
            [found] = made.list(kinds.POD_DISRUPTION_BUDGET)
            return bool((found.get("status") or {}).get("conditions"))

        await made.until(failed, "the budget says why")
        found = await status(made, disruptionsAllowed=0)
        condition = found["conditions"][0]
        assert condition["reason"] == "SyncFailed"
        assert condition["message"] == 'found no controllers for pod "p"'
