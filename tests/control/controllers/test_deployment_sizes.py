"""The steps of rollouts and scalings, as numbers."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.control.controllers.deployment_sizes import (
    Limits,
    Sized,
    first_size,
    recreate,
    roll,
    scale,
    scaled_since,
)


def sized(name: str, replicas: int, available: int | None = None, **more: int) -> Sized:
    return Sized(
        name=name, replicas=replicas, available=replicas if available is None else available, **more
    )


@pytest.mark.parametrize(
    ("limits", "new", "old", "expected"),
    [
        # surge 1: one up first
        (Limits(replicas=3, surge=1), sized("n", 0), [sized("o", 3)], {"n": 1, "o": 3}),
        # it is not available yet: wait
        (Limits(replicas=3, surge=1), sized("n", 1, 0), [sized("o", 3)], {"n": 1, "o": 3}),
        # it is: one of the old goes
        (Limits(replicas=3, surge=1), sized("n", 1), [sized("o", 3)], {"n": 1, "o": 2}),
        # no surge, one may be missing: down first
        (Limits(replicas=3, unavailable=1), sized("n", 0), [sized("o", 3)], {"n": 0, "o": 2}),
        (Limits(replicas=3, unavailable=1), sized("n", 0), [sized("o", 2)], {"n": 1, "o": 2}),
        # a broken old one goes at no cost to what is available
        (Limits(replicas=3, surge=1), sized("n", 1, 1), [sized("o", 3, 1)], {"n": 1, "o": 2}),
        # scaled down in the middle
        (Limits(replicas=2, surge=1), sized("n", 3), [], {"n": 2}),
    ],
)
def test_a_rolling_update_takes_one_safe_step(
    limits: Limits, new: Sized, old: list[Sized], expected: dict[str, int]
) -> None:
    assert roll(limits, new, old) == expected


def test_the_new_replica_set_begins_within_the_surge() -> None:
    assert first_size(Limits(replicas=10, surge=3), [sized("o", 10)]) == 3
    assert first_size(Limits(replicas=10, surge=3), []) == 10
    assert first_size(Limits(replicas=10), [sized("o", 12)]) == 0


def test_recreate_waits_until_no_old_pod_runs() -> None:
    limits = Limits(replicas=3, recreate=True)
    assert recreate(limits, sized("n", 0), [sized("o", 3)], True) == {"n": 0, "o": 0}
    assert recreate(limits, sized("n", 0), [sized("o", 0)], True) == {"n": 0, "o": 0}
    assert recreate(limits, sized("n", 0), [sized("o", 0)], False) == {"n": 3, "o": 0}


def test_scaling_in_a_rollout_is_shared_by_size() -> None:
    # The example of the Deployment concept page: 10 replicas in 8 + 5, scaled to 15.
    limits = Limits(replicas=15, surge=3, unavailable=2)
    old = sized("o", 8, desired_then=10, largest_then=13)
    new = sized("n", 5, 0, desired_then=10, largest_then=13)
    assert scaled_since(limits, [old, new])
    assert scale(limits, new, [old]) == {"o": 11, "n": 7}


def test_scaling_one_replica_set_is_scaling_it() -> None:
    assert scale(Limits(replicas=5), sized("n", 2), [sized("o", 0)]) == {"n": 5, "o": 0}
    assert scale(Limits(replicas=5), None, [sized("o", 2)]) == {"o": 5}


def test_scaling_to_zero_leaves_nothing() -> None:
    limits = Limits(replicas=0, surge=1)
    assert scale(limits, sized("n", 2), [sized("o", 3)]) == {"n": 0, "o": 0}


def step_pods(sets: list[Sized], sizes: dict[str, int], become: list[int]) -> list[Sized]:
    """ReplicaSets do as told; of the pods not yet available, `become` of each turn available."""
    after = []
    for s, ready in zip(sets, become, strict=True):
        replicas = sizes[s.name]
        # The least useful are deleted first: those not available.
        available = min(s.available, replicas)
        after.append(
            dataclasses.replace(
                s, replicas=replicas, available=min(available + ready, replicas), pods=replicas
            )
        )
    return after


@st.composite
def limits(draw: st.DrawFn) -> Limits:
    replicas = draw(st.integers(0, 12))
    surge = draw(st.integers(0, 5))
    unavailable = draw(st.integers(0 if surge else 1, 5))
    return Limits(replicas=replicas, surge=surge, unavailable=unavailable)


@settings(max_examples=200, deadline=None)
@given(limits(), st.integers(1, 3), st.integers(0, 2**32))
def test_a_rolling_update_keeps_its_promises_and_ends(
    limits: Limits, generations: int, seed: int
) -> None:
    """From a full old ReplicaSet: never more pods than the surge allows, never fewer available
    than the limit, and it arrives."""
    luck = random.Random(seed)
    sets = [sized("o1", limits.replicas)]
    sets += [sized(f"o{n}", 0) for n in range(2, generations + 1)]
    sets.append(sized("n", 0))
    for _ in range(100):
        sizes = roll(limits, sets[-1], sets[:-1])
        become = [luck.randrange(4) for _ in sets]
        sets = step_pods(sets, sizes, become)
        assert sum(s.replicas for s in sets) <= limits.replicas + limits.surge
        assert sum(s.available for s in sets) >= limits.least
        # Without luck nothing moves: in the end every pod comes up.
        sets = step_pods(sets, {s.name: s.replicas for s in sets}, [1] * len(sets))
    assert [s.replicas for s in sets] == [0] * generations + [limits.replicas]


@settings(max_examples=200, deadline=None)
@given(limits(), st.integers(1, 12), st.integers(1, 12), st.integers(0, 5))
def test_scaling_in_a_rollout_reaches_the_new_sum(
    limits: Limits, old_size: int, new_size: int, surge_then: int
) -> None:
    then = old_size + new_size
    old = sized("o", old_size, desired_then=then, largest_then=then + surge_then)
    new = sized("n", new_size, 0, desired_then=then, largest_then=then + surge_then)
    sizes = scale(limits, new, [old])
    assert sum(sizes.values()) == limits.largest
    assert all(size >= 0 for size in sizes.values())
