"""Objects that are served in more than one form."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import conversion, kinds
from meshkube.api.types import Object

V1, V2 = kinds.HORIZONTAL_POD_AUTOSCALER_V1, kinds.HORIZONTAL_POD_AUTOSCALER


def autoscaler(**spec: Any) -> Object:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "annotations": {"mine": "kept"}},
        "spec": {"scaleTargetRef": target, "maxReplicas": 5, **spec},
    }


def resource(name: str, **target: Any) -> Object:
    return {"type": "Resource", "resource": {"name": name, "target": target}}


def test_a_share_of_the_cpu_is_a_field_of_v1() -> None:
    stored = autoscaler(metrics=[resource("cpu", type="Utilization", averageUtilization=70)])
    seen = conversion.from_stored(V1, stored)
    assert seen["apiVersion"] == "autoscaling/v1"
    assert seen["spec"]["targetCPUUtilizationPercentage"] == 70
    assert "metrics" not in seen["spec"]
    assert seen["metadata"]["annotations"] == {"mine": "kept"}
    assert conversion.to_stored(V1, seen) == stored


def test_v1_without_a_target_means_80_percent_of_the_cpu() -> None:
    old = {**autoscaler(), "apiVersion": "autoscaling/v1"}
    metrics = conversion.to_stored(V1, old)["spec"]["metrics"]
    assert metrics == [resource("cpu", type="Utilization", averageUtilization=80)]


METRICS = [
    resource("cpu", type="Utilization", averageUtilization=50),
    resource("memory", type="AverageValue", averageValue="1Gi"),
    {
        "type": "ContainerResource",
        "containerResource": {
            "name": "cpu",
            "container": "app",
            "target": {"type": "Utilization", "averageUtilization": 60},
        },
    },
    {
        "type": "Pods",
        "pods": {
            "metric": {"name": "requests", "selector": {"matchLabels": {"a": "b"}}},
            "target": {"type": "AverageValue", "averageValue": "10"},
        },
    },
    {
        "type": "Object",
        "object": {
            "describedObject": {"kind": "Ingress", "name": "i"},
            "metric": {"name": "hits"},
            "target": {"type": "Value", "value": "100"},
        },
    },
    {
        "type": "External",
        "external": {
            "metric": {"name": "queue"},
            "target": {"type": "AverageValue", "averageValue": "30"},
        },
    },
]
BEHAVIOR = {
    "scaleDown": {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Pods", "value": 1, "periodSeconds": 30}],
    }
}


@given(st.permutations(METRICS), st.integers(1, len(METRICS)), st.booleans())
def test_nothing_is_lost_by_a_client_of_v1(metrics: list[Object], many: int, behave: bool) -> None:
    extra = {"behavior": BEHAVIOR} if behave else {}
    stored = autoscaler(metrics=metrics[:many], **extra)
    before = copy.deepcopy(stored)
    seen = conversion.from_stored(V1, stored)
    back = conversion.to_stored(V1, seen)
    assert stored == before
    # The CPU's share goes last, as on any cluster.
    key = lambda metric: str(metric)  # noqa: E731
    assert sorted(back["spec"].pop("metrics"), key=key) == sorted(
        stored["spec"].pop("metrics"), key=key
    )
    assert back == stored


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", '{"a": 1}', '[{"type": "Odd"}]'])
def test_annotations_that_hold_nonsense_do_no_harm(text: str) -> None:
    names = ("metrics", "current-metrics", "conditions", "behavior")
    notes = {f"autoscaling.alpha.kubernetes.io/{name}": text for name in names}
    old = {**autoscaler(), "apiVersion": "autoscaling/v1"}
    old["metadata"]["annotations"] = notes
    assert conversion.to_stored(V1, old)["apiVersion"] == "autoscaling/v2"


@pytest.mark.parametrize("kind", kinds.KINDS, ids=lambda kind: f"{kind.api_version} {kind.kind}")
def test_every_form_goes_to_its_stored_kind(kind: kinds.Kind) -> None:
    obj = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {"name": "x"}}
    stored = conversion.to_stored(kind, obj)
    assert stored["apiVersion"] == kind.storage.api_version
    assert conversion.from_stored(kind, stored)["apiVersion"] == kind.api_version
    assert kind.storage in kinds.STORED
