"""What a deletion does, as a table of cases."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.control.apiserver.deletion import finished, plan
from meshkube.control.apiserver.options import DeleteOptions

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def pod(node: str = "n1", phase: str = "Running", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "d", "uid": "u", "resourceVersion": "5", **metadata},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 20},
        "status": {"phase": phase},
    }


@pytest.mark.parametrize(
    ("obj", "options"),
    [
        (pod(node=""), DeleteOptions()),
        (pod(phase="Succeeded"), DeleteOptions()),
        (pod(phase="Failed"), DeleteOptions()),
        (pod(), DeleteOptions(grace_period=0)),
        (pod(deletionTimestamp="x", deletionGracePeriodSeconds=20), DeleteOptions(grace_period=0)),
        (pod(node="", finalizers=["orphan"]), DeleteOptions(propagation="Background")),
    ],
    ids=["no node", "succeeded", "failed", "grace 0", "again with grace 0", "background"],
)
def test_a_pod_goes_at_once_when_nothing_holds_it(
    obj: dict[str, Any], options: DeleteOptions
) -> None:
    assert plan(kinds.POD, obj, options, NOW).remove


def test_a_running_pod_gets_its_grace_period_first() -> None:
    marked = plan(kinds.POD, pod(), DeleteOptions(), NOW).marked
    assert marked is not None
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-02T03:04:25Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 20
    assert not finished(kinds.POD, marked)


def test_the_grace_period_can_be_shortened_and_not_lengthened() -> None:
    once = plan(kinds.POD, pod(), DeleteOptions(grace_period=10), NOW).marked
    assert once is not None
    shorter = plan(kinds.POD, once, DeleteOptions(grace_period=3), NOW).marked
    assert shorter is not None
    assert shorter["metadata"]["deletionGracePeriodSeconds"] == 3
    longer = plan(kinds.POD, once, DeleteOptions(grace_period=60), NOW)
    assert (longer.remove, longer.marked) == (False, None)


def test_finalizers_hold_an_object_of_any_kind() -> None:
    obj = {"metadata": {"name": "c", "uid": "u", "finalizers": ["example.com/x"]}}
    marked = plan(kinds.CONFIG_MAP, obj, DeleteOptions(), NOW).marked
    assert marked is not None
    assert marked["metadata"]["deletionTimestamp"] == "2026-01-02T03:04:05Z"
    assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
    assert "deletionTimestamp" not in obj["metadata"]
    assert not finished(kinds.CONFIG_MAP, marked)
    del marked["metadata"]["finalizers"]
    assert finished(kinds.CONFIG_MAP, marked)


@pytest.mark.parametrize(
    ("propagation", "finalizers"),
    [("Foreground", ["x", "foregroundDeletion"]), ("Orphan", ["x", "orphan"])],
)
def test_propagation_is_a_finalizer(propagation: Any, finalizers: list[str]) -> None:
    obj = {"metadata": {"name": "d", "uid": "u", "generation": 3, "finalizers": ["x", "orphan"]}}
    marked = plan(kinds.DEPLOYMENT, obj, DeleteOptions(propagation=propagation), NOW).marked
    assert marked is not None
    assert marked["metadata"]["finalizers"] == finalizers
    assert marked["metadata"]["generation"] == 4


def test_a_namespace_terminates_until_it_is_finalized() -> None:
    namespace = {"metadata": {"name": "n", "uid": "u"}, "spec": {"finalizers": ["kubernetes"]}}
    marked = plan(kinds.NAMESPACE, namespace, DeleteOptions(), NOW).marked
    assert marked is not None
    assert marked["status"]["phase"] == "Terminating"
    assert not finished(kinds.NAMESPACE, marked)
    marked["spec"] = {}
    assert finished(kinds.NAMESPACE, marked)


@pytest.mark.parametrize(
    "options", [DeleteOptions(uid="other"), DeleteOptions(resource_version="4")]
)
def test_preconditions_that_do_not_hold_are_a_conflict(options: DeleteOptions) -> None:
    with pytest.raises(ApiError) as error:
        plan(kinds.POD, pod(), options, NOW)
    assert error.value.code == 409
    assert "precondition" in error.value.message


def test_options_are_read_from_their_object() -> None:
    body = {
        "gracePeriodSeconds": 5,
        "propagationPolicy": "Orphan",
        "preconditions": {"uid": "u", "resourceVersion": "9"},
        "dryRun": ["All"],
    }
    assert DeleteOptions.of(body) == DeleteOptions("Orphan", 5, "u", "9", True)
    assert DeleteOptions.of({"orphanDependents": False}).propagation == "Background"


@pytest.mark.parametrize(
    ("kind", "options", "finalizers"),
    [
        (kinds.JOB, DeleteOptions(), ["orphan"]),
        (kinds.REPLICATION_CONTROLLER, DeleteOptions(), ["orphan"]),
        (kinds.JOB, DeleteOptions(propagation="Foreground"), ["foregroundDeletion"]),
    ],
)
def test_the_oldest_owners_keep_their_pods_where_nobody_says_otherwise(
    kind: kinds.Kind, options: DeleteOptions, finalizers: list[str]
) -> None:
    obj = {"metadata": {"name": "j", "namespace": "d", "uid": "u", "resourceVersion": "5"}}
    marked = plan(kind, obj, options, NOW).marked
    assert marked is not None
    assert marked["metadata"]["finalizers"] == finalizers
    assert plan(kind, obj, DeleteOptions(propagation="Background"), NOW).remove
    assert plan(kinds.REPLICA_SET, obj, DeleteOptions(), NOW).remove
