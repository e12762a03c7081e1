"""Structural schemas as trees of slotted nodes: what pruning, defaulting, validation and
server-side apply walk.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Specifying a structural schema".
"""

from __future__ import annotations

from sys import intern
from typing import Any, Final

from meshkube.api import schemas
from meshkube.api.types import JSON, Object

UNSET: Final = object()
"""There is no default."""
OBJECT_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NO_FIELDS: Final[dict[str, Structural]] = {}
_NUMBERS: Final = ("minimum", "maximum", "multipleOf", "minLength", "maxLength", "minItems",
                   "maxItems", "minProperties", "maxProperties")  # fmt: skip
_JUNCTORS: Final = ("allOf", "anyOf", "oneOf")


class Structural:
    """One place in a custom object. Also an `api.apply.TypedNode`, hence the names."""

    __slots__ = (
        "default",
        "embedded",
        "fields",
        "has_defaults",
        "has_rules",
        "int_or_string",
        "items",
        "json_type",
        "list_type",
        "map_keys",
        "map_type",
        "nullable",
        "preserve",
        "root",
        "rules",
        "type",
        "values",
    )

    def __init__(self, schema: Object, *, root: bool = False) -> None:
        self.root = root
        self.nullable = bool(schema.get("nullable"))
        self.preserve = bool(schema.get("x-kubernetes-preserve-unknown-fields"))
        self.embedded = bool(schema.get("x-kubernetes-embedded-resource"))
        self.int_or_string = bool(schema.get("x-kubernetes-int-or-string"))
        # As on any cluster it goes before a type that stands beside it.
        self.json_type: str = "" if self.int_or_string else intern(schema.get("type") or "")
        self.list_type = intern(schema.get("x-kubernetes-list-type") or "")
        self.map_keys = tuple(schema.get("x-kubernetes-list-map-keys") or ())
        self.map_type = intern(schema.get("x-kubernetes-map-type") or "")
        self.default: JSON = schema.get("default", UNSET)
        self.rules: list[Object] = schema.get("x-kubernetes-validations") or []
        self.fields = {
            intern(name): Structural(field)
            for name, field in (schema.get("properties") or {}).items()
        } or _NO_FIELDS
        self.items: Structural | None = None
        additional, items = schema.get("additionalProperties"), schema.get("items")
        if isinstance(additional, dict):
            self.items = Structural(additional)
        elif isinstance(items, dict):
            self.items = Structural(items)
        self.type = self._merge_type(additional)
        self.values = _values(schema)
        """The schema's own constraints on values; `allOf` and its kin hold `Nested`."""
        below: list[Structural] = [*self.fields.values(), *([self.items] if self.items else [])]
        self.has_defaults: bool = self.default is not UNSET or any(
            one.has_defaults for one in below
        )
        self.has_rules: bool = bool(self.rules) or any(one.has_rules for one in below)

    def _merge_type(self, additional: JSON) -> str:
        """As server-side apply tells it: free keys are a `map`."""
        if self.int_or_string:
            return "int-or-string"
        if self.json_type != "object":
            return self.json_type or "any"
        return "map" if additional or (not self.fields and self.preserve) else "object"

    def field(self, name: str) -> Any:
        """What is under `name`, for server-side apply; an object's metadata is always known."""
        if name == "metadata" and (self.root or self.embedded):
            return schemas.schema_of(OBJECT_META)
        found = self.fields.get(name)
        if found is None and self.json_type == "object":
            return self.items
        return found


class Nested:
    """A schema below `allOf`, `anyOf`, `oneOf` or `not`: only constraints on values."""

    __slots__ = ("fields", "items", "values")

    def __init__(self, schema: Object) -> None:
        self.fields = {
            name: Nested(field) for name, field in (schema.get("properties") or {}).items()
        }
        items = schema.get("items")
        self.items = Nested(items) if isinstance(items, dict) else None
        additional = schema.get("additionalProperties")
        if isinstance(additional, dict):
            self.items = Nested(additional)
        self.values = _values(schema)
        if schema.get("type"):
            self.values["type"] = schema["type"]


def _values(schema: Object) -> dict[str, Any]:
    found = {key: schema[key] for key in _CHECKED if schema.get(key) is not None}
    for key in _JUNCTORS:
        if schema.get(key):
            found[key] = [Nested(one) for one in schema[key]]
    if schema.get("not") is not None:
        found["not"] = Nested(schema["not"])
    return found


_CHECKED: Final = (
    *_NUMBERS, "enum", "pattern", "format", "required", "exclusiveMinimum", "exclusiveMaximum",
)  # fmt: skip
