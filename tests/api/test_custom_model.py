"""Structural schemas and objects made at random, judged beside a plain model."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api.apply import apply, record_update
from meshkube.api.custom.defaulting import default
from meshkube.api.custom.pruning import prune
from meshkube.api.custom.schema_review import review_schema
from meshkube.api.custom.structural import Structural
from meshkube.api.custom.values import validate

NAMES = st.sampled_from(["a", "b", "c"])
SCALARS = st.sampled_from([None, True, False, 0, 1, 7, -3, 1.5, 2.0, "", "x", "longer", "é"])
Schema = dict[str, Any]


@st.composite
def scalars(draw: st.DrawFn) -> Schema:
    type_ = draw(st.sampled_from(["string", "integer", "number", "boolean"]))
    schema: Schema = {"type": type_}
    if draw(st.booleans()):
        schema["nullable"] = True
    if type_ == "string" and draw(st.booleans()):
        schema["maxLength"] = draw(st.integers(0, 3))
    if type_ in ("integer", "number") and draw(st.booleans()):
        schema["minimum"] = draw(st.integers(-2, 3))
    fitting = {"string": "x", "integer": 7, "number": 7.5, "boolean": True}
    if draw(st.booleans()) and schema.get("maxLength", 1) >= 1:
        schema["default"] = fitting[type_]
    return schema


def schemas(depth: int) -> st.SearchStrategy[Schema]:
    if not depth:
        return scalars()
    below = schemas(depth - 1)
    return scalars() | objects(below) | arrays(below) | maps(below)


@st.composite
def objects(draw: st.DrawFn, below: st.SearchStrategy[Schema]) -> Schema:
    schema: Schema = {"type": "object", "properties": draw(st.dictionaries(NAMES, below))}
    if schema["properties"] and draw(st.booleans()):
        schema["required"] = [draw(st.sampled_from(sorted(schema["properties"])))]
    if draw(st.integers(0, 4)) == 0:
        schema["x-kubernetes-preserve-unknown-fields"] = True
    return schema


@st.composite
def arrays(draw: st.DrawFn, below: st.SearchStrategy[Schema]) -> Schema:
    schema: Schema = {"type": "array", "items": draw(below)}
    if draw(st.booleans()):
        schema["maxItems"] = draw(st.integers(0, 2))
    return schema


@st.composite
def maps(draw: st.DrawFn, below: st.SearchStrategy[Schema]) -> Schema:
    return {"type": "object", "additionalProperties": draw(below)}


JSON = st.recursive(
    SCALARS,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(NAMES, below, max_size=3),
    max_leaves=12,
)
ROOTS = objects(schemas(2))


@st.composite
def near(draw: st.DrawFn, schema: Schema) -> Any:
    """A value that mostly fits."""
    if draw(st.integers(0, 9)) == 0:
        return draw(JSON)
    type_ = schema["type"]
    if type_ == "object":
        free = schema.get("additionalProperties")
        fields = schema.get("properties") or {}
        return {
            name: draw(near(fields.get(name) or free or {"type": "string"}))
            for name in draw(st.sets(NAMES))
        }
    if type_ == "array":
        return [draw(near(schema["items"])) for _ in range(draw(st.integers(0, 3)))]
    fitting = {"string": ["", "x", "yyyy"], "integer": [0, 7], "number": [1.5], "boolean": [True]}
    return draw(st.sampled_from(fitting[type_]))


def pruned(value: Any, schema: Schema | None) -> Any:
    """The model: what is left of a value."""
    if isinstance(value, dict):
        known, free = (
            (schema or {}).get("properties") or {},
            (schema or {}).get("additionalProperties"),
        )
        keeps = (schema or {}).get("x-kubernetes-preserve-unknown-fields")
        out = {}
        for key, held in value.items():
            below = known.get(key, free)
            if below is not None:
                out[key] = pruned(held, below)
            elif keeps:
                out[key] = held
        return out
    if isinstance(value, list):
        below = (schema or {}).get("items")
        if below is None and (schema or {}).get("x-kubernetes-preserve-unknown-fields"):
            return value
        return [pruned(one, below) for one in value]
    return value


def defaulted(value: Any, schema: Schema) -> Any:
    """The model: a value with what was left out."""
    if isinstance(value, dict) and schema["type"] == "object":
        out = dict(value)
        known, free = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, field in known.items():
            absent = key not in out or (out[key] is None and not field.get("nullable"))
            if absent:
                out.pop(key, None)
                if "default" in field:
                    out[key] = field["default"]
            if key in out:
                out[key] = defaulted(out[key], field)
        for key in out.keys() - known.keys():
            if free is not None:
                out[key] = _element(out[key], free)
        return out
    if isinstance(value, list) and schema["type"] == "array":
        return [_element(one, schema["items"]) for one in value]
    return value


def _element(value: Any, schema: Schema) -> Any:
    if value is None and not schema.get("nullable") and "default" in schema:
        value = schema["default"]
    return defaulted(value, schema)


TYPES = {"object": dict, "array": list, "string": str, "boolean": bool}


def faulty(value: Any, schema: Schema, path: str = "") -> set[str]:
    """The model: the paths of what is wrong."""
    if value is None and schema.get("nullable"):
        return set()
    type_ = schema["type"]
    if type_ in TYPES:
        fits = isinstance(value, TYPES[type_])
    else:
        fits = isinstance(value, int | float) and not isinstance(value, bool)
        fits = fits and (type_ == "number" or float(value).is_integer())
    if not fits:
        return {path or "<nil>"}
    found = set()
    if type_ == "string" and len(value) > schema.get("maxLength", 99):
        found.add(path)
    if type_ in ("integer", "number") and value < schema.get("minimum", -99):
        found.add(path)
    if type_ == "array":
        if len(value) > schema.get("maxItems", 99):
            found.add(path)
        for index, one in enumerate(value):
            found |= faulty(one, schema["items"], f"{path}[{index}]")
    if type_ == "object":
        start = f"{path}." if path else ""
        found |= {start + name for name in schema.get("required", ()) if name not in value}
        known, free = schema.get("properties") or {}, schema.get("additionalProperties")
        for key, one in value.items():
            below = known.get(key, free)
            if below is not None:
                found |= faulty(one, below, start + key)
    return found


def consistent(schema: Schema) -> bool:
    """Defaults that break the schema's own limits are refused: the model has none of them."""
    return review_schema(schema, "s") == []


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_objects_are_pruned_defaulted_and_judged_as_the_model_says(data: st.DataObject) -> None:
    raw = data.draw(ROOTS.filter(consistent))
    obj = data.draw(near(raw).filter(lambda value: isinstance(value, dict)))
    schema = Structural(raw)
    left = copy.deepcopy(obj)
    prune(left, schema)
    assert left == pruned(obj, raw)
    full = copy.deepcopy(left)
    default(full, schema)
    assert full == defaulted(left, raw)
    again = copy.deepcopy(full)
    assert prune(again, schema) == []
    default(again, schema)
    assert again == full
    assert {fault.path for fault in validate(full, schema)} == faulty(full, raw)
    # What is stored is judged no more as long as it stays.
    assert validate(full, schema, copy.deepcopy(full)) == []


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_what_is_applied_is_what_is_read(data: st.DataObject) -> None:
    raw = data.draw(ROOTS)
    schema = Structural({"type": "object", "properties": {"spec": raw}}, root=True)
    head = {"apiVersion": "example.com/v1", "kind": "W", "metadata": {"name": "w"}}
    first, second = (
        {**head, "spec": _bare(data.draw(near(raw).filter(lambda one: isinstance(one, dict))))}
        for _ in range(2)
    )
    made = apply(None, first, "one", schema=schema)
    assert made["spec"] == first["spec"]
    changed = apply(made, second, "one", schema=schema)
    assert _full(changed.get("spec")) == _full(second["spec"])
    assert record_update(made, made, "other", schema=schema) == made["metadata"]["managedFields"]


