"""Schemas below `allOf`, `anyOf`, `oneOf` and `not`: constraints on values that are specified
outside, and nothing else.

Source: as `schema_review`.
"""

from __future__ import annotations

from typing import Final

from meshkube.api.custom import patterns
from meshkube.api.patch.values import equal
from meshkube.api.types import Object
from meshkube.api.validation.faults import Faults, child, forbidden, invalid, item, required

JUNCTORS: Final = ("allOf", "anyOf", "oneOf")
# Below `allOf` and its kin nothing may say what there is, only what values are fine.
_NOT_NESTED: Final = ("default", "nullable", "description", "title", "example", "externalDocs")
_INT_OR_STRING: Final = [{"type": "integer"}, {"type": "string"}]
_EXTENSIONS: Final = (
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "additionalProperties",
)
MOST: Final = 100


def repeats_int_or_string(schema: Object, key: str) -> bool:
    """The one place where a nested type is fine: it repeats `x-kubernetes-int-or-string`."""
    nested = schema.get(key) or []
    if key == "anyOf":
        return equal(nested, _INT_OR_STRING)
    return key == "allOf" and bool(nested) and equal(nested[0].get("anyOf"), _INT_OR_STRING)


def review(nested: Object, around: Object | None, path: str, faults: Faults, plain: bool) -> None:
    """Adds the faults of a schema below a junctor, and what it is about: `around` (None: nothing
    known). `plain`: it may have types."""
    if len(faults) > MOST:
        return
    _words(nested, path, faults, plain)
    fields = (around or {}).get("properties") or {}
    for name, field in (nested.get("properties") or {}).items():
        where = f"{child(path, 'properties')}[{name}]"
        if around is not None and name not in fields and name != "metadata":
            target = f"{_outside(path)}.properties[{name}]"
            faults.append(required(target, f"because it is defined in {where}"))
        review(field, fields.get(name), where, faults, False)
    if isinstance(nested.get("items"), dict):
        _items(nested["items"], around, path, faults)
    for key in JUNCTORS:
        for index, one in enumerate(nested.get(key) or ()):
            review(one, around, item(child(path, key), index), faults, plain)
    if isinstance(nested.get("not"), dict):
        review(nested["not"], around, child(path, "not"), faults, False)


def _items(items: Object, around: Object | None, path: str, faults: Faults) -> None:
    below, where = (around or {}).get("items"), child(path, "items")
    if around is not None and not isinstance(below, dict):
        faults.append(required(f"{_outside(path)}.items", f"because it is defined in {where}"))
    review(items, below if isinstance(below, dict) else None, where, faults, False)


def _words(nested: Object, path: str, faults: Faults, plain: bool) -> None:
    """What may not stand there at all."""
    if nested.get("type") and not plain:
        faults.append(forbidden(child(path, "type"), "must be empty to be structural"))
    for key in _NOT_NESTED:
        if nested.get(key):
            faults.append(forbidden(child(path, key), "must be empty to be structural"))
    for key in _EXTENSIONS:
        if nested.get(key):
            faults.append(forbidden(child(path, key), "must be undefined to be structural"))
    review_pattern(nested, path, faults)


def _outside(path: str) -> str:
    """The path of the schema that a junctor stands in."""
    ends = [at for key in (*JUNCTORS, "not") if (at := path.find(f".{key}")) >= 0]
    return path[: min(ends)] if ends else path


def review_pattern(schema: Object, path: str, faults: Faults) -> None:
    if schema.get("pattern"):
        try:
            patterns.compiled(schema["pattern"])
        except ValueError as error:
            detail = f"must be a valid regular expression, but isn't: {error}"
            faults.append(invalid(child(path, "pattern"), schema["pattern"], detail))
