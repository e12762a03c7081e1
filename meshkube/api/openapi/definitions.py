"""Kubernetes' definitions in the dialects of OpenAPI v2 and v3.

The source is JSON Schema with some liberties (`null` among the types, `$defs`); both dialects say
the same in their own way, as an API server writes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import orjson

from meshkube.api.schemas.nodes import Source

Schema = dict[str, Any]

_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
# The source keeps these two without words.
_WORDS: Final = {
    _INT_OR_STRING: "A number, or text such as a name or a percentage.",
    _QUANTITY: (
        "An amount as a fixed-point number: a number with an optional suffix, binary (Ki, Mi, Gi,"
        " Ti, Pi, Ei), decimal (n, u, m, k, M, G, T, P, E) or an exponent (e3)."
    ),
}
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean"})


class Dialect:
    """How references and the two mixed types are written."""

    def __init__(self, prefix: str, mixed: dict[str, Schema], wraps: bool) -> None:
        self.prefix = prefix
        self.mixed = mixed
        self.wraps = wraps
        """Whether a reference that has a description of its own goes into `allOf`."""


V2: Final = Dialect(
    "#/definitions/",
    {
        _INT_OR_STRING: {"type": "string", "format": "int-or-string"},
        _QUANTITY: {"type": "string"},
    },
    wraps=False,
)
V3: Final = Dialect(
    "#/components/schemas/",
    {
        _INT_OR_STRING: {
            "format": "int-or-string",
            "oneOf": [{"type": "integer"}, {"type": "string"}],
        },
        _QUANTITY: {"oneOf": [{"type": "string"}, {"type": "number"}]},
    },
    wraps=True,
)


class Definitions:
    """All definitions that some roots need, one at a time."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._source = Source()

    def each(self, roots: Iterable[str]) -> Iterator[tuple[str, Schema]]:
        """`(name, schema)` of the roots and of all they refer to, sorted by name."""
        for name in sorted(self._reachable(roots)):
            yield name, self._definition(name)

    def json(self, roots: Iterable[str]) -> Iterator[bytes]:
        """The same as one JSON object, in parts."""
        lead = b"{"
        for name, schema in self.each(roots):
            yield lead + b'"' + name.encode() + b'":' + orjson.dumps(schema)
            lead = b","
        yield b"}"

    def _reachable(self, roots: Iterable[str]) -> set[str]:
        found: set[str] = set()
        todo = list(roots)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self._source.references(name)
        return found

    def _definition(self, name: str) -> Schema:
        mixed = self._dialect.mixed.get(name)
        if mixed is not None:
            return {"description": _WORDS[name], **mixed}
        raw = self._source.definition(name)
        schema = self._schema(raw)
        if "x-kubernetes-group-version-kind" in raw:
            # The source pins these to the one value they hold here; the API does not say so.
            for field in ("apiVersion", "kind"):
                schema["properties"][field].pop("enum", None)
        return schema

    def _schema(self, raw: Schema) -> Schema:
        schema: Schema = {}
        for key, value in raw.items():
            write = _KEYWORDS.get(key)
            if write is None:
                schema[key] = value
            else:
                write(self, schema, value)
        return schema

    def _reference(self, schema: Schema, value: str) -> None:
        reference = {"$ref": self._dialect.prefix + value.rpartition("/")[2]}
        if self._dialect.wraps:
            schema["allOf"] = [reference]
        else:
            schema.update(reference)

    def _type(self, schema: Schema, value: str | list[str]) -> None:
        schema["type"] = value if isinstance(value, str) else next(t for t in value if t != "null")

    def _properties(self, schema: Schema, value: dict[str, Schema]) -> None:
        schema["properties"] = {name: self._field(field) for name, field in value.items()}

    def _items(self, schema: Schema, value: Schema) -> None:
        schema["items"] = self._field(value)

    def _additional(self, schema: Schema, value: Schema) -> None:
        schema["additionalProperties"] = self._field(value)

    def _field(self, raw: Schema) -> Schema:
        if raw.keys() == {"$ref"}:
            return {"$ref": self._dialect.prefix + raw["$ref"].rpartition("/")[2]}
        return self._schema(raw)


_KEYWORDS: Final[dict[str, Callable[[Definitions, Schema, Any], None]]] = {
    "$ref": Definitions._reference,
    "type": Definitions._type,
    "properties": Definitions._properties,
    "items": Definitions._items,
    "additionalProperties": Definitions._additional,
}
