"""How many replicas a metric asks for: the documented algorithm, by tables and by properties."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control.autoscaling import Autoscaling
from meshkube.control.controllers.hpa_replicas import (
    Groups,
    NoProposal,
    Sample,
    Tolerance,
    for_average,
    for_utilization,
    group,
    requests,
    samples_of,
)

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
USUAL = Tolerance(0.1, 0.1)


def ago(seconds: float) -> str:
    return meta.timestamp(NOW - timedelta(seconds=seconds))


def pod(
    name: str, *, phase: str = "Running", ready: str | None = "True", changed: float = 900,
    started: float = 1000, cpu: str = "100m", **metadata: Any,
) -> Object:  # fmt: skip
    conditions = [{"type": "Ready", "status": ready, "lastTransitionTime": ago(changed)}]
    return {
        "metadata": {"name": name, "namespace": "default", **metadata},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]},
        "status": {
            "phase": phase,
            "startTime": ago(started),
            "conditions": conditions if ready else [],
        },
    }


def sample(value: int, before: float = 5, window: float = 15) -> Sample:
    return Sample(value, NOW - timedelta(seconds=before), window)


@pytest.mark.parametrize(
    ("one", "where"),
    [
        (pod("p"), "ready"),
        (pod("p", phase="Failed"), "ignored"),
        (pod("p", deletionTimestamp=ago(1)), "ignored"),
        (pod("p", phase="Pending"), "unready"),
        (pod("p", ready=None), "unready"),
        # It starts up: ready, but the sample is from before that.
        (pod("p", started=60, changed=10), "unready"),
        (pod("p", started=60, changed=40), "ready"),
        (pod("p", started=60, ready="False", changed=40), "unready"),
        # Later on: unready now, but it has been ready.
        (pod("p", started=1000, ready="False", changed=40), "ready"),
        (pod("p", started=1000, ready="False", changed=990), "unready"),
    ],
)
def test_what_a_pods_cpu_is_worth(one: Object, where: str) -> None:
    found = group([one], {"p": sample(1)}, "cpu", Autoscaling(), NOW)
    names = {"unready": found.unready, "ignored": found.ignored, "missing": found.missing}
    assert [key for key, pods in names.items() if pods] == ([] if where == "ready" else [where])
    assert found.ready == (where == "ready")


def test_memory_counts_from_the_start_and_what_has_no_sample_is_missing() -> None:
    young = pod("p", started=10, ready="False", changed=5)
    assert group([young], {"p": sample(1)}, "memory", Autoscaling(), NOW).ready == 1
    assert group([young], {}, "memory", Autoscaling(), NOW).missing == {"p"}


def propose(
    values: list[int], target: int, *, current: int = 0, missing: int = 0, unready: int = 0,
    asked: int = 100, tolerance: Tolerance = USUAL,
) -> int:  # fmt: skip
    """Pods that use these amounts of what they asked for, and some that say nothing."""
    samples = {f"p{index}": sample(value) for index, value in enumerate(values)}
    away, young = {f"m{n}" for n in range(missing)}, {f"u{n}" for n in range(unready)}
    samples |= {name: sample(10 * asked) for name in young}
    groups = Groups(len(values), unready=young, missing=away)
    wanted = dict.fromkeys([*samples, *away], asked)
    current = current or len(wanted)
    return for_utilization(current, target, samples, groups, wanted, tolerance).replicas


@pytest.mark.parametrize(
    ("values", "target", "more", "replicas"),
    [
        ([200, 200], 50, {}, 8),
        ([60, 60], 60, {}, 2),
        ([65, 65], 60, {}, 2),  # within a tenth
        ([66, 67], 60, {}, 2),
        ([70, 70], 60, {}, 3),
        ([10, 10, 10, 10], 50, {}, 1),
        ([0, 0], 50, {}, 0),
        # Missing pods use nothing where it would scale up, all they asked for where down.
        ([200, 200], 50, {"missing": 2}, 8),
        ([100], 50, {"missing": 1}, 2),
        ([10], 50, {"missing": 1}, 2),
        ([10, 10, 10], 50, {"missing": 1}, 3),
        # Pods that start up hold back scaling up, and say nothing about scaling down.
        ([100], 50, {"unready": 1}, 2),
        ([200], 50, {"unready": 1}, 4),
        ([10, 10], 50, {"unready": 1}, 1),
        # A change of direction by guesses is none.
        ([60, 60], 50, {"missing": 2, "current": 4}, 4),
    ],
)
def test_utilization(values: list[int], target: int, more: dict[str, int], replicas: int) -> None:
    assert propose(values, target, **more) == replicas  # type: ignore[arg-type]


def test_tolerance_may_differ_by_direction() -> None:
    wide_up = Tolerance(0.5, 0.0)
    assert propose([70, 70], 50, tolerance=wide_up) == 2
    assert propose([80, 80], 50, tolerance=wide_up) == 4
    assert propose([49, 49, 20], 50, tolerance=wide_up) == 3
    assert propose([30, 30, 30, 30], 50, tolerance=wide_up) == 3


def test_average_values() -> None:
    groups = Groups(2)
    samples = {"a": sample(3_000), "b": sample(5_000)}
    found = for_average(2, 1_000, samples, groups, USUAL)
    assert (found.replicas, found.average, found.utilization) == (8, 4_000, None)


def test_troubles_are_told_in_kubernetes_words() -> None:
    bare = pod("web-1")
    del bare["spec"]["containers"][0]["resources"]
    with pytest.raises(NoProposal, match="missing request for cpu in container c of Pod web-1"):
        requests([bare], "cpu")
    with pytest.raises(NoProposal, match="container side not found in Pod web-1"):
        requests([bare], "cpu", "side")
    with pytest.raises(NoProposal, match="did not receive metrics for targeted pods"):
        for_utilization(1, 50, {}, Groups(), {}, USUAL)
    with pytest.raises(NoProposal, match="no metrics returned matched known pods"):
        for_utilization(1, 50, {"x": sample(1)}, Groups(1), {}, USUAL)


def test_samples_out_of_pod_metrics() -> None:
    def metrics(**usage: dict[str, str]) -> Object:
        containers = [{"name": name, "usage": use} for name, use in usage.items()]
        return {
            "metadata": {"name": "web", "namespace": "default"},
            "timestamp": "2026-01-01T12:00:00Z",
            "window": "1m0.5s",
            "containers": containers,
        }

    one = metrics(a={"cpu": "1500001n", "memory": "1Mi"}, b={"cpu": "2"})
    assert samples_of([one], "cpu") == {"web": Sample(2002, NOW, 60.5)}
    assert samples_of([one], "memory") == {}, "one of its containers does not say"
    assert samples_of([one], "memory", "a")["web"].value == 1024 * 1024 * 1000
    with pytest.raises(NoProposal, match="container x not present in metrics for pod default/web"):
        samples_of([one], "cpu", "x")


amounts = st.lists(st.integers(0, 1000), min_size=1, max_size=20)


@given(amounts, st.integers(1, 200))
@settings(max_examples=80, deadline=None)
def test_without_guesses_it_is_the_documented_formula(values: list[int], target: int) -> None:
    utilization = sum(values) * 100 // (len(values) * 100)
    ratio = utilization / target
    wanted = len(values) if abs(ratio - 1) <= 0.1 else math.ceil(ratio * len(values))
    assert propose(values, target) == wanted


@given(amounts, st.integers(1, 200), st.integers(0, 10), st.integers(0, 10))
@settings(max_examples=100, deadline=None)
def test_guesses_never_turn_or_enlarge_a_change(
    values: list[int], target: int, missing: int, unready: int
) -> None:
    current = len(values) + missing + unready
    utilization = sum(values) * 100 // (len(values) * 100)
    found = propose(values, target, current=current, missing=missing, unready=unready)
    if utilization > target:
        assert current <= found or missing + unready == 0
        bold = math.ceil(utilization / target * current)
        assert found <= max(current, bold)
    elif missing + unready:
        assert found <= current


@given(st.integers(1, 50), st.integers(1, 200), st.integers(0, 1000), st.integers(0, 1000))
@settings(max_examples=80, deadline=None)
def test_more_use_never_asks_for_fewer(pods: int, target: int, low: int, more: int) -> None:
    assert propose([low] * pods, target) <= propose([low + more] * pods, target) or (
        abs(low / target - 1) <= 0.1
    )
