"""What a Deployment says of its rollout, and when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import deployment_status, revisions
from meshkube.control.controllers.deployment import limits_of, plan

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def deployment(replicas: int = 2, status: Object | None = None, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default", "uid": "d", "generation": 3},
        "spec": {
            "replicas": replicas,
            "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template("1"),
            **spec,
        },
        "status": status or {},
    }


def template(image: str) -> Object:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"image": image}]}}


def replica_set(
    image: str, replicas: int, available: int | None = None, revision: int = 1
) -> Object:
    ready = replicas if available is None else available
    made = template(image)
    made["metadata"]["labels"]["pod-template-hash"] = image
    return {
        "metadata": {
            "name": f"web-{image}",
            "uid": image,
            "annotations": {revisions.REVISION: str(revision)},
        },
        "spec": {"replicas": replicas, "template": made},
        "status": {"replicas": replicas, "readyReplicas": ready, "availableReplicas": ready},
    }


def after(d: Object, now: datetime, *sets: Object, fact: Any = None) -> tuple[Object, float | None]:
    new, old = revisions.split(d, sets)
    status, wait = deployment_status.compute(d, new, old, limits_of(d), now, fact)
    return {**d, "status": status}, wait


def progressing(d: Object) -> tuple[str, str, str]:
    entry = pods.condition(d, "Progressing")
    assert entry is not None
    return entry["status"], entry["reason"], entry["message"]


def test_a_rollout_from_made_to_done() -> None:
    d, _ = after(deployment(), NOW, fact=deployment_status.created("web-1"))
    assert progressing(d) == ("True", "NewReplicaSetCreated", 'Created new replica set "web-1"')
    d, wait = after(d, NOW, replica_set("1", 2, 0))
    assert progressing(d) == ("True", "ReplicaSetUpdated", 'ReplicaSet "web-1" is progressing.')
    assert wait == 600
    assert d["status"]["unavailableReplicas"] == 2
    assert pods.condition(d, "Available")["status"] == "False"  # type: ignore[index]
    d, wait = after(d, NOW, replica_set("1", 2))
    done = 'ReplicaSet "web-1" has successfully progressed.'
    assert progressing(d) == ("True", "NewReplicaSetAvailable", done)
    assert wait is None
    assert d["status"]["observedGeneration"] == 3
    assert "unavailableReplicas" not in d["status"]
    # A pod that fails later does not question the rollout.
    d, wait = after(d, NOW + timedelta(days=1), replica_set("1", 2, 1))
    assert progressing(d)[1] == "NewReplicaSetAvailable"


def test_a_rollout_that_stands_still_times_out_and_can_recover() -> None:
    d, _ = after(deployment(), NOW, replica_set("1", 2, 0))
    d, wait = after(d, NOW + timedelta(seconds=500), replica_set("1", 2, 0))
    assert progressing(d)[1] == "ReplicaSetUpdated"
    assert wait == 101
    d, wait = after(d, NOW + timedelta(seconds=601), replica_set("1", 2, 0))
    late = 'ReplicaSet "web-1" has timed out progressing.'
    assert progressing(d) == ("False", "ProgressDeadlineExceeded", late)
    assert wait is None
    d, _ = after(d, NOW + timedelta(seconds=700), replica_set("1", 2, 1))
    assert progressing(d)[1] == "ReplicaSetUpdated"
    d, _ = after(d, NOW + timedelta(seconds=700), replica_set("1", 2))
    assert progressing(d)[1] == "NewReplicaSetAvailable"


def test_progress_renews_the_deadline() -> None:
    d, _ = after(deployment(), NOW, replica_set("1", 2, 0))
    d, _ = after(d, NOW + timedelta(seconds=400), replica_set("1", 2, 1))
    d, wait = after(d, NOW + timedelta(seconds=900), replica_set("1", 2, 1))
    assert progressing(d)[1] == "ReplicaSetUpdated"
    assert wait == 101


def test_pausing_and_resuming_shows() -> None:
    d, _ = after(deployment(), NOW, replica_set("1", 2, 1))
    d["spec"]["paused"] = True
    d, wait = after(d, NOW, replica_set("1", 2, 1))
    assert progressing(d) == ("Unknown", "DeploymentPaused", "Deployment is paused")
    assert wait is None
    d["spec"]["paused"] = False
    d, _ = after(d, NOW, replica_set("1", 2, 1))
    assert progressing(d)[1] == "DeploymentResumed"


def test_without_a_deadline_progress_is_not_judged() -> None:
    d, wait = after(deployment(progressDeadlineSeconds=2**31 - 1), NOW, replica_set("1", 2))
    assert pods.condition(d, "Progressing") is None
    assert wait is None


def test_why_pods_cannot_be_made_is_passed_on() -> None:
    broken = replica_set("1", 2, 0)
    broken["status"]["conditions"] = [
        {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota"}
    ]
    d, _ = after(deployment(), NOW, broken)
    assert pods.condition(d, "ReplicaFailure")["message"] == "quota"  # type: ignore[index]
    d, _ = after(d, NOW, replica_set("1", 2))
    assert pods.condition(d, "ReplicaFailure") is None


def test_small_percentages_still_move() -> None:
    strategy = {"rollingUpdate": {"maxSurge": "0%", "maxUnavailable": "10%"}}
    limits = limits_of(deployment(2, strategy=strategy))
    assert (limits.surge, limits.unavailable) == (0, 1)
    limits = limits_of(deployment(10))
    assert (limits.surge, limits.unavailable) == (3, 2)


def test_the_hash_is_of_the_template_and_the_collisions() -> None:
    one, other = template("1"), template("2")
    assert revisions.template_hash(one, 0) == revisions.template_hash(template("1"), 0)
    assert revisions.template_hash(one, 0) != revisions.template_hash(other, 0)
    assert revisions.template_hash(one, 0) != revisions.template_hash(one, 1)
    assert set(revisions.template_hash(one, 0)) <= set(meta.SUFFIX_ALPHABET)


def test_going_back_makes_the_old_template_the_newest_revision() -> None:
    sets = [replica_set("1", 0, revision=1), replica_set("2", 2, revision=2)]
    todo = plan(deployment(), sets, True)
    assert todo.create is None
    assert todo.revision == 3
    changed = {meta.name(new): new for _, new in todo.update}
    noted = meta.annotations(changed["web-1"])
    assert (noted[revisions.REVISION], noted[revisions.HISTORY]) == ("3", "1")


def test_nothing_is_written_when_all_is_well() -> None:
    d = deployment()
    settled = [new for _, new in plan(d, [replica_set("1", 2)], False).update]
    todo = plan(d, settled, False)
    assert todo.update == []
    assert todo.create is None
