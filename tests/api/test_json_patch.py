import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.errors import ApiError
from meshkube.api.patch import json_patch

DOC = {"a": {"b": [1, 2, {"c": "d"}]}, "x/y": 1, "m~n": 2, "": 0, "nothing": None}


def op(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {"op": name, "path": path, **more}


@pytest.mark.parametrize(
    ("ops", "path", "expected"),
    [
        ([op("add", "/new", value=1)], ("new",), 1),
        ([op("add", "/a/b", value=1)], ("a", "b"), 1),
        ([op("add", "/a/b/0", value=0)], ("a", "b"), [0, 1, 2, {"c": "d"}]),
        ([op("add", "/a/b/3", value=4)], ("a", "b"), [1, 2, {"c": "d"}, 4]),
        ([op("add", "/a/b/-", value=4)], ("a", "b"), [1, 2, {"c": "d"}, 4]),
        ([op("add", "/nothing", value=None)], ("nothing",), None),
        ([op("remove", "/a/b/1")], ("a", "b"), [1, {"c": "d"}]),
        ([op("remove", "/a/b/2/c")], ("a", "b", 2), {}),
        ([op("replace", "/a/b/2/c", value=None)], ("a", "b", 2), {"c": None}),
        ([op("replace", "/x~1y", value=9)], ("x/y",), 9),
        ([op("replace", "/m~0n", value=9)], ("m~n",), 9),
        ([op("replace", "/", value=9)], ("",), 9),
        ([op("move", "/z", **{"from": "/a/b/0"})], ("z",), 1),
        ([op("move", "/a/b/2", **{"from": "/a/b/0"})], ("a", "b"), [2, {"c": "d"}, 1]),
        ([op("move", "/a", **{"from": "/a"})], ("a",), DOC["a"]),
        ([op("copy", "/z", **{"from": "/a/b"})], ("z",), DOC["a"]["b"]),  # type: ignore[index]
        ([op("test", "/a/b/0", value=1.0), op("add", "/ok", value=True)], ("ok",), True),
        ([op("test", "/a", value={"b": [1, 2, {"c": "d"}]})], ("a",), DOC["a"]),
        ([op("replace", "", value={"q": 1})], (), {"q": 1}),
        ([op("test", "/nothing", value=None)], ("nothing",), None),
    ],
)
def test_operations_do_what_rfc_6902_says(ops: Any, path: tuple[Any, ...], expected: Any) -> None:
    before = copy.deepcopy(DOC)
    result = json_patch(DOC, ops)
    for step in path:
        result = result[step]
    assert result == expected
    assert before == DOC


@pytest.mark.parametrize(
    ("ops", "code"),
    [
        ({}, 400),
        (["x"], 400),
        ([{}], 400),
        ([{"op": "spam", "path": "/a"}], 400),
        ([{"op": ["add"], "path": "/a"}], 400),
        ([{"op": "add", "value": 1}], 400),
        ([op("add", "a", value=1)], 400),
        ([op("add", "/a~2", value=1)], 400),
        ([op("add", "/a")], 400),
        ([op("test", "/a")], 400),
        ([op("move", "/z")], 400),
        ([op("move", "/a/b", **{"from": "/a"})], 400),
        ([op("add", "/p/q", value=1)], 422),
        ([op("add", "/a/b/4", value=1)], 422),
        ([op("add", "/a/b/01", value=1)], 422),
        ([op("add", "/a/b/x", value=1)], 422),
        ([op("add", "/x~1y/z", value=1)], 422),
        ([op("remove", "/p")], 422),
        ([op("remove", "/a/b/3")], 422),
        ([op("remove", "/a/b/-")], 422),
        ([op("remove", "")], 422),
        ([op("replace", "/p", value=1)], 422),
        ([op("replace", "", value=[1])], 422),
        ([op("move", "/z", **{"from": "/p"})], 422),
        ([op("copy", "/z", **{"from": "/p"})], 422),
        ([op("test", "/a", value=1)], 422),
        ([op("test", "/a/b/0", value=True)], 422),
        ([op("test", "/p", value=None)], 422),
    ],
)
def test_what_is_malformed_is_400_and_what_does_not_fit_is_422(ops: Any, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch(DOC, ops)
    assert caught.value.code == code
    assert caught.value.reason == {400: "BadRequest", 422: "Invalid"}[code]


def test_a_failed_test_says_which() -> None:
    with pytest.raises(ApiError, match="testing value /a/b/0 failed"):
        json_patch(DOC, [op("test", "/a/b/0", value=2)])


def test_too_many_operations_are_refused() -> None:
    with pytest.raises(ApiError) as caught:
        json_patch({}, [op("add", "/a", value=1)] * 10_001)
    assert caught.value.code == 413


def test_the_result_shares_nothing_with_document_or_patch() -> None:
    value = {"list": [1]}
    result = json_patch(DOC, [op("add", "/new", value=value), op("copy", "/c", **{"from": "/new"})])
    result["new"]["list"].append(2)
    result["a"]["b"].clear()
    assert value == {"list": [1]}
    assert result["c"] == {"list": [1]}
    assert DOC["a"] == {"b": [1, 2, {"c": "d"}]}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 3) | st.text("ab/~", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("ab/~", max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text("ab/~", max_size=2), VALUES), st.text("ab/~", max_size=2), VALUES)
def test_added_tested_and_removed_leaves_the_rest_as_it_was(
    doc: dict[str, Any], key: str, value: Any
) -> None:
    pointer = "/" + key.replace("~", "~0").replace("/", "~1")
    added = json_patch(doc, [op("add", pointer, value=value), op("test", pointer, value=value)])
    assert added == {**doc, key: value}
    rest = {name: held for name, held in doc.items() if name != key}
    assert json_patch(added, [op("remove", pointer)]) == rest
