"""Dropping what a structural schema does not know (`x-kubernetes-preserve-unknown-fields` aside).

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Field pruning" and "Controlling pruning".
"""

from __future__ import annotations

from meshkube.api import schemas
from meshkube.api.custom.structural import OBJECT_META, Structural
from meshkube.api.types import JSON, Object

MOST = 100
"""So many unknown fields are told at most."""
_IDENTITY = frozenset({"apiVersion", "kind", "metadata"})


def prune(obj: Object, schema: Structural) -> list[str]:
    """Drops unknown fields, in place; their paths. The metadata of the object itself is left to
    the shape that all objects share."""
    unknown: list[str] = []
    _prune(obj, schema, "", unknown, whole=True)
    return unknown


def _prune(
    value: JSON, schema: Structural | None, path: str, unknown: list[str], whole: bool = False
) -> None:
    if isinstance(value, dict):
        if schema is not None and schema.embedded and not whole:
            _prune_metadata(value, path, unknown)
            whole = True
        _prune_object(value, schema, path, unknown, whole)
    elif isinstance(value, list):
        items = schema.items if schema is not None and schema.json_type == "array" else None
        if items is None and schema is not None and schema.preserve:
            return
        for index, item in enumerate(value):
            if isinstance(item, dict | list):
                _prune(item, items, f"{path}[{index}]", unknown)


def _prune_object(
    value: Object, schema: Structural | None, path: str, unknown: list[str], whole: bool
) -> None:
    fields = schema.fields if schema is not None else {}
    free = schema.items if schema is not None and schema.json_type == "object" else None
    keeps = schema is not None and (schema.preserve or schema.type == "map")
    gone = []
    for key, held in value.items():
        if whole and key in _IDENTITY:
            continue
        below = fields.get(key, free)
        if below is None:
            if not keeps:
                gone.append(key)
        elif isinstance(held, dict | list):
            _prune(held, below, f"{path}.{key}" if path else key, unknown)
    for key in gone:
        del value[key]
        if len(unknown) < MOST:
            unknown.append(f"{path}.{key}" if path else key)


def _prune_metadata(value: Object, path: str, unknown: list[str]) -> None:
    """An embedded object's metadata has the shape that all metadata has."""
    held = value.get("metadata")
    if isinstance(held, dict):
        node = schemas.schema_of(OBJECT_META)
        found = schemas.check_node(node, held)
        unknown += [f"{path}.metadata.{one}" for one in found.unknown]
        if not found.errors:
            schemas.prune_node(node, held)
