"""What all patches need of plain JSON values."""

from __future__ import annotations

from typing import Any, Protocol

from meshkube.api.types import JSON


class SchemaNode(Protocol):
    """What a patch asks of a place in a schema (`api.schemas.Node` is one)."""

    @property
    def items(self) -> SchemaNode | None:
        """What the elements of a list, or the values of a map, are."""
        ...

    @property
    def patch_strategy(self) -> frozenset[str]:
        """Of `merge`, `replace` and `retainKeys`."""
        ...

    @property
    def merge_key(self) -> str: ...

    def field(self, name: str, /) -> SchemaNode | None: ...


def equal(one: JSON, other: JSON) -> bool:
    """Equality as JSON has it: 1 equals 1.0, but true is not 1."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    return bool(one == other)


def type_name(value: Any) -> str:
    """What JSON calls the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, dict):
        return "object"
    if isinstance(value, list):
        return "array"
    return "string" if isinstance(value, str) else "number"
