"""What a node gives of the resources a pod asks for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.node.resizing import (
    as_given,
    decide,
    given_at_first,
    lacks,
    needs_restart,
    resources_of,
    room,
)
from meshkube.node.resources import limits_on, memory_request
from meshkube.node.runtime import PodRef, Record


def running(container: Object) -> Record:
    return Record(
        id="1",
        pod=PodRef("default", "p", "u"),
        name="c",
        attempt=0,
        state="running",
        created=datetime(2026, 1, 1, tzinfo=UTC),
        limits=limits_on(container),
        memory_request=memory_request(container),
    )


DEFERRED = "Deferred: Node didn't have enough resource: "
INFEASIBLE = "Infeasible: Node didn't have enough capacity: "
NODE = {"cpu": "2", "memory": "1Gi"}


def pod(cpu: str, memory: str = "64Mi", *, limit: str = "", **status: Any) -> Object:
    resources: Object = {"requests": {"cpu": cpu, "memory": memory}}
    if limit:
        resources["limits"] = {"cpu": limit}
    container = {"name": "c", "resources": resources}
    return {"spec": {"containers": [container]}, "status": status}


@pytest.mark.parametrize(
    ("others", "cpu", "memory", "expected"),
    [
        ((), "2", "1Gi", None),
        (("2",), "50m", "32Mi", None),
        (
            ("1",),
            "1",
            "1Gi",
            DEFERRED + "memory, requested: 1073741824, used: 67108864, capacity: 1073741824",
        ),
        (("1",), "1500m", "64Mi", DEFERRED + "cpu, requested: 1500, used: 1000, capacity: 2000"),
        ((), "3", "64Mi", INFEASIBLE + "cpu, requested: 3000, capacity: 2000"),
        (("1",), "1", "2Gi", INFEASIBLE + "memory, requested: 2147483648, capacity: 1073741824"),
    ],
)
def test_a_node_gives_what_it_has(
    others: tuple[str, ...], cpu: str, memory: str, expected: str | None
) -> None:
    old, new = pod("100m"), pod(cpu, memory)
    given, waiting = decide(new, resources_of(old), room(NODE, [pod(each) for each in others]))
    assert given == resources_of(new if expected is None else old)
    assert (waiting and ": ".join(waiting)) == expected


def test_pods_that_have_ended_hold_nothing() -> None:
    ended = pod("2", phase="Succeeded")
    assert room(NODE, [ended, pod("1")]).used["cpu"] == 1000


def test_others_hold_what_they_were_given() -> None:
    other = pod("2", containerStatuses=[{"name": "c", "allocatedResources": {"cpu": "500m"}}])
    other["status"]["conditions"] = [{"type": "PodResizePending", "reason": "Infeasible"}]
    assert room(NODE, [other]).used["cpu"] == 500


def test_a_new_agent_finds_what_was_given() -> None:
    before = {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m"}}
    entry = {"name": "c", "allocatedResources": before["requests"], "resources": before}
    waiting = pod("9", limit="9", containerStatuses=[entry])
    assert given_at_first(waiting) == {"c": before}
    assert as_given(waiting, {"c": before})["spec"]["containers"][0]["resources"] == before
    same = pod("100m", limit="200m", containerStatuses=[entry])
    assert as_given(same, given_at_first(same)) is same
    assert given_at_first(pod("1")) == resources_of(pod("1"))


@pytest.mark.parametrize(
    ("policy", "cpu", "expected"),
    [("cpu", "2", True), ("memory", "2", False), ("cpu", "1", False)],
)
def test_a_policy_asks_for_a_new_container(policy: str, cpu: str, expected: bool) -> None:
    (old,) = pod("1")["spec"]["containers"]
    (new,) = pod(cpu)["spec"]["containers"]
    new["resizePolicy"] = [{"resourceName": policy, "restartPolicy": "RestartContainer"}]
    assert needs_restart(new, running(old)) is expected


@pytest.mark.parametrize(
    ("policy", "known", "expected"),
    [("RestartContainer", True, True), ("RestartContainer", False, False),
     ("NotRequired", True, False)],
)  # fmt: skip
def test_another_request_of_memory_is_a_change_to_a_policy_that_restarts(
    policy: str, known: bool, expected: bool
) -> None:
    (old,) = pod("1")["spec"]["containers"]
    (new,) = pod("1", "32Mi")["spec"]["containers"]
    new["resizePolicy"] = [{"resourceName": "memory", "restartPolicy": policy}]
    # Containers of an older version do not say what they asked for.
    record = running(old) if known else replace(running(old), memory_request=None)
    assert (lacks(new, record), needs_restart(new, record)) == (expected, expected)
