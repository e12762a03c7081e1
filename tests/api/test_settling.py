"""The short walk says yes only where the long ones have nothing to say, and does what they do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds, schemas
from tests.api.test_golden import BASES, CREATE, edited, kind_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
    | st.sampled_from(["1000m", "2026-01-01T00:00:00Z", "2026-13-01T00:00:00Z", "1Gi", 2**40]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)  # fmt: skip


def agrees(obj: Any) -> bool:
    """Compares with the long walks; what the short one says."""
    kind = kind_of(obj)
    short, long = copy.deepcopy(obj), copy.deepcopy(obj)
    settled = schemas.settle(kind, short)
    result = schemas.check(kind, long)
    if settled:
        assert (result.errors, result.unknown) == ([], [])
        schemas.prune(kind, long)
        assert short == long
    return settled


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["given"]["kind"])
def test_right_objects_take_the_short_walk(base: Any) -> None:
    assert agrees(base["given"])


def test_it_agrees_about_every_recorded_edit() -> None:
    settled = sum(agrees(edited(BASES[case["base"]]["given"], case["edits"])) for case in CREATE)
    assert settled > len(CREATE) / 4


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_it_agrees_about_values_of_any_type(data: st.DataObject) -> None:
    obj = copy.deepcopy(data.draw(st.sampled_from(BASES))["given"])
    place = obj
    while True:
        key = data.draw(
            st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place)))
        )
        below = place[key]
        if not below or not isinstance(below, dict | list) or data.draw(st.booleans()):
            break
        place = below
    place[key] = data.draw(VALUES)
    if kinds.by_kind(str(obj["apiVersion"]), str(obj["kind"])) is not None:
        agrees(obj)
