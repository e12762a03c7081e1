"""What becomes of a recommendation: limits, rates, stabilisation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import defaults, kinds
from meshkube.control.controllers.hpa_behavior import (
    Bounds,
    History,
    Past,
    changed,
    settle,
)

NOW = 10_000.0
NOTHING = History()


def policy(type_: str, value: int, period: int = 60) -> dict[str, Any]:
    return {"type": type_, "value": value, "periodSeconds": period}


def rules(*policies: dict[str, Any], select: str = "Max", window: int = 0) -> dict[str, Any]:
    return {
        "policies": list(policies),
        "selectPolicy": select,
        "stabilizationWindowSeconds": window,
    }


EASY = rules(policy("Percent", 100, 15), policy("Pods", 4, 15))


def bounds(up: Any = EASY, down: Any = EASY, least: int = 1, most: int = 100) -> Bounds:
    return Bounds(least=least, most=most, behavior={"scaleUp": up, "scaleDown": down})


PLAIN = Bounds(least=2, most=10)


@pytest.mark.parametrize(
    ("current", "wanted", "replicas", "limit"),
    [
        (3, 4, 4, "DesiredWithinRange"),
        (3, 9, 6, "ScaleUpLimit"),
        (1, 9, 4, "ScaleUpLimit"),
        (6, 20, 10, "TooManyReplicas"),
        (3, 1, 2, "TooFewReplicas"),
        (3, 3, 3, "DesiredWithinRange"),
    ],
)
def test_without_rules(current: int, wanted: int, replicas: int, limit: str) -> None:
    found = settle(current, wanted, PLAIN, NOTHING, NOW)
    assert (found.replicas, found.limit[0]) == (replicas, limit)
    assert found.limited == (limit != "DesiredWithinRange")
    assert found.able[0] == "ReadyForNewScale"


def test_a_higher_recommendation_of_late_holds() -> None:
    history = History((Past(8, NOW - 299), Past(9, NOW - 301)))
    found = settle(8, 3, PLAIN, history, NOW)
    assert (found.replicas, found.able[0]) == (8, "ScaleDownStabilized")
    assert found.history.recommendations == (Past(8, NOW - 299), Past(3, NOW))
    later = settle(8, 3, PLAIN, found.history, NOW + 2)
    assert (later.replicas, later.able[0]) == (3, "ReadyForNewScale")


def test_scaling_up_waits_for_its_own_window() -> None:
    within = bounds(up=rules(policy("Pods", 50), window=60))
    history = History((Past(2, NOW - 30),))
    found = settle(2, 9, within, history, NOW)
    assert (found.replicas, found.able[0]) == (2, "ScaleUpStabilized")
    assert settle(2, 9, within, found.history, NOW + 31).replicas == 9


@pytest.mark.parametrize(
    ("up", "wanted", "replicas", "limit"),
    [
        (rules(policy("Pods", 3)), 50, 13, "ScaleUpLimit"),
        (rules(policy("Percent", 15)), 50, 12, "ScaleUpLimit"),
        (rules(policy("Pods", 3), policy("Percent", 100)), 50, 20, "ScaleUpLimit"),
        (rules(policy("Pods", 3), policy("Percent", 100), select="Min"), 50, 13, "ScaleUpLimit"),
        (rules(policy("Pods", 3), select="Disabled"), 50, 10, "ScaleUpLimit"),
        (rules(policy("Pods", 200)), 150, 100, "TooManyReplicas"),
        (rules(policy("Pods", 200)), 50, 50, "DesiredWithinRange"),
    ],
)
def test_how_fast_up(up: Any, wanted: int, replicas: int, limit: str) -> None:
    found = settle(10, wanted, bounds(up=up), NOTHING, NOW)
    assert (found.replicas, found.limit[0]) == (replicas, limit)


@pytest.mark.parametrize(
    ("down", "wanted", "replicas", "limit"),
    [
        (rules(policy("Pods", 3)), 2, 7, "ScaleDownLimit"),
        (rules(policy("Percent", 15)), 2, 8, "ScaleDownLimit"),
        (rules(policy("Pods", 3), policy("Percent", 50)), 2, 5, "ScaleDownLimit"),
        (rules(policy("Pods", 3), policy("Percent", 50), select="Min"), 2, 7, "ScaleDownLimit"),
        (rules(policy("Pods", 3), select="Disabled"), 2, 10, "ScaleDownLimit"),
        (rules(policy("Percent", 100)), 0, 1, "TooFewReplicas"),
    ],
)
def test_how_fast_down(down: Any, wanted: int, replicas: int, limit: str) -> None:
    found = settle(10, wanted, bounds(down=down), NOTHING, NOW)
    assert (found.replicas, found.limit[0]) == (replicas, limit)


def test_what_was_changed_within_a_period_counts_against_its_rate() -> None:
    limits = bounds(up=rules(policy("Pods", 4)), down=rules(policy("Pods", 2)))
    history = changed(NOTHING, 10, 13, limits, NOW - 30)
    assert settle(13, 50, limits, history, NOW).replicas == 14
    history = changed(history, 13, 14, limits, NOW)
    assert settle(14, 50, limits, history, NOW + 1).replicas == 14
    assert settle(14, 50, limits, history, NOW + 31).replicas == 17, "the first has gone by"
    history = changed(NOTHING, 10, 8, limits, NOW - 30)
    assert settle(8, 1, limits, history, NOW).replicas == 8
    assert settle(8, 1, limits, history, NOW + 31).replicas == 6


def test_history_is_as_long_as_the_longest_period() -> None:
    limits = bounds()
    history = NOTHING
    for step in range(100):
        history = changed(history, step, step + 1, limits, NOW + step)
        history = settle(step + 1, step + 1, limits, history, NOW + step).history
    assert len(history.added) <= 15
    assert len(history.recommendations) == 1
    assert changed(NOTHING, 1, 2, PLAIN, NOW) == NOTHING


counts = st.integers(0, 200)
pasts = st.lists(st.builds(Past, counts, st.floats(NOW - 1000, NOW)), max_size=8).map(tuple)
policies = st.lists(
    st.builds(policy, st.sampled_from(["Pods", "Percent"]), st.integers(1, 300),
              st.integers(1, 1800)),
    min_size=1, max_size=3,
)  # fmt: skip
rule_sets = st.builds(
    lambda given, select, window: rules(*given, select=select, window=window),
    policies,
    st.sampled_from(["Max", "Min", "Disabled"]),
    st.integers(0, 3600),
)
limits_of = st.builds(
    lambda up, down, least, more: bounds(up, down, least, least + more),
    rule_sets, rule_sets, st.integers(0, 50), st.integers(0, 150),
)  # fmt: skip
histories = st.builds(History, pasts, pasts, pasts)


@given(st.one_of(limits_of, st.just(PLAIN)), st.integers(0, 150), counts, histories)
@settings(max_examples=150, deadline=None)
def test_the_outcome_is_always_within_what_was_asked_and_what_is_allowed(
    limits: Bounds, share: int, wanted: int, history: History
) -> None:
    # As the controller does it: outside of the limits metrics are not asked at all.
    current = limits.least + share % (limits.most - limits.least + 1)
    found = settle(current, wanted, limits, history, NOW)
    assert limits.least <= found.replicas <= limits.most
    seen = [past.replicas for past in history.recommendations]
    assert min([current, wanted, limits.least, *seen]) <= found.replicas
    assert found.replicas <= max([current, wanted, limits.least, *seen])
    if limits.behavior is not None:
        for way, beyond in (("scaleUp", 1), ("scaleDown", -1)):
            if limits.rules(way)["selectPolicy"] == "Disabled":
                assert (found.replicas - current) * beyond <= 0
    assert found.history.recommendations[-1] == Past(wanted, NOW)


def test_defaults_of_behavior_are_kubernetes_own() -> None:
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "a"},
        "spec": {"behavior": {}, "maxReplicas": 3, "scaleTargetRef": {}},
    }
    defaults.apply_defaults(kinds.HORIZONTAL_POD_AUTOSCALER, scaler)
    given = scaler["spec"]["behavior"]  # type: ignore[index]
    found = Bounds(least=1, most=3, behavior=given)
    assert found.window_of("scaleUp") == 0
    assert found.window_of("scaleDown") == 300
    assert settle(1, 20, Bounds(least=1, most=50, behavior=given), NOTHING, NOW).replicas == 5
