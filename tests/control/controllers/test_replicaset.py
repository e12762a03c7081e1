"""How many pods are made, and which go first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers.pod_control import BURST, pod_of
from meshkube.control.controllers.replicaset import plan, status, victims

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def replica_set(replicas: int | None = 3, **spec: Any) -> Object:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}
    return {
        "metadata": {"name": "web", "namespace": "default", "uid": "rs", "generation": 4},
        "spec": {"replicas": replicas, "template": template, **spec},
    }


def pod(
    name: str, *, node: str = "n1", phase: str = "Running", ready: bool = True, age: float = 1000,
    ready_for: float = 500, restarts: int = 0, cost: str = "", deleting: bool = False,
) -> Object:  # fmt: skip
    condition = {
        "type": "Ready",
        "status": str(ready),
        "lastTransitionTime": meta.timestamp(NOW - timedelta(seconds=ready_for)),
    }
    metadata: Object = {
        "name": name,
        "uid": name,
        "labels": {"app": "web"},
        "creationTimestamp": meta.timestamp(NOW - timedelta(seconds=age)),
    }
    if cost:
        metadata["annotations"] = {"controller.kubernetes.io/pod-deletion-cost": cost}
    if deleting:
        metadata["deletionTimestamp"] = meta.timestamp(NOW)
    return {
        "metadata": metadata,
        "spec": {"nodeName": node} if node else {},
        "status": {
            "phase": phase,
            "conditions": [condition],
            "containerStatuses": [{"restartCount": restarts}],
        },
    }


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pod("a", node="", ready=False), pod("b", ready=False)),
        (pod("a", phase="Pending", ready=False), pod("b", ready=False)),
        (pod("a", ready=False), pod("b")),
        (pod("a", cost="-5"), pod("b")),
        (pod("a"), pod("b", cost="10")),
        (pod("a", ready_for=2), pod("b", ready_for=500)),
        (pod("a", restarts=3), pod("b")),
        (pod("a", age=600), pod("b", age=86400)),
    ],
)
def test_the_pod_that_is_missed_least_goes_first(first: Object, second: Object) -> None:
    assert victims([second, first], 1, NOW) == [first]
    assert victims([first, second], 1, NOW) == [first]


def test_doubled_up_pods_go_before_lone_ones() -> None:
    living = [pod("a", node="n1"), pod("b", node="n2"), pod("c", node="n2")]
    (gone,) = victims(living, 1, NOW)
    assert gone["spec"]["nodeName"] == "n2"


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 30),
    st.lists(
        st.tuples(
            st.sampled_from(["Pending", "Running", "Failed", "Succeeded"]),
            st.booleans(),
            st.booleans(),
        ),
        max_size=40,
    ),
)
def test_a_plan_brings_exactly_the_wanted_number(
    replicas: int, shapes: list[tuple[str, bool, bool]]
) -> None:
    owned = [
        pod(f"p{n}", phase=phase, ready=ready, deleting=deleting)
        for n, (phase, ready, deleting) in enumerate(shapes)
    ]
    todo = plan(replica_set(replicas), owned, NOW)
    living = [p for p in owned if pods.active(p)]
    assert not (todo.create and todo.delete)
    assert all(p in living for p in todo.delete)
    assert len(living) + todo.create - len(todo.delete) == replicas


def test_one_go_is_bounded() -> None:
    assert plan(replica_set(2000), [], NOW).create == BURST
    assert plan(replica_set(None), [], NOW).create == 1


def test_the_status_counts_and_says_when_it_changes_by_itself() -> None:
    owned = [pod("a", ready_for=100), pod("b", ready_for=4), pod("c", ready=False)]
    found, wait = status(replica_set(minReadySeconds=10), owned, NOW)
    assert found == {
        "replicas": 3,
        "fullyLabeledReplicas": 3,
        "readyReplicas": 2,
        "availableReplicas": 1,
        "observedGeneration": 4,
    }
    assert wait == 6
    failed, _ = status(replica_set(), [], NOW, "no room")
    assert failed["conditions"][0]["message"] == "no room"
    again, _ = status({**replica_set(), "status": failed}, [], NOW + timedelta(9), "no room")
    assert again == failed
    cured, _ = status({**replica_set(), "status": failed}, [], NOW)
    assert "conditions" not in cured


def test_a_pod_is_made_of_the_template_and_owned() -> None:
    owner = replica_set()
    made = pod_of(kinds.REPLICA_SET, owner, owner["spec"]["template"])
    assert made["metadata"]["generateName"] == "web-"
    assert made["metadata"]["labels"] == {"app": "web"}
    assert meta.controller_of(made)["uid"] == "rs"  # type: ignore[index]
