"""What `pods/resize` takes and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api import meta
from meshkube.api.allocation import held
from meshkube.api.types import Object
from meshkube.api.validation.resizing import only_resized, validate_resize


def resources(requests: Object | None = None, limits: Object | None = None) -> Object:
    return {"requests": requests or {}, "limits": limits or {}}


def pod(*containers: Object, **spec: Any) -> Object:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


def container(name: str = "c", resources: Object | None = None, **more: Any) -> Object:
    return {"name": name, "image": "i", "resources": resources or {}, **more}


SMALL = resources({"cpu": "100m", "memory": "64Mi"}, {"cpu": "200m", "memory": "128Mi"})
BEFORE = pod(
    container(resources=SMALL),
    initContainers=[
        container("first", resources=SMALL),
        container("side", resources=SMALL, restartPolicy="Always"),
    ],
)
INIT = BEFORE["spec"]["initContainers"]
RESTART = {"resourceName": "memory", "restartPolicy": "RestartContainer"}


def asked(field: str, index: int, new: Object, old: Object = BEFORE, **more: Any) -> Object:
    found = meta.copy(old)
    found["spec"][field][index] |= {"resources": new, **more}
    return found


def faults(wanted: Object, old: Object = BEFORE) -> list[str]:
    new = {**wanted, "spec": only_resized(wanted, old)}
    return [str(fault) for fault in validate_resize(new, old)]


@pytest.mark.parametrize(
    ("field", "index", "new"),
    [
        ("containers", 0, resources({"cpu": "150m", "memory": "64Mi"}, SMALL["limits"])),
        ("containers", 0, resources(SMALL["requests"], {"cpu": "1", "memory": "1Gi"})),
        ("initContainers", 1, resources(SMALL["requests"], {"cpu": "50m", "memory": "128Mi"})),
    ],
)
def test_cpu_and_memory_may_change(field: str, index: int, new: Object) -> None:
    assert faults(asked(field, index, new)) == []


def test_only_resources_are_taken_over() -> None:
    wanted = meta.copy(BEFORE)
    wanted["spec"]["containers"][0]["image"] = "other"
    wanted["spec"]["hostNetwork"] = True
    assert only_resized(wanted, BEFORE) == BEFORE["spec"]


EPHEMERAL = {**SMALL["limits"], "ephemeral-storage": "1Gi"}


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (
            asked("containers", 0, resources({"cpu": "100m"}, SMALL["limits"])),
            "spec.containers[0].resources: Forbidden: resource requests cannot be removed",
        ),
        (
            asked("containers", 0, resources(SMALL["requests"], {"cpu": "200m"})),
            "spec.containers[0].resources: Forbidden: resource limits cannot be removed",
        ),
        (
            asked("containers", 0, resources(SMALL["requests"], {"cpu": "1", "memory": "100Mi"})),
            "spec.containers[0].resources.limits[memory]: Forbidden: memory limits cannot be"
            " decreased unless resizePolicy is RestartContainer",
        ),
        (
            asked("containers", 0, resources(SMALL["requests"], EPHEMERAL)),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            asked("containers", 0, SMALL, resizePolicy=[RESTART]),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            asked("initContainers", 0, resources(SMALL["requests"], {"cpu": "1", "memory": "1Gi"})),
            "spec.initContainers[0].resources: Forbidden: resources for non-sidecar init"
            " containers are immutable",
        ),
        (
            pod(
                container("other", resources=SMALL), initContainers=BEFORE["spec"]["initContainers"]
            ),
            "spec.containers[0].name: Forbidden: containers may not be renamed or reordered on"
            " resize",
        ),
        (
            pod(
                *BEFORE["spec"]["containers"],
                container("more"),
                initContainers=INIT,
            ),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
    ],
)
def test_the_rest_is_refused(wanted: Object, expected: str) -> None:
    assert faults(wanted) == [expected]


def test_a_pod_stays_in_its_class() -> None:
    old = pod(container(resources=SMALL))
    same = {"cpu": "200m", "memory": "128Mi"}
    (fault,) = faults(asked("containers", 0, resources(same, same), old), old)
    assert fault == (
        'spec: Invalid value: "Guaranteed": Pod QOS Class may not change as a result of resizing'
    )


def test_memory_shrinks_with_a_new_container() -> None:
    old = pod(container(resources=SMALL, resizePolicy=[RESTART]))
    less = resources(SMALL["requests"], {"cpu": "200m", "memory": "64Mi"})
    assert faults(asked("containers", 0, less, old), old) == []


def test_pods_with_resources_of_their_own_are_not_resized() -> None:
    old = pod(container(resources=SMALL), resources={"limits": {"cpu": "1"}})
    assert faults(meta.copy(old), old) == [
        "Forbidden: pods with pod-level resources cannot be resized"
    ]


@pytest.mark.parametrize(
    ("asks", "given", "reason", "counted"),
    [
        ({"cpu": "1"}, {"cpu": "1"}, "", {"cpu": "1"}),
        ({"cpu": "2"}, {"cpu": "1"}, "Deferred", {"cpu": "2"}),
        ({"cpu": "2"}, {"cpu": "1"}, "Infeasible", {"cpu": "1"}),
        ({"cpu": "1"}, {"cpu": "2"}, "", {"cpu": "2"}),
        (
            {"cpu": "1", "memory": "2Gi"},
            {"cpu": "2", "memory": "1Gi"},
            "",
            {"cpu": "2", "memory": "2Gi"},
        ),
    ],
)
def test_the_larger_of_asked_and_given_counts(
    asks: Object, given: Object, reason: str, counted: Object
) -> None:
    obj = pod(container(resources=resources(asks)))
    obj["status"] = {
        "containerStatuses": [{"name": "c", "allocatedResources": given}],
        "conditions": [{"type": "PodResizePending", "reason": reason}] if reason else [],
    }
    spec = held(obj)
    assert spec["containers"][0]["resources"]["requests"] == counted
    assert (spec is obj["spec"]) is (asks == given)
