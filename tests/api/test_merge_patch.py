import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.errors import ApiError
from meshkube.api.patch import merge_patch


@pytest.mark.parametrize(
    ("doc", "patch", "expected"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
        ({"a": "b"}, {"a": {"c": 1}}, {"a": {"c": 1}}),
        ({"a": 1}, {}, {"a": 1}),
        ({"a": 1}, {"b": [{"c": None}]}, {"a": 1, "b": [{"c": None}]}),
    ],
)
def test_the_cases_of_rfc_7386(doc: Any, patch: Any, expected: Any) -> None:
    before = copy.deepcopy((doc, patch))
    assert merge_patch(doc, patch) == expected
    assert (doc, patch) == before


@pytest.mark.parametrize("patch", [None, [], "x", 1, True])
def test_a_patch_that_is_no_object_is_a_bad_request(patch: Any) -> None:
    with pytest.raises(ApiError) as caught:
        merge_patch({}, patch)
    assert caught.value.code == 400


def test_the_result_shares_nothing_with_document_or_patch() -> None:
    doc, patch = {"a": {"b": [1]}}, {"c": {"d": [2]}}
    result = merge_patch(doc, patch)
    result["a"]["b"].append(3)
    result["c"]["d"].append(3)
    assert (doc, patch) == ({"a": {"b": [1]}}, {"c": {"d": [2]}})


SCALARS = st.integers(0, 3) | st.text("ab", max_size=2)
DOCS = st.recursive(
    SCALARS | st.lists(SCALARS, max_size=2),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.sampled_from("abc"), DOCS, max_size=3)
PATCHES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.none() | SCALARS,
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        max_leaves=10,
    ),
    max_size=3,
)


def flat(value: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every value by its path; an object is itself a value, `{}`."""
    if not isinstance(value, dict):
        return {path: value}
    found: dict[tuple[str, ...], Any] = {path: {}}
    for key, held in value.items():
        found |= flat(held, (*path, key))
    return found


def model(doc: dict[str, Any], patch: dict[str, Any]) -> dict[tuple[str, ...], Any]:
    """A merge patch over flat paths: each path of the patch sets, or clears what is below it."""
    result = flat(doc)
    for path, value in flat(patch).items():
        if value == {} and isinstance(result.get(path), dict):
            continue
        for held in [held for held in result if held[: len(path)] == path]:
            del result[held]
        if value is not None:
            result[path] = value
    return result


@given(OBJECTS, PATCHES)
def test_a_merge_is_what_its_flat_model_says(doc: dict[str, Any], patch: dict[str, Any]) -> None:
    assert flat(merge_patch(doc, patch)) == model(doc, patch)


@given(OBJECTS, PATCHES)
def test_a_merge_patch_applied_twice_changes_nothing_more(
    doc: dict[str, Any], patch: dict[str, Any]
) -> None:
    once = merge_patch(doc, patch)
    assert merge_patch(once, patch) == once
