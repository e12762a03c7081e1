"""What a structural schema may say: the rules that make pruning, defaulting and server-side apply
possible, and faults of the keywords themselves.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Specifying a structural schema".
"""

from __future__ import annotations

from typing import Final

from meshkube.api.custom.defaulting import default
from meshkube.api.custom.nested_review import (
    JUNCTORS,
    MOST,
    repeats_int_or_string,
    review,
    review_pattern,
)
from meshkube.api.custom.pruning import prune
from meshkube.api.custom.structural import UNSET, Structural
from meshkube.api.custom.values import validate
from meshkube.api.errors import FieldError
from meshkube.api.types import JSON, Object, clone
from meshkube.api.validation.faults import (
    Faults,
    child,
    forbidden,
    invalid,
    item,
    not_supported,
    required,
)

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_UNKNOWN: Final = ("$ref", "additionalItems", "definitions", "dependencies", "id",
                   "patternProperties")  # fmt: skip


def review_schema(schema: Object, path: str) -> Faults:
    """Every fault of `openAPIV3Schema`."""
    faults: Faults = []
    if not schema.get("type"):
        faults.append(required(child(path, "type"), "must not be empty at the root"))
    elif schema["type"] != "object":
        faults.append(invalid(child(path, "type"), schema["type"], "must be object at the root"))
    if schema.get("nullable"):
        faults.append(forbidden(child(path, "nullable"), "nullable cannot be true at the root"))
    _structure(schema, path, faults, root=True)
    if not faults:
        compiled = Structural(schema, root=True)
        _defaults(schema, compiled, path, faults)
        if compiled.has_rules:
            from meshkube.api.custom.rule_review import review_rules

            faults += review_rules(compiled, path)
    return faults[:MOST]


def _structure(schema: Object, path: str, faults: Faults, root: bool = False) -> None:
    if len(faults) > MOST:
        return
    _keywords(schema, path, faults)
    _extensions(schema, path, faults, root)
    for name, field in (schema.get("properties") or {}).items():
        where = f"{child(path, 'properties')}[{name}]"
        if (root or schema.get("x-kubernetes-embedded-resource")) and name == "metadata":
            _metadata(field, where, faults)
        _needs_type(field, where, "must not be empty for specified object fields", faults)
        _structure(field, where, faults)
    for key, words in (("items", "array items"), ("additionalProperties", "object fields")):
        below = schema.get(key)
        if isinstance(below, dict):
            where = child(path, key)
            _needs_type(below, where, f"must not be empty for specified {words}", faults)
            _structure(below, where, faults)
    for key in JUNCTORS:
        for index, nested in enumerate(schema.get(key) or ()):
            where = item(child(path, key), index)
            plain = schema.get("x-kubernetes-int-or-string") and repeats_int_or_string(schema, key)
            review(nested, schema, where, faults, bool(plain))
    if isinstance(schema.get("not"), dict):
        review(schema["not"], schema, child(path, "not"), faults, False)


def _needs_type(schema: Object, path: str, words: str, faults: Faults) -> None:
    free = ("x-kubernetes-preserve-unknown-fields", "x-kubernetes-int-or-string")
    if not schema.get("type") and not any(schema.get(key) for key in free):
        faults.append(required(child(path, "type"), words))


def _keywords(schema: Object, path: str, faults: Faults) -> None:
    type_ = schema.get("type")
    if type_ and type_ not in _TYPES:
        faults.append(not_supported(child(path, "type"), type_, _TYPES))
    for key in _UNKNOWN:
        if schema.get(key):
            faults.append(forbidden(child(path, key), f"{key} is not supported"))
    if schema.get("uniqueItems"):
        detail = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        faults.append(forbidden(child(path, "uniqueItems"), detail))
    if schema.get("additionalProperties") is False:
        detail = "additionalProperties cannot be set to false"
        faults.append(forbidden(child(path, "additionalProperties"), detail))
    elif isinstance(schema.get("additionalProperties"), dict) and schema.get("properties"):
        detail = "additionalProperties and properties are mutual exclusive"
        faults.append(forbidden(child(path, "additionalProperties"), detail))
    if isinstance(schema.get("items"), list):
        detail = "items must be a schema object and not an array"
        faults.append(forbidden(child(path, "items"), detail))
    elif type_ == "array" and schema.get("items") is None:
        faults.append(required(child(path, "items"), "must be specified"))
    review_pattern(schema, path, faults)


