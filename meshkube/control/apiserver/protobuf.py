"""Kubernetes' protobuf encoding, read only: what kubectl and client-go send since 1.32.

Answers are JSON, which those clients accept as well. The result is what the same client would have
sent as JSON. The field numbers are data (`protobuf_fields.json`, made by scripts/protobuf-fields).
Source: Kubernetes API concepts, "Kubernetes Protobuf encoding"; the Protocol Buffers encoding.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import orjson

from meshkube.api import meta
from meshkube.api.types import Object

MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\x00"
_DEPTH = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class DecodeError(ValueError):
    """The bytes are not what they say they are."""


class _Field(NamedTuple):
    number: int
    name: str
    """Empty where the message's fields stand in its parent."""
    type: str
    said: bool
    """Whether JSON says a zero of it, too."""


@cache
def _messages() -> dict[str, list[_Field]]:
    text = files(__package__).joinpath("protobuf_fields.json").read_bytes()
    return {
        name: [_Field(*entry) for entry in fields] for name, fields in orjson.loads(text).items()
    }


def decode(content: bytes) -> Object:
    """The object in a request's body. Raises `DecodeError`."""
    if not content.startswith(MAGIC):
        raise DecodeError("the body does not start with the prefix of Kubernetes' protobuf")
    try:
        parts = {number: value for number, _, value in _read(content[len(MAGIC) :])}
        about = {number: value.decode() for number, _, value in _read(parts.get(1, b""))}
        api_version, kind = about.get(1, ""), about.get(2, "")
        obj = _message(_name_of(api_version, kind), parts.get(2, b""), 0)
    except (IndexError, AttributeError, TypeError, KeyError, OverflowError, struct.error) as error:
        raise DecodeError(f"the body is not valid protobuf: {error}") from None
    except UnicodeDecodeError as error:
        raise DecodeError(f"a text in the body is not UTF-8: {error.reason}") from None
    return {"apiVersion": api_version, "kind": kind, **obj}


def _name_of(api_version: str, kind: str) -> str:
    if kind == "DeleteOptions":
        return "meta/v1 DeleteOptions"
    group, _, version = api_version.rpartition("/")
    name = f"{group.partition('.')[0] or 'core'}/{version} {kind}"
    if name not in _messages():
        raise DecodeError(f"no kind {kind!r} in {api_version!r} is read as protobuf here")
    return name


def _read(content: bytes) -> Iterator[tuple[int, int, Any]]:
    """`(field number, wire type, int or bytes)` of each field."""
    at, end = 0, len(content)
    while at < end:
        tag, at = _varint(content, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(content, at)
        else:
            size = {1: 8, 5: 4}.get(wire)
            if wire == 2:
                size, at = _varint(content, at)
            if size is None or at + size > end:
                raise DecodeError("the body is not valid protobuf: it is cut off")
            value, at = content[at : at + size], at + size
        yield number, wire, value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        byte = content[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise DecodeError("the body is not valid protobuf: a number is too long")


def _message(name: str, content: bytes, depth: int) -> Object:
    if depth > _DEPTH:
        raise DecodeError("the body is nested too deeply")
    fields = {field.number: field for field in _messages()[name]}
    obj: Object = {}
    for number, wire, value in _read(content):
        field = fields.get(number)
        if field is not None:
            _put(obj, field, wire, value, depth)
    return obj


def _put(obj: Object, field: _Field, wire: int, value: Any, depth: int) -> None:
    if field.type.startswith("[]"):
        held = obj.setdefault(field.name, [])
        if field.type == "[]i" and wire == 2:
            held.extend(_packed(value))
        else:
            held.append(_value(field.type[2:], value, depth))
    elif field.type.startswith("{}"):
        entry = {number: one for number, _, one in _read(value)}
        content = entry.get(2, b"")
        key = entry.get(1, b"").decode()
        obj.setdefault(field.name, {})[key] = _value(field.type[2:], content, depth)
    else:
        made = _value(field.type, value, depth)
        if not field.name:
            obj.update(made)
        elif field.said or made not in ("", 0, False, None):
            obj[field.name] = made


def _packed(content: bytes) -> Iterator[int]:
    at = 0
    while at < len(content):
        value, at = _varint(content, at)
        yield _signed(value)


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


def _value(type_: str, value: Any, depth: int) -> Any:
    scalar = _SCALARS.get(type_)
    if scalar is not None:
        return scalar(value)
    made = _message(type_, value, depth + 1)
    union = _UNIONS.get(type_)
    if union is not None:
        return union(made)
    # A named list is a message on the wire, and a list in JSON.
    return made.get("", []) if _is_list(type_) else made


# What JSON schemas say in one of two forms.
_UNIONS: dict[str, Callable[[Object], Any]] = {
    "apiextensions/v1 JSONSchemaPropsOrArray": lambda one: (
        one.get("JSONSchemas") or one.get("Schema") or []
    ),
    "apiextensions/v1 JSONSchemaPropsOrBool": lambda one: one.get(
        "Schema", bool(one.get("Allows"))
    ),
    "apiextensions/v1 JSONSchemaPropsOrStringArray": lambda one: (
        one.get("Property") or one.get("Schema") or []
    ),
}


def _is_list(type_: str) -> bool:
    fields = _messages()[type_]
    return len(fields) == 1 and not fields[0].name and fields[0].type.startswith("[]")


def _quantity(content: bytes) -> str:
    return next((value.decode() for number, _, value in _read(content) if number == 1), "0")


def _moment(content: bytes) -> datetime | None:
    if not content:
        return None
    parts = {number: value for number, _, value in _read(content)}
    seconds, nanos = _signed(parts.get(1, 0)), _signed(parts.get(2, 0))
    return _EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)


def _time(content: bytes) -> str | None:
    moment = _moment(content)
    return meta.timestamp(moment) if moment else None


def _micro_time(content: bytes) -> str | None:
    moment = _moment(content)
    return meta.micro_timestamp(moment) if moment else None


def _int_or_string(content: bytes) -> int | str:
    parts = {number: value for number, _, value in _read(content)}
    if parts.get(1, 0) == 1:
        return str(parts.get(3, b"").decode())
    return _signed(parts.get(2, 0))


def _raw(content: bytes) -> Any:
    text = next((value for number, _, value in _read(content) if number == 1), b"")
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError as error:
        raise DecodeError(f"JSON inside the body cannot be read: {error}") from None


def _double(content: bytes) -> float | int:
    number = float(struct.unpack("<d", content)[0])
    # Go writes whole numbers without a fraction.
    return int(number) if number.is_integer() else number


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "d": _double,
    "s": lambda value: value.decode(),
    "i": _signed,
    "b": bool,
    "y": lambda value: base64.b64encode(value).decode(),
    "q": _quantity,
    "t": _time,
    "m": _micro_time,
    "x": _int_or_string,
    "r": _raw,
}