def _full(value: Any) -> Any:
    """Without empty containers: an apply may leave them out where they were emptied."""
    if isinstance(value, dict):
        return {key: one for key, held in value.items() if (one := _full(held)) != {}}
    if value is None:
        return {}
    return [_full(one) for one in value] if isinstance(value, list) else value


def _bare(value: Any) -> Any:
    """Without nulls, which mean nothing when applied, and without what is empty below."""
    if isinstance(value, dict):
        return {key: _bare(held) for key, held in value.items() if held is not None}
    return [_bare(one) for one in value] if isinstance(value, list) else value


@settings(max_examples=200, deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers(-1, 3) | st.sampled_from(["object", "array", "x", "("]),
    lambda below: st.lists(below, max_size=2) | st.dictionaries(
        st.sampled_from(["type", "properties", "items", "additionalProperties", "allOf", "not",
                         "anyOf", "default", "required", "enum", "nullable", "a", "pattern"]),
        below, max_size=4),
    max_leaves=15,
).filter(lambda value: isinstance(value, dict)))  # fmt: skip
def test_no_schema_of_the_right_shape_crashes_the_review(raw: Schema) -> None:
    from meshkube.api import schemas as shapes

    definition = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    node = shapes.schema_of(definition)
    if shapes.check_node(node, raw).errors:
        return
    shapes.prune_node(node, raw)
    if not review_schema(raw, "s"):
        schema = Structural(raw, root=True)
        for obj in ({}, {"a": {}}, {"a": [1, "x", None]}):
            prune(obj, schema)
            default(obj, schema)
            validate(obj, schema)


def test_free_keys_beside_known_ones_are_kept() -> None:
    schema = {
        "type": "object",
        "properties": {"known": {"type": "string"}},
        "additionalProperties": True,
    }
    assert not review_schema(schema, "schema")
    obj = {"known": "a", "other": {"b": [1]}}
    assert prune(obj, Structural(schema)) == []
    assert obj == {"known": "a", "other": {"b": [1]}}


def test_a_type_beside_int_or_string_gives_way_to_it() -> None:
    """As the definitions of volume snapshots have it: both numbers and texts are fine."""
    size = {"type": "string", "x-kubernetes-int-or-string": True}
    schema = {"type": "object", "properties": {"size": size}}
    assert not review_schema(schema, "schema")
    told = Structural(schema, root=True)
    assert validate({"size": 5}, told) == []
    assert validate({"size": "5Gi"}, told) == []
    assert [fault.path for fault in validate({"size": [5]}, told)] == ["size"]