def _extensions(schema: Object, path: str, faults: Faults, root: bool) -> None:
    type_ = schema.get("type") or ""

    def only(key: str, wanted: str) -> None:
        if schema.get(key) and type_ != wanted:
            words = f"must be {wanted} if {key} is specified"
            faults.append(
                invalid(child(path, "type"), type_, words)
                if type_
                else required(child(path, "type"), words)
            )

    only("x-kubernetes-embedded-resource", "object")
    if schema.get("x-kubernetes-embedded-resource") and not (
        schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("properties")
    ):
        detail = (
            "must not be empty if x-kubernetes-embedded-resource is true without"
            " x-kubernetes-preserve-unknown-fields"
        )
        faults.append(required(child(path, "properties"), detail))
    only("x-kubernetes-list-type", "array")
    only("x-kubernetes-map-type", "object")
    map_type = schema.get("x-kubernetes-map-type")
    if map_type and map_type not in ("atomic", "granular"):
        where = child(path, "x-kubernetes-map-type")
        faults.append(not_supported(where, map_type, ("atomic", "granular")))
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        where = child(path, "x-kubernetes-preserve-unknown-fields")
        faults.append(invalid(where, False, "must be true or undefined"))
    _list_type(schema, path, faults)
    del root


def _list_type(schema: Object, path: str, faults: Faults) -> None:
    list_type, where = schema.get("x-kubernetes-list-type"), child(path, "x-kubernetes-list-type")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    keys_path = child(path, "x-kubernetes-list-map-keys")
    items = schema.get("items") if isinstance(schema.get("items"), dict) else {}
    assert isinstance(items, dict)
    if list_type and list_type not in ("atomic", "set", "map"):
        faults.append(not_supported(where, list_type, ("atomic", "map", "set")))
    if keys and list_type != "map":
        faults.append(
            invalid(
                where, list_type or "", "must be map if x-kubernetes-list-map-keys is non-empty"
            )
        )
    if list_type == "set":
        _set_items(items, path, faults)
    if list_type != "map":
        return
    if not keys:
        detail = "must not be empty if x-kubernetes-list-type is map"
        faults.append(required(keys_path, detail))
    if items and items.get("type") != "object":
        detail = "must be object if parent array's x-kubernetes-list-type is map"
        faults.append(invalid(f"{child(path, 'items')}.type", items.get("type") or "", detail))
    fields = items.get("properties") or {}
    for index, key in enumerate(keys):
        field = fields.get(key)
        if field is None:
            detail = "entries must all be names of item properties"
            faults.append(invalid(item(keys_path, index), key, detail))
            continue
        if field.get("type") in ("array", "object"):
            detail = "must be a scalar type if parent array's x-kubernetes-list-type is map"
            name = f"{child(path, 'items')}.properties[{key}].type"
            faults.append(invalid(name, field["type"], detail))
        if field.get("default") is None and key not in (items.get("required") or ()):
            name = f"{child(path, 'items')}.properties[{key}].default"
            detail = (
                "this property is in x-kubernetes-list-map-keys, so it must have a default or be a"
                " required property"
            )
            faults.append(required(name, detail))


def _set_items(items: Object, path: str, faults: Faults) -> None:
    whole = items.get("x-kubernetes-map-type") == "atomic"
    whole = whole or items.get("x-kubernetes-list-type") == "atomic"
    if items.get("nullable"):
        detail = "forbidden if x-kubernetes-list-type is set"
        faults.append(forbidden(f"{child(path, 'items')}.nullable", detail))
    if items.get("type") in ("object", "array") and not whole:
        detail = "must be atomic as item of a list with x-kubernetes-list-type=set"
        faults.append(invalid(child(path, "x-kubernetes-list-type"), "set", detail))


def _metadata(schema: Object, path: str, faults: Faults) -> None:
    """Of an object's metadata a schema may say no more than how names look."""
    if schema.get("type") not in (None, "object"):
        faults.append(invalid(child(path, "type"), schema["type"], "must be object"))
    for name in schema.get("properties") or {}:
        if name not in ("name", "generateName"):
            detail = (
                "must not specify anything other than name and generateName, but metadata is"
                " implicitly specified"
            )
            faults.append(forbidden(path, detail))
            break


def _defaults(schema: Object, compiled: Structural, path: str, faults: Faults) -> None:
    """A default must itself be what its schema asks for, and nothing that would be pruned."""
    given: JSON = schema.get("default", UNSET)
    if given is not UNSET:
        faults += _default(given, compiled, child(path, "default"))
    for name, field in (schema.get("properties") or {}).items():
        where = f"{child(path, 'properties')}[{name}]"
        _defaults(field, compiled.fields[name], where, faults)
    for key in ("items", "additionalProperties"):
        below = schema.get(key)
        if isinstance(below, dict) and compiled.items is not None:
            _defaults(below, compiled.items, child(path, key), faults)


def _default(given: JSON, compiled: Structural, path: str) -> Faults:
    value = clone(given)
    if isinstance(value, dict | list):
        pruned = clone(value)
        holder = {"value": pruned}
        around = Structural({"type": "object"})
        around.fields = {"value": compiled}
        if prune(holder, around):
            return [invalid(path, given, "must not have unknown fields")]
        default(holder, around)
        value = holder["value"]
    return [_moved(fault, path) for fault in validate(value, compiled)]


def _moved(fault: FieldError, path: str) -> FieldError:
    below = "" if fault.path == "<nil>" else fault.path
    joined = path + (below if below.startswith("[") else f".{below}" if below else "")
    return FieldError(joined, fault.reason, fault.message)
