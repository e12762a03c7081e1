"""What expressions may know of a custom object: its schema, as CEL sees it."""

from __future__ import annotations

import base64
import binascii

from meshkube.api.cel.functions import duration, timestamp
from meshkube.api.cel.values import Budget, CelError, CompileError, Value
from meshkube.api.custom.structural import Structural

_SPARE = Budget(1 << 62)
_TEXT = Structural({"type": "string"})
_METADATA = Structural(
    {
        "type": "object",
        "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
    }
)


class Known:
    """A place in a schema, as `cel.compiler.Shape`."""

    __slots__ = ("_schema",)

    def __init__(self, schema: Structural) -> None:
        self._schema = schema

    @property
    def is_map(self) -> bool:
        return self._schema.json_type == "object"

    @property
    def element(self) -> Known | None:
        items = self._schema.items
        return Known(items) if items is not None else None

    def field(self, name: str) -> Known | None:
        """None where nothing is known of it. Raises `CompileError`."""
        schema = self._schema
        if (schema.root or schema.embedded) and name in ("apiVersion", "kind", "metadata"):
            return Known(_METADATA if name == "metadata" else _TEXT)
        found = schema.fields.get(name)
        if found is None and schema.json_type == "object":
            found = schema.items
        if found is not None:
            return Known(found)
        if schema.preserve or not schema.json_type or schema.type == "map":
            return None
        raise CompileError(f"undefined field '{name}'")

    def read(self, value: Value) -> Value:
        """Numbers and formats as the schema means them."""
        schema = self._schema
        if schema.json_type == "number" and isinstance(value, int):
            return float(value)
        if schema.json_type == "integer" and isinstance(value, float):
            return int(value)
        if schema.json_type == "string" and isinstance(value, str):
            return _formatted(value, schema.values.get("format"))
        return value


def _formatted(value: str, format_: object) -> Value:
    try:
        if format_ in ("date-time", "datetime"):
            return timestamp(_SPARE, value)
        if format_ == "date":
            return timestamp(_SPARE, f"{value}T00:00:00Z")
        if format_ == "duration":
            return duration(_SPARE, value)
        if format_ == "byte":
            return base64.b64decode(value)
    except (CelError, binascii.Error):
        pass
    return value
