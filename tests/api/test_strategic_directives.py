"""Every directive of a strategic merge patch on random documents, beside a plain model of each.

Source: Kubernetes' design document of strategic merge patches.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from meshkube.api import kinds, schemas
from meshkube.api.patch import strategic_merge

POD = schemas.schema_for(kinds.POD)
DEPLOYMENT = schemas.schema_for(kinds.DEPLOYMENT)
WORDS = st.lists(st.sampled_from(["a/a", "b/b", "c/c", "d/d"]), unique=True, max_size=4)
STRATEGY = st.dictionaries(
    st.sampled_from(["type", "rollingUpdate", "extra"]), st.sampled_from(["1", "2"])
)
ELEMENTS = st.dictionaries(
    st.sampled_from("abc"), st.fixed_dictionaries({"image": st.sampled_from("12")})
)


def containers(elements: dict[str, Any]) -> list[Any]:
    return [{"name": name, **fields} for name, fields in elements.items()]


@given(WORDS, WORDS, WORDS)
def test_delete_from_primitive_list(live: list[str], gone: list[str], added: list[str]) -> None:
    patch = {"$deleteFromPrimitiveList/finalizers": gone, "finalizers": added}
    merged = strategic_merge({"metadata": {"finalizers": live}}, {"metadata": patch}, POD)
    left = [word for word in live if word not in gone]
    expected = left + [word for word in added if word not in left]
    assert sorted(merged["metadata"].get("finalizers", [])) == sorted(expected)


@given(WORDS, WORDS, st.permutations(["a/a", "b/b", "c/c", "d/d"]))
def test_set_element_order_of_primitives(
    live: list[str], added: list[str], order: list[str]
) -> None:
    # A patch whose list is in another order than it asks for is refused.
    added.sort(key=order.index)
    patch = {"$setElementOrder/finalizers": order, "finalizers": added}
    merged = strategic_merge({"metadata": {"finalizers": live}}, {"metadata": patch}, POD)
    assert merged["metadata"]["finalizers"] == [
        word for word in order if word in live or word in added
    ]


@given(ELEMENTS, ELEMENTS, st.permutations("abc"))
def test_set_element_order_of_objects(
    live: dict[str, Any], changed: dict[str, Any], order: list[str]
) -> None:
    named = [{"name": name} for name in order]
    changed = {name: changed[name] for name in order if name in changed}
    patch = {"$setElementOrder/containers": named, "containers": containers(changed)}
    merged = strategic_merge({"spec": {"containers": containers(live)}}, {"spec": patch}, POD)
    wanted = {**live, **changed}
    assert merged["spec"]["containers"] == [
        {"name": name, **wanted[name]} for name in order if name in wanted
    ]


@given(STRATEGY, STRATEGY, st.lists(st.sampled_from(["type", "extra"]), unique=True))
def test_retain_keys(live: dict[str, str], patch: dict[str, str], more: list[str]) -> None:
    kept = sorted({*patch, *more})
    body = {"spec": {"strategy": {"$retainKeys": kept, **patch}}}
    merged = strategic_merge({"spec": {"strategy": live}}, body, DEPLOYMENT)
    expected = {key: value for key, value in {**live, **patch}.items() if key in kept}
    assert merged["spec"].get("strategy", {}) == expected


@given(STRATEGY, STRATEGY)
def test_patch_replace_of_an_object(live: dict[str, str], patch: dict[str, str]) -> None:
    body = {"spec": {"strategy": {"$patch": "replace", **patch}}}
    merged = strategic_merge({"spec": {"strategy": live}}, body, DEPLOYMENT)
    assert merged["spec"]["strategy"] == patch


@given(STRATEGY)
def test_patch_delete_of_an_object(live: dict[str, str]) -> None:
    body = {"spec": {"strategy": {"$patch": "delete"}}}
    merged = strategic_merge({"spec": {"strategy": live, "replicas": 1}}, body, DEPLOYMENT)
    assert not merged["spec"].get("strategy")
    assert merged["spec"]["replicas"] == 1


@given(ELEMENTS, ELEMENTS)
def test_patch_replace_of_a_list(live: dict[str, Any], new: dict[str, Any]) -> None:
    patch = {"containers": [{"$patch": "replace"}, *containers(new)]}
    merged = strategic_merge({"spec": {"containers": containers(live)}}, {"spec": patch}, POD)
    assert merged["spec"].get("containers", []) == containers(new)


@given(ELEMENTS, st.sets(st.sampled_from("abcd")), ELEMENTS)
def test_patch_delete_and_replace_of_elements(
    live: dict[str, Any], gone: set[str], replaced: dict[str, Any]
) -> None:
    replaced = {name: fields for name, fields in replaced.items() if name not in gone}
    deleted = [{"name": name, "$patch": "delete"} for name in sorted(gone)]
    patch = {"containers": deleted + containers(replaced)}
    merged = strategic_merge({"spec": {"containers": containers(live)}}, {"spec": patch}, POD)
    expected = {name: fields for name, fields in live.items() if name not in gone} | replaced
    found = {one["name"]: one for one in merged["spec"].get("containers", [])}
    assert found == {name: {"name": name, **fields} for name, fields in expected.items()}


@given(ELEMENTS, ELEMENTS)
def test_a_merge_twice_changes_nothing_more(live: dict[str, Any], patch: dict[str, Any]) -> None:
    body = {"spec": {"containers": containers(patch)}}
    once = strategic_merge({"spec": {"containers": containers(live)}}, body, POD)
    assert strategic_merge(once, body, POD) == once
