import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.patch import merge_patch, strategic_merge
from meshkube.api.schemas import schema_for

POD = schema_for(kinds.POD)
DEPLOYMENT = schema_for(kinds.DEPLOYMENT)


def spec(doc: Any, patch: Any) -> Any:
    """The result for a pod's spec."""
    before = copy.deepcopy((doc, patch))
    result = strategic_merge({"spec": doc}, {"spec": patch}, POD)["spec"]
    assert (doc, patch) == before
    return result


def containers(*named: str, **more: Any) -> list[dict[str, Any]]:
    return [{"name": name, **more} for name in named]


A, B, C = ({"name": name, "image": f"{name}:1"} for name in "abc")


@pytest.mark.parametrize(
    ("held", "patch", "expected"),
    [
        # By the merge key: changed, added in front, absent before.
        ([A, B], [{"name": "b", "image": "b:2"}], [A, {"name": "b", "image": "b:2"}]),
        ([A, B], [C], [C, A, B]),
        (None, [A], [A]),
        ([A], [], [A]),
        # A null in an element removes the field.
        ([A], [{"name": "a", "image": None, "tty": True}], [{"name": "a", "tty": True}]),
        # Directives on elements and on the list.
        ([A, B], [{"name": "a", "$patch": "delete"}], [B]),
        ([A, B], [{"name": "z", "$patch": "delete"}], [A, B]),
        (None, [{"name": "a", "$patch": "delete"}, B], [B]),
        ([A, B], [{"$patch": "replace"}, C], [C]),
        ([A, B], [{"$patch": "replace"}], []),
        ([A, B], [C, {"$patch": "replace"}, {"name": "a", "$patch": "delete"}], [C]),
    ],
)
def test_containers_merge_by_name(held: Any, patch: Any, expected: Any) -> None:
    doc = {} if held is None else {"containers": held}
    assert spec(doc, {"containers": patch}) == {"containers": expected}


@pytest.mark.parametrize(
    ("held", "order", "patch", "expected"),
    [
        ("abc", "cab", None, "cab"),
        ("ab", "abc", "c", "abc"),
        ("ab", "cab", "c", "cab"),
        # What only the server has stays near where it was.
        ("axb", "ab", None, "axb"),
        ("xab", "ab", None, "xab"),
        ("abx", "ab", None, "abx"),
        ("axb", "ba", None, "xba"),
        ("xa", "ab", "b", "xab"),
        (None, "ab", "ab", "ab"),
        ("ab", "b", "-a", "b"),
        ("abx", "bc", "c-a", "bcx"),
    ],
)
def test_the_order_of_elements_can_be_set(
    held: str | None, order: str, patch: str | None, expected: str
) -> None:
    brought: list[dict[str, Any]] = []
    for name, before in zip(patch or "", " " + (patch or ""), strict=False):
        if name != "-":
            brought.append({"name": name, **({"$patch": "delete"} if before == "-" else {})})
    doc = {} if held is None else {"containers": containers(*held)}
    change: dict[str, Any] = {"$setElementOrder/containers": containers(*order)}
    if patch is not None:
        change["containers"] = brought
    assert [one["name"] for one in spec(doc, change)["containers"]] == list(expected)


def test_an_order_for_a_list_that_nobody_has_does_nothing() -> None:
    assert spec({}, {"$setElementOrder/containers": containers("a")}) == {}


def test_scalars_merge_as_a_set_and_are_taken_out_by_their_directive() -> None:
    def finalizers(held: list[str], **patch: Any) -> Any:
        doc = {"metadata": {"finalizers": held}}
        change = {key.replace("__", "/").replace("D_", "$"): value for key, value in patch.items()}
        return strategic_merge(doc, {"metadata": change}, POD)["metadata"]["finalizers"]

    assert finalizers(["a", "b"], finalizers=["b", "c"]) == ["a", "b", "c"]
    drop = "D_deleteFromPrimitiveList__finalizers"
    order = "D_setElementOrder__finalizers"
    assert finalizers(["a", "b"], **{drop: ["a", "z"]}) == ["b"]
    assert finalizers(["a", "b"], **{drop: ["a"], "finalizers": ["c"], order: ["c", "b"]}) == [
        "c",
        "b",
    ]
    assert finalizers(["b", "a"], **{order: ["a", "b"]}) == ["a", "b"]


