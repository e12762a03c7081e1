"""Shapes of kinds, and objects compared with them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds, schemas
from meshkube.api.kinds import KINDS, Kind
from meshkube.api.schemas import Node

POD_SPEC = schemas.schema_of("io.k8s.api.core.v1.PodSpec")


def at(kind: Kind, *path: str) -> Node:
    node = schemas.schema_for(kind)
    for step in path:
        below = node.items if step == "[]" else node.field(step)
        assert below is not None, step
        node = below
    return node


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.api_version} {kind.kind}")
def test_every_served_kind_has_a_shape(kind: Kind) -> None:
    root = schemas.schema_for(kind)
    assert root.type == "object"
    assert {"apiVersion", "kind", "metadata"} <= root.fields.keys()


@pytest.mark.parametrize(
    ("path", "strategy", "merge_key", "list_type", "map_keys"),
    [
        ("containers", {"merge"}, "name", "map", ("name",)),
        ("volumes", {"merge", "retainKeys"}, "name", "map", ("name",)),
        ("tolerations", set(), "", "atomic", ()),
        (
            "topologySpreadConstraints",
            {"merge"},
            "topologyKey",
            "map",
            ("topologyKey", "whenUnsatisfiable"),
        ),
    ],
)
def test_lists_know_how_they_are_merged(
    path: str, strategy: set[str], merge_key: str, list_type: str, map_keys: tuple[str, ...]
) -> None:
    node = POD_SPEC.fields[path]
    assert node.type == "array"
    assert node.patch_strategy == strategy
    assert (node.merge_key, node.list_type, node.map_keys) == (merge_key, list_type, map_keys)


def test_marks_of_a_field_do_not_leak_into_its_definition() -> None:
    strategy = at(kinds.DEPLOYMENT, "spec", "strategy")
    assert strategy.patch_strategy == {"retainKeys"}
    shared = schemas.schema_of("io.k8s.api.apps.v1.DeploymentStrategy")
    assert shared.patch_strategy == frozenset()
    assert strategy.fields is shared.fields


def test_kinds_share_what_they_have_in_common() -> None:
    one = at(kinds.DEPLOYMENT, "spec", "template", "spec")
    other = at(kinds.REPLICA_SET, "spec", "template", "spec")
    assert one is other is POD_SPEC


@pytest.mark.parametrize(
    ("kind", "path", "type_"),
    [
        (kinds.POD, ("metadata", "labels"), "map"),
        (kinds.POD, ("metadata", "labels", "app"), "string"),
        (kinds.POD, ("metadata", "creationTimestamp"), "time"),
        (kinds.LEASE, ("spec", "renewTime"), "micro-time"),
        (kinds.SERVICE, ("spec", "ports", "[]", "targetPort"), "int-or-string"),
        (kinds.POD, ("spec", "containers", "[]", "resources", "limits", "cpu"), "quantity"),
        (kinds.SECRET, ("data", "x"), "bytes"),
        (kinds.CONTROLLER_REVISION, ("data",), "any"),
        (kinds.POD, ("spec", "hostNetwork"), "boolean"),
        (kinds.DEPLOYMENT, ("spec", "replicas"), "integer"),
    ],
)
def test_types(kind: Kind, path: tuple[str, ...], type_: str) -> None:
    assert at(kind, *path).type == type_


def test_an_unknown_definition_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        schemas.schema_of("io.k8s.api.core.v1.Nothing")


POD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "a", "labels": {"x": "y"}},
    "spec": {"containers": [{"name": "c", "image": "i", "env": [{"name": "A", "value": "1"}]}]},
}


def with_(path: list[Any], value: Any, base: dict[str, Any] = POD) -> dict[str, Any]:
    obj = copy.deepcopy(base)
    place: Any = obj
    for step in path[:-1]:
        place = place.setdefault(step, {}) if isinstance(place, dict) else place[step]
    place[path[-1]] = value
    return obj


ENV = ["spec", "containers", 0, "env", 0, "value"]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ENV,
            1,
            "json: cannot unmarshal number into Go struct field"
            " EnvVar.spec.containers.env.value of type string",
        ),
        (
            ["spec", "hostNetwork"],
            "yes",
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type"
            " bool",
        ),
        (
            ["spec", "containers"],
            {},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type"
            " []v1.Container",
        ),
        (
            ["metadata", "labels", "x"],
            True,
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type"
            " string",
        ),
        (
            ["spec", "activeDeadlineSeconds"],
            1.5,
            "json: cannot unmarshal number 1.5 into Go struct field"
            " PodSpec.spec.activeDeadlineSeconds of type int64",
        ),
        (
            ["spec", "priority"],
            1 << 31,
            "json: cannot unmarshal number 2147483648 into Go struct field PodSpec.spec.priority of"
            " type int32",
        ),
        (
            ["spec", "restartPolicy"],
            [],
            "json: cannot unmarshal array into Go struct field PodSpec.spec.restartPolicy of type"
            " v1.RestartPolicy",
        ),
        (
            ["spec", "overhead"],
            {"cpu": "1x"},
            "quantities must match the regular expression"
            " '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            ["metadata", "creationTimestamp"],
            "yesterday",
            'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as'
            ' "2006"',
        ),
        (
            ["metadata", "creationTimestamp"],
            "2023-02-29T00:00:00Z",
            'parsing time "2023-02-29T00:00:00Z": day out of range',
        ),
    ],
)
def test_wrong_types_are_told_as_a_server_tells_them(
    path: list[Any], value: Any, message: str
) -> None:
    result = schemas.check(kinds.POD, with_(path, value))
    assert [fault.message for fault in result.errors] == [message]
    error = schemas.decode_error(kinds.POD, message)
    assert (error.code, error.reason) == (400, "BadRequest")
    assert error.message == f'Pod in version "v1" cannot be handled as a Pod: {message}'


def test_unknown_fields_are_told_with_their_indexes() -> None:
    obj = with_(["spec", "containers", 0, "foo"], 1)
    obj["bar"] = None
    result = schemas.check(kinds.POD, obj)
    assert result.errors == []
    assert result.unknown == ["spec.containers[0].foo", "bar"]
    faults = [f'unknown field "{path}"' for path in result.unknown]
    assert schemas.strict_error(kinds.POD, faults).message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field'
        ' "spec.containers[0].foo", unknown field "bar"'
    )


def test_no_more_than_a_hundred_unknown_fields_are_told() -> None:
    obj = {**POD, **{f"x{number}": 1 for number in range(150)}}
    assert len(schemas.check(kinds.POD, obj).unknown) == 100


@pytest.mark.parametrize(
    ("text", "place"),
    [("YQ==", None), ("YQ", 0), ("Y", 0), ("YQ=", 3), ("YQ==x", 4), ("a_b=", 1), ("Y\nQ==", None)],
)
def test_base64_is_read_as_go_reads_it(text: str, place: int | None) -> None:
    result = schemas.check(kinds.SECRET, {"data": {"a": text}})
    wanted = [] if place is None else [f"illegal base64 data at input byte {place}"]
    assert [fault.message for fault in result.errors] == wanted


def test_pruning_drops_what_is_unknown_or_null_and_keeps_the_rest() -> None:
    obj = {
        "metadata": {"name": "a", "labels": {"x": None}, "creationTimestamp": None, "foo": 1},
        "spec": {
            "containers": [
                {"name": "c", "bar": 1, "args": [None], "resources": {"limits": {"cpu": 2}}}
            ]
        },
        "status": None,
    }
    schemas.prune(kinds.POD, obj)
    assert obj == {
        "metadata": {"name": "a", "labels": {"x": ""}},
        "spec": {
            "containers": [{"name": "c", "args": [""], "resources": {"limits": {"cpu": "2"}}}]
        },
    }


def test_free_form_data_is_left_alone() -> None:
    obj = {"data": {"a": None, "b": [1, None]}, "revision": 1}
    schemas.prune(kinds.CONTROLLER_REVISION, obj)
    assert obj["data"] == {"a": None, "b": [1, None]}


def test_a_body_that_is_no_object_is_an_error() -> None:
    faults = schemas.check_node(schemas.schema_for(kinds.POD), [1]).errors
    assert faults[0].message == "json: cannot unmarshal array into Go value of type v1.Pod"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_no_json_makes_checking_or_pruning_fail(kind: Kind, data: st.DataObject) -> None:
    fields = schemas.schema_for(kind).fields
    spec = schemas.schema_for(kind).fields.get("spec")
    inner = st.dictionaries(st.sampled_from(sorted(spec.fields if spec else fields)), json_values)
    obj = data.draw(st.dictionaries(st.sampled_from(sorted(fields)), json_values | inner))
    result = schemas.check(kind, obj)
    schemas.prune(kind, obj)
    if not result.errors:
        after = schemas.check(kind, obj)
        assert (after.errors, after.unknown) == ([], [])
