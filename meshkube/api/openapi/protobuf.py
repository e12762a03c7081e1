"""The v2 document in protobuf, which is the only form in which kubectl asks for it.

The messages and field numbers are those of the `gnostic` project's `OpenAPIv2.proto`; only what
the document uses is written. Extensions (`x-...`) travel as YAML text, and JSON is YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import orjson

Schema = dict[str, Any]

_METHODS: Final = {"get": 2, "put": 3, "post": 4, "delete": 5, "patch": 8}


def document(paths: Iterable[tuple[str, Schema]], schemas: Iterable[tuple[str, Schema]]) -> bytes:
    """`openapi.v2.Document` of path items and definitions as Swagger 2.0 has them."""
    info = _text(1, "Kubernetes") + _text(2, "v1")
    served = b"".join(_field(2, _named(name, _path_item(item))) for name, item in paths)
    defined = b"".join(_field(1, _named(name, _schema(schema))) for name, schema in schemas)
    return _text(1, "2.0") + _field(2, info) + _field(8, served) + _field(9, defined)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _field(number: int, payload: bytes) -> bytes:
    """A field of any type that has a length."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode()) if text else b""


def _flag(number: int, value: bool) -> bytes:
    return _varint(number << 3) + b"\x01" if value else b""


def _texts(number: int, values: Iterable[str]) -> bytes:
    return b"".join(_field(number, value.encode()) for value in values)


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _field(2, value)


def _extensions(number: int, schema: Schema) -> bytes:
    return b"".join(
        _field(number, _named(key, _field(2, orjson.dumps(value))))
        for key, value in schema.items()
        if key.startswith("x-")
    )


def _schema(schema: Schema) -> bytes:
    parts = [_SCHEMA[key](value) for key, value in schema.items() if key in _SCHEMA]
    return b"".join(parts) + _extensions(31, schema)


_SCHEMA: Final[dict[str, Callable[[Any], bytes]]] = {
    "$ref": lambda value: _text(1, value),
    "format": lambda value: _text(2, value),
    "description": lambda value: _text(4, value),
    "required": lambda value: _texts(19, value),
    "enum": lambda value: b"".join(_field(20, _field(2, orjson.dumps(each))) for each in value),
    "additionalProperties": lambda value: _field(21, _field(1, _schema(value))),
    "type": lambda value: _field(22, _text(1, value)),
    "items": lambda value: _field(23, _field(1, _schema(value))),
    "properties": lambda value: _field(
        25, b"".join(_field(1, _named(name, _schema(each))) for name, each in value.items())
    ),
}


def _path_item(item: Schema) -> bytes:
    operations = b"".join(
        _field(_METHODS[method], _operation(each))
        for method, each in item.items()
        if method in _METHODS
    )
    return operations + b"".join(_field(9, _parameter(each)) for each in item.get("parameters", ()))


def _operation(operation: Schema) -> bytes:
    responses = b"".join(
        _field(1, _named(code, _field(1, _response(each))))
        for code, each in operation["responses"].items()
    )
    return b"".join(
        (
            _text(3, operation["description"]),
            _texts(6, operation["produces"]),
            _texts(7, operation["consumes"]),
            *(_field(8, _parameter(each)) for each in operation["parameters"]),
            _field(9, responses),
            _extensions(13, operation),
        )
    )


def _response(response: Schema) -> bytes:
    schema = response.get("schema")
    described = _text(1, response["description"])
    return described + (_field(2, _field(1, _schema(schema))) if schema else b"")


def _parameter(parameter: Schema) -> bytes:
    """`ParametersItem` of a parameter in the body, the query or the path."""
    if parameter["in"] == "body":
        body = _text(2, parameter["name"]) + _text(3, "body") + _flag(4, parameter["required"])
        return _field(1, _field(1, body + _field(5, _schema(parameter["schema"]))))
    common = b"".join(
        (
            _flag(1, parameter.get("required", False)),
            _text(2, parameter["in"]),
            _text(3, parameter["description"]),
            _text(4, parameter["name"]),
        )
    )
    if parameter["in"] == "path":
        kind = _field(4, common + _text(5, parameter["type"]) + _flag(19, True))
    else:
        kind = _field(3, common + _text(6, parameter["type"]) + _flag(20, True))
    return _field(1, _field(2, kind))