def test_taking_values_out_of_a_list_that_is_absent_does_nothing() -> None:
    patch = {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}
    assert strategic_merge({}, patch, POD) == {"metadata": {}}


def test_lists_without_a_strategy_are_replaced_whole() -> None:
    doc = {"containers": [{"name": "a", "command": ["x", "y"]}]}
    patch = {"containers": [{"name": "a", "command": ["z"]}]}
    assert spec(doc, patch)["containers"][0]["command"] == ["z"]
    tolerations = [{"key": "a"}]
    assert spec({"tolerations": tolerations}, {"tolerations": [{"key": "b"}]}) == {
        "tolerations": [{"key": "b"}]
    }


def test_nested_lists_merge_by_their_own_keys() -> None:
    held = {"name": "a", "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}]}
    ports = {"name": "a", "ports": [{"containerPort": 80, "name": "http"}]}
    result = spec(
        {"containers": [held]},
        {"containers": [{"name": "a", "env": [{"name": "Y", "value": "3"}], **ports}]},
    )
    assert result["containers"][0]["env"] == [
        {"name": "X", "value": "1"},
        {"name": "Y", "value": "3"},
    ]
    assert result["containers"][0]["ports"] == [{"containerPort": 80, "name": "http"}]


def test_maps_take_directives_too() -> None:
    doc = {"nodeSelector": {"a": "1", "b": "2"}, "securityContext": {"runAsUser": 1}}
    assert spec(doc, {"nodeSelector": {"$patch": "replace", "c": "3"}})["nodeSelector"] == {
        "c": "3"
    }
    assert spec(doc, {"nodeSelector": {"$patch": "delete"}})["nodeSelector"] == {}
    assert "nodeSelector" not in spec(doc, {"nodeSelector": None})
    assert spec({}, {"nodeSelector": {"$patch": "delete"}}) == {}


def test_retain_keys_drops_what_is_not_named() -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    result = strategic_merge({"spec": {"strategy": rolling}}, {"spec": patch}, DEPLOYMENT)
    assert result == {"spec": {"strategy": {"type": "Recreate"}}}
    volumes = {"volumes": [{"name": "v", "emptyDir": {}}]}
    change = {
        "volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]
    }
    assert spec(volumes, change) == {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}
    fresh = spec({}, change)
    assert fresh == {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}


def test_nulls_and_directives_in_what_is_new_leave_no_trace() -> None:
    patch = {
        "affinity": {"nodeAffinity": None, "podAffinity": {"$patch": "replace"}},
        "tolerations": [{"key": "a", "value": None}],
    }
    assert spec({}, patch) == {"affinity": {"podAffinity": {}}, "tolerations": [{"key": "a"}]}


def test_unknown_fields_merge_as_in_a_merge_patch() -> None:
    doc = {"strange": {"a": 1, "list": [{"name": "x"}]}}
    patch = {"strange": {"b": 2, "list": [{"name": "y"}]}}
    assert spec(doc, patch) == {"strange": {"a": 1, "b": 2, "list": [{"name": "y"}]}}


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        ({"containers": [{"image": "x"}]}, "does not contain declared merge key: name"),
        ({"containers": [{"$patch": "delete"}]}, "does not contain declared merge key: name"),
        ({"containers": [{"name": "a", "$patch": "spam"}]}, "unknown patch type: spam"),
        ({"containers": [{"name": "a", "$patch": "merge"}]}, "cannot yet be specified"),
        ({"containers": [{"name": "a"}, "b"]}, "objects and of scalars"),
        ({"nodeSelector": {"$patch": "spam"}}, "unknown patch type: spam"),
        ({"nodeSelector": {"$retainKeys": "a"}}, "invalid patch format of retainKeys"),
        ({"nodeSelector": {"$retainKeys": ["a"], "b": "1"}}, "invalid patch format of retainKeys"),
        ({"$setElementOrder/containers": "a"}, "invalid patch format of setElementOrder list"),
        (
            {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]},
            "doesn't match",
        ),
        ({"$deleteFromPrimitiveList/x": "a"}, "invalid patch format of primitive list"),
    ],
)
def test_a_malformed_patch_is_a_bad_request_that_says_why(patch: Any, message: str) -> None:
    with pytest.raises(ApiError, match=message) as caught:
        spec({"containers": [A], "nodeSelector": {}}, patch)
    assert caught.value.code == 400


