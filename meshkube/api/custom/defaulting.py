"""Filling in a structural schema's defaults.

Source: the Kubernetes documents, "Extend the Kubernetes API with CustomResourceDefinitions",
"Defaulting" and "Defaulting and Nullable".
"""

from __future__ import annotations

from meshkube.api.custom.structural import UNSET, Structural
from meshkube.api.types import JSON, clone


def default(value: JSON, schema: Structural) -> None:
    """In place. A null where none may be counts as absent: it takes the default, or goes."""
    if isinstance(value, dict) and (schema.json_type == "object" or schema.embedded):
        _default_fields(value, schema)
    elif isinstance(value, list) and schema.json_type == "array" and schema.items is not None:
        items = schema.items
        for index, item in enumerate(value):
            if item is None and not items.nullable and items.default is not UNSET:
                value[index] = clone(items.default)
            if isinstance(value[index], dict | list):
                default(value[index], items)


def _default_fields(value: dict[str, JSON], schema: Structural) -> None:
    for name, field in schema.fields.items():
        held = value.get(name)
        if held is None and (name not in value or not field.nullable):
            if field.default is not UNSET:
                held = value[name] = clone(field.default)
            elif name in value:
                del value[name]
        if isinstance(held, dict | list):
            default(held, field)
    items = schema.items
    if items is None:
        return
    for name, held in value.items():
        if name in schema.fields:
            continue
        if held is None and not items.nullable and items.default is not UNSET:
            held = value[name] = clone(items.default)
        if isinstance(held, dict | list):
            default(held, items)
