"""Every fault of a custom object's values, in the words of Kubernetes' own validator.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Validation"; OpenAPI 3.0 for what the keywords mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from meshkube.api.custom import formats, patterns
from meshkube.api.custom.structural import UNSET, Nested, Structural
from meshkube.api.errors import FieldError
from meshkube.api.patch.values import equal
from meshkube.api.types import JSON, Object
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    child,
    duplicate,
    invalid,
    item,
    not_supported,
    required,
    shown,
    too_long,
    too_many,
)
from meshkube.api.validation.metadata import validate_annotations, validate_labels

MOST = 100
"""So many faults are told at most."""
_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "number": (int, float),
}
_BITS: Final = {"int32": 31, "int64": 63}


def validate(obj: Object, schema: Structural, old: JSON = UNSET) -> Faults:
    """The faults of an object that was pruned and defaulted. What is as it was in `old` is let be:
    a schema may have become stricter since (Kubernetes calls that validation ratcheting)."""
    faults: Faults = []
    _walk(obj, schema, "", faults, old)
    return faults[:MOST]


def fits_type(value: JSON, type_: str) -> bool:
    """Whether a JSON value is of a type; a whole number may be written as `1.0`."""
    if type_ == "integer":
        if isinstance(value, float):
            return value.is_integer()
        return isinstance(value, int) and not isinstance(value, bool)
    kinds = _TYPES.get(type_)
    if kinds is None:
        return True
    return isinstance(value, kinds) and (type_ == "boolean" or not isinstance(value, bool))


def _walk(value: JSON, schema: Structural, path: str, faults: Faults, old: JSON) -> None:
    if len(faults) > MOST or (old is not UNSET and equal(value, old)):
        return
    if value is None and schema.nullable:
        return
    if not _typed(value, schema, path, faults):
        return
    if schema.values:
        _constraints(value, schema.values, path, faults)
    if isinstance(value, dict):
        if schema.embedded:
            _embedded(value, path, faults)
        fields, items = schema.fields, schema.items
        before = old if isinstance(old, dict) else {}
        for key, held in value.items():
            below = fields.get(key, items)
            if below is not None:
                _walk(held, below, child(path, key), faults, before.get(key, UNSET))
    elif isinstance(value, list) and schema.items is not None:
        told = by_keys(old, schema)
        for index, held in enumerate(value):
            _walk(
                held, schema.items, item(path, index), faults, told.get(key_of(held, schema), UNSET)
            )
        if schema.list_type in ("map", "set"):
            _unique(value, schema, path, faults)


def key_of(value: JSON, schema: Structural) -> str:
    """What tells an element of a list of type map from the others; empty where nothing does."""
    if schema.list_type != "map" or not isinstance(value, dict):
        return ""
    return orjson.dumps([value.get(key) for key in schema.map_keys]).decode()


def by_keys(values: JSON, schema: Structural) -> dict[str, JSON]:
    """The elements of an old list by `key_of`; none where they cannot be told apart."""
    if schema.list_type != "map" or not isinstance(values, list):
        return {}
    return {key_of(value, schema): value for value in values}


def _typed(value: JSON, schema: Structural, path: str, faults: Faults) -> bool:
    if schema.int_or_string:
        wanted, fine = "integer,string", isinstance(value, str) or fits_type(value, "integer")
    else:
        wanted, fine = schema.json_type, value is not None and fits_type(value, schema.json_type)
        if not wanted:
            return True
    if not fine:
        name = _type_name(value)
        detail = f'{path} in body must be of type {wanted}: "{name}"'
        faults.append(
            FieldError(
                path or "<nil>", "FieldValueTypeInvalid", f'Invalid value: "{name}": {detail}'
            )
        )
    return fine


def _type_name(value: JSON) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def _constraints(value: JSON, rules: Mapping[str, Any], path: str, faults: Faults) -> None:
    """What a schema says of the value itself; what is for other types says nothing."""
    match value:
        case bool():
            pass
        case str():
            _string(value, rules, path, faults)
        case int() | float():
            _number(value, rules, path, faults)
        case list():
            _count(len(value), rules, "Items", "items", path, faults)
        case dict():
            _count(len(value), rules, "Properties", "properties", path, faults)
            for name in rules.get("required", ()):
                if name not in value:
                    faults.append(required(child(path, name)))
    if "enum" in rules and not any(equal(value, one) for one in rules["enum"]):
        names = [one if isinstance(one, str) else shown(one) for one in rules["enum"]]
        faults.append(not_supported(path, value, names))
    _junctors(value, rules, path, faults)


def _bad(path: str, value: JSON, words: str) -> FieldError:
    return invalid(path or "<nil>", value, f"{path} in body {words}")


def _string(text: str, rules: Mapping[str, Any], path: str, faults: Faults) -> None:
    if "minLength" in rules and len(text) < rules["minLength"]:
        words = f"should be at least {rules['minLength']} chars long"
        faults.append(_bad(path, text, words))
    if "maxLength" in rules and len(text) > rules["maxLength"]:
        faults.append(too_long(path, rules["maxLength"]))
    if "pattern" in rules and not patterns.compiled(rules["pattern"]).search(text):
        faults.append(_bad(path, text, f"should match '{rules['pattern']}'"))
    format_ = rules.get("format")
    if format_ and not formats.fits(format_, text):
        faults.append(_bad(path, text, f"must be of type {format_}: {shown(text)}"))


def _number(value: float, rules: Mapping[str, Any], path: str, faults: Faults) -> None:
    low, high, factor = (rules.get(key) for key in ("minimum", "maximum", "multipleOf"))
    if low is not None:
        bare = bool(rules.get("exclusiveMinimum"))
        if value < low or (bare and value == low):
            words = "than" if bare else "than or equal to"
            faults.append(_bad(path, value, f"should be greater {words} {_plain(low)}"))
    if high is not None:
        bare = bool(rules.get("exclusiveMaximum"))
        if value > high or (bare and value == high):
            words = "than" if bare else "than or equal to"
            faults.append(_bad(path, value, f"should be less {words} {_plain(high)}"))
    if factor and not _multiple(value, factor):
        faults.append(_bad(path, value, f"should be a multiple of {_plain(factor)}"))
    bits = _BITS.get(rules.get("format", ""))
    if bits and not -(1 << bits) <= value < 1 << bits:
        words = f"must be of type {rules['format']}: {shown(value)}"
        faults.append(_bad(path, value, words))


def _multiple(value: float, factor: float) -> bool:
    if isinstance(value, int) and float(factor).is_integer():
        return value % int(factor) == 0
    return float(value / factor).is_integer()


def _plain(number: float) -> str:
    return str(int(number)) if float(number).is_integer() else str(number)


def _count(
    count: int, rules: Mapping[str, Any], suffix: str, noun: str, path: str, faults: Faults
) -> None:
    low, high = rules.get(f"min{suffix}"), rules.get(f"max{suffix}")
    if low is not None and count < low:
        faults.append(_bad(path, count, f"should have at least {low} {noun}"))
    if high is not None and count > high:
        faults.append(too_many(path, count, high))


def _junctors(value: JSON, rules: Mapping[str, Any], path: str, faults: Faults) -> None:
    name = f'"{path}"'
    if "allOf" in rules:
        before = len(faults)
        for one in rules["allOf"]:
            _nested(value, one, path, faults)
        if len(faults) > before:
            faults.append(_whole(path, f"{name} must validate all the schemas (allOf)"))
    if "anyOf" in rules and not _matching(value, rules["anyOf"]):
        faults.append(_whole(path, f"{name} must validate at least one schema (anyOf)"))
    if "oneOf" in rules:
        count = _matching(value, rules["oneOf"])
        if count != 1:
            found = "none valid" if not count else f"{count} valid alternatives"
            words = f"{name} must validate one and only one schema (oneOf). Found {found}"
            faults.append(_whole(path, words))
    if "not" in rules and _matching(value, [rules["not"]]):
        faults.append(_whole(path, f"{name} must not validate the schema (not)"))


def _whole(path: str, words: str) -> FieldError:
    return invalid(path or "<nil>", "", words)


def _matching(value: JSON, schemas: list[Nested]) -> int:
    """How many of the schemas a value satisfies."""
    count = 0
    for one in schemas:
        faults: Faults = []
        _nested(value, one, "", faults)
        count += not faults
    return count


def _nested(value: JSON, schema: Nested, path: str, faults: Faults) -> None:
    wanted = schema.values.get("type")
    if wanted and not fits_type(value, wanted):
        faults.append(_bad(path, _type_name(value), f"must be of type {wanted}"))
        return
    _constraints(value, schema.values, path, faults)
    if isinstance(value, dict):
        for key, held in value.items():
            below = schema.fields.get(key, schema.items)
            if below is not None:
                _nested(held, below, child(path, key), faults)
    elif isinstance(value, list) and schema.items is not None:
        for index, held in enumerate(value):
            _nested(held, schema.items, item(path, index), faults)


def _unique(values: list[JSON], schema: Structural, path: str, faults: Faults) -> None:
    seen: set[bytes] = set()
    for index, value in enumerate(values):
        if schema.list_type == "map":
            if not isinstance(value, dict):
                continue
            told: JSON = {key: value[key] for key in schema.map_keys if key in value}
        else:
            told = value
        key = orjson.dumps(told, option=orjson.OPT_SORT_KEYS)
        if key in seen:
            text = told if isinstance(told, str | int | float) else Shown(_go(told))
            faults.append(duplicate(item(path, index), text))
        seen.add(key)


def _go(value: JSON) -> str:
    """A JSON value in Go's notation."""
    if isinstance(value, dict):
        inside = ", ".join(f"{shown(key)}:{_go(value[key])}" for key in sorted(value))
        return "map[string]interface {}{" + inside + "}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(_go, value)) + "}"
    return shown(value)


def _embedded(value: Object, path: str, faults: Faults) -> None:
    for key in ("apiVersion", "kind"):
        if not value.get(key):
            faults.append(required(child(path, key), "must not be empty"))
    metadata = value.get("metadata")
    if not isinstance(metadata, dict):
        return
    for key, check in (("labels", validate_labels), ("annotations", validate_annotations)):
        held = metadata.get(key)
        if isinstance(held, dict) and all(isinstance(one, str) for one in held.values()):
            faults += check(held, f"{child(path, 'metadata')}.{key}")
