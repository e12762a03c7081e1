"""Checking decoded JSON against a kind's shape, and dropping what the shape does not know.

Wording and paths are those of an API server's decoder (Go's `encoding/json` as Kubernetes uses
it): a wrong type names the enclosing struct and a path without indexes, an unknown field a path
with them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from meshkube.api.errors import ApiError, FieldError, bad_request
from meshkube.api.kinds import Kind
from meshkube.api.schemas import scalars
from meshkube.api.schemas.go_types import named_type
from meshkube.api.schemas.nodes import Node, schema_for
from meshkube.api.types import JSON, Object

MAX_UNKNOWN: Final = 100
"""So many unknown fields are reported at most, as a real server does."""

_REASON: Final = "FieldValueTypeInvalid"
_PLAIN: Final[dict[str, type]] = {"string": str, "boolean": bool}


@dataclass(slots=True)
class SchemaResult:
    """What `check` found."""

    errors: list[FieldError] = field(default_factory=list)
    """What cannot be read, the one a server would report first; any makes the object unreadable."""
    unknown: list[str] = field(default_factory=list)
    """Paths of unknown fields, such as `spec.containers[0].foo`."""


def check(kind: Kind, obj: Object) -> SchemaResult:
    """Compare an object with its kind's shape. Never raises, whatever JSON is in it."""
    return check_node(schema_for(kind), obj)


def check_node(node: Node, value: JSON) -> SchemaResult:
    """`check` for any shape (`schema_of(...)`)."""
    checker = _Checker()
    if isinstance(value, dict):
        checker.object(node, value, "", "")
    elif value is not None:
        checker.wrong_type(node, value, "", "", "")
    return checker.result


def prune(kind: Kind, obj: Object) -> None:
    """Drop unknown fields and nulls, in place, as decoding into typed structs does; quantities
    get their canonical form (`1000m` becomes `1`, a bare number becomes text)."""
    prune_node(schema_for(kind), obj)


def decode_error(kind: Kind, message: str) -> ApiError:
    """400 for an object that cannot be read; `message` is the first `SchemaResult.errors`'."""
    subject = f'{kind.kind} in version "{kind.version}"'
    return bad_request(f"{subject} cannot be handled as a {kind.kind}: {message}")


def strict_error(kind: Kind, faults: list[str]) -> ApiError:
    """400 of `fieldValidation=Strict`; faults such as `unknown field "spec.foo"`."""
    return decode_error(kind, "strict decoding error: " + ", ".join(faults))


class _Checker:
    def __init__(self) -> None:
        self.result = SchemaResult()
        self._unread = 0
        """How many values had the right type and could not be read: they are told first, for a
        server gives up at such a value and goes on after a wrong type."""

    def object(self, node: Node, value: dict[str, Any], path: str, go_path: str) -> None:
        """`path` has indexes, `go_path` has none; both are empty at the root."""
        struct = node.definition.rpartition(".")[2]
        for key, item in value.items():
            field = node.fields.get(key)
            if field is None:
                self._unknown(f"{path}.{key}" if path else key)
            elif item is not None and _PLAIN.get(field.type) is not type(item):
                deeper = f"{path}.{key}" if path else key
                self.value(field, item, deeper, f"{go_path}.{key}" if go_path else key, struct)

    def value(self, node: Node, value: JSON, path: str, go_path: str, struct: str) -> None:
        kind = node.type
        if kind == "object" and isinstance(value, dict):
            self.object(node, value, path, go_path)
        elif kind == "array" and isinstance(value, list):
            assert node.items is not None
            for index, item in enumerate(value):
                if item is not None:
                    self.value(node.items, item, f"{path}[{index}]", go_path, struct)
        elif kind == "map" and isinstance(value, dict):
            assert node.items is not None
            for key, item in value.items():
                if item is not None:
                    self.value(node.items, item, f"{path}.{key}", go_path, struct)
        elif kind in ("any", "json"):
            # Kept unread, but for a schema where something else may be too.
            if node.items is not None and isinstance(value, dict):
                self.object(node.items, value, path, go_path)
        elif kind in _PARSED:
            self._parsed(node, value, path, go_path, struct)
        elif _PLAIN.get(kind) is not type(value):
            self.wrong_type(node, value, path, go_path, struct)

    def _parsed(self, node: Node, value: JSON, path: str, go_path: str, struct: str) -> None:
        try:
            _PARSED[node.type](value, node.format)
        except TypeError:
            self.wrong_type(node, value, path, go_path, struct)
        except OverflowError:
            self._mismatch(node, f"number {value}", path, go_path, struct)
        except ValueError as error:
            fault = FieldError(path, _REASON, str(error))
            if node.type == "bytes":  # the one such value at which a server does not give up
                self.result.errors.append(fault)
            else:
                self.result.errors.insert(self._unread, fault)
                self._unread += 1

    def wrong_type(self, node: Node, value: JSON, path: str, go_path: str, struct: str) -> None:
        self._mismatch(node, scalars.json_type(value), path, go_path, struct)

    def _mismatch(self, node: Node, what: str, path: str, go_path: str, struct: str) -> None:
        where = f"Go struct field {struct}.{go_path}" if struct else "Go value"
        name = named_type(struct, go_path.rpartition(".")[2])
        if name is None:
            name = scalars.go_type(node)
        elif node.type != "array":
            name = name.removeprefix("[]")
        message = f"json: cannot unmarshal {what} into {where} of type {name}"
        self.result.errors.append(FieldError(path, _REASON, message))

    def _unknown(self, path: str) -> None:
        if len(self.result.unknown) < MAX_UNKNOWN:
            self.result.unknown.append(path)


_PARSED: Final[dict[str, Callable[[JSON, str], None]]] = {
    "integer": scalars.integer,
    "number": scalars.number,
    "int-or-string": scalars.int_or_string,
    "quantity": scalars.quantity,
    "time": scalars.time,
    "micro-time": scalars.micro_time,
    "bytes": scalars.base64_bytes,
}


def prune_node(node: Node, value: JSON) -> None:
    """`prune` for any shape. A null in a list or a map becomes its type's zero value."""
    if node.type == "object" and isinstance(value, dict):
        for key in [key for key in value if value[key] is None or key not in node.fields]:
            del value[key]
        for key, item in value.items():
            field = node.fields[key]
            if isinstance(item, (dict, list)):
                prune_node(field, item)
            elif field.type == "quantity":
                value[key] = scalars.canonical_quantity(item)
    elif node.type == "array" and isinstance(value, list):
        _prune_items(node, value, enumerate(value))
    elif node.type == "map" and isinstance(value, dict):
        _prune_items(node, value, value.items())
    elif node.type == "json" and node.items is not None and isinstance(value, dict):
        prune_node(node.items, value)


def _prune_items(node: Node, values: JSON, items: Iterable[tuple[Any, JSON]]) -> None:
    assert node.items is not None
    for key, item in items:
        if item is None:
            values[key] = scalars.zero(node.items)
        elif isinstance(item, (dict, list)):
            prune_node(node.items, item)
        elif node.items.type == "quantity":
            values[key] = scalars.canonical_quantity(item)