def test_a_patch_that_is_no_object_is_a_bad_request() -> None:
    with pytest.raises(ApiError, match="must be an object"):
        strategic_merge({}, [], POD)


def test_the_result_shares_nothing_with_document_or_patch() -> None:
    doc, patch = {"containers": [copy.deepcopy(A)]}, {"tolerations": [{"key": "k"}]}
    result = strategic_merge({"spec": doc}, {"spec": patch}, POD)
    result["spec"]["containers"][0]["image"] = "changed"
    result["spec"]["tolerations"][0]["key"] = "changed"
    assert doc == {"containers": [A]}
    assert patch == {"tolerations": [{"key": "k"}]}


KEYS = st.sampled_from(["labels", "annotations", "a", "b"])
MAPS = st.recursive(
    st.text("xy", max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
DOCS = st.dictionaries(st.sampled_from(["metadata", "spec", "a"]), MAPS, max_size=3)
PATCHES = st.dictionaries(
    st.sampled_from(["metadata", "spec", "a"]),
    st.recursive(
        st.none() | st.text("xy", max_size=2),
        lambda inner: st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=3,
)


@given(DOCS, PATCHES)
def test_without_lists_and_directives_it_is_a_merge_patch(doc: Any, patch: Any) -> None:
    assert strategic_merge(doc, patch, POD) == merge_patch(doc, patch)


# What `kubectl apply` does on the client: it compares the manifest before, the manifest now and
# the live object, and sends what came of it as a strategic merge patch.

NAMES = st.lists(st.sampled_from("abcd"), unique=True, max_size=4)
MANIFESTS = NAMES.flatmap(
    lambda names: st.tuples(
        *(
            st.fixed_dictionaries(
                {"name": st.just(name)},
                optional={"image": st.sampled_from("12"), "workingDir": st.sampled_from("34")},
            )
            for name in names
        )
    ).map(list)
)


def three_way(before: list[Any], now: list[Any], live: list[Any]) -> dict[str, Any]:
    """The patch of `spec.containers`, made as kubectl makes it."""
    lived = {one["name"]: one for one in live}
    was = {one["name"]: one for one in before}
    wanted = {one["name"] for one in now}
    changes: list[dict[str, Any]] = []
    for one in now:
        held = lived.get(one["name"], {})
        change = {key: value for key, value in one.items() if held.get(key) != value}
        change |= dict.fromkeys(was.get(one["name"], {}).keys() - one.keys(), None)
        if change:
            changes.append({**change, "name": one["name"]})
    changes += [{"name": name, "$patch": "delete"} for name in was if name not in wanted]
    order = [{"name": one["name"]} for one in now]
    return {"$setElementOrder/containers": order, **({"containers": changes} if changes else {})}


@given(MANIFESTS, MANIFESTS, MANIFESTS)
def test_apply_sets_what_is_declared_drops_what_was_and_keeps_the_rest(
    before: list[Any], now: list[Any], live: list[Any]
) -> None:
    patch = three_way(before, now, live)
    result = strategic_merge({"spec": {"containers": live}}, {"spec": patch}, POD)["spec"].get(
        "containers", []
    )
    found = {one["name"]: one for one in result}
    assert len(found) == len(result)
    lived = {one["name"]: one for one in live}
    was = {one["name"]: one for one in before}
    assert [one["name"] for one in result if one["name"] in {n["name"] for n in now}] == [
        one["name"] for one in now
    ]
    for one in now:
        dropped = was.get(one["name"], {}).keys() - one.keys()
        kept = {
            key: value for key, value in lived.get(one["name"], {}).items() if key not in dropped
        }
        assert found[one["name"]] == {**kept, **one}
    foreign = [n for n in lived if n not in was and n not in {one["name"] for one in now}]
    assert all(found[name] == lived[name] for name in foreign)
    assert len(found) == len(now) + len(foreign)
