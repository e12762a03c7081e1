"""Custom kinds in OpenAPI: a definition's own schema, as clients expect to find it published."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, Final

import orjson

from meshkube.api.kinds import Kind
from meshkube.api.openapi.definitions import V2, Dialect, Schema
from meshkube.api.schemas.nodes import Source, definition_of

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_MODEL: Final = "io.k8s.api.core.v1.ConfigMap"
"""Whose words on the parts that every object has are taken."""
# What Swagger 2.0, or the clients that read it, cannot take.
_NOT_V2: Final = frozenset({"oneOf", "anyOf", "allOf", "not", "nullable"})
_BELOW: Final = ("items", "additionalProperties")


def definitions(kinds: Iterable[Kind], dialect: Dialect) -> Iterator[tuple[str, Schema]]:
    """The schemas of the custom ones among some kinds and of their lists, by name."""
    for kind in kinds:
        if kind.definition is None:
            continue
        name = definition_of(kind)
        raw = kind.definition.version(kind.version).openapi_schema()
        schema = _v2(raw) if dialect is V2 else raw
        yield name, _whole(schema, kind, dialect)
        yield name + "List", _list(kind, name, dialect)


def fingerprint(kind: Kind) -> str:
    """Changes with whatever is published of a kind."""
    assert kind.definition is not None
    about = [kind.path(), kind.kind, kind.namespaced, kind.list_kind, kind.subresources]
    schema = kind.definition.version(kind.version).openapi_schema()
    return hashlib.sha256(orjson.dumps([about, schema])).hexdigest()


def _whole(raw: Schema, kind: Kind, dialect: Dialect) -> Schema:
    """As an API server publishes it: with the parts that every object has."""
    common = {
        "apiVersion": _text("apiVersion"),
        "kind": _text("kind"),
        "metadata": _metadata("ObjectMeta", dialect),
    }
    schema: Schema
    if dialect is V2 and raw.get("x-kubernetes-preserve-unknown-fields"):
        # With any property named, kubectl would refuse all others.
        schema = {"type": "object"}
    else:
        schema = {**raw, "properties": {**(raw.get("properties") or {}), **common}}
    schema["x-kubernetes-group-version-kind"] = [_gvk(kind, kind.kind)]
    return schema


@cache
def _model() -> Schema:
    found: Schema = Source().definition(_MODEL)["properties"]
    return found


def _words(field: str) -> str:
    return str(_model()[field]["description"])


def _text(field: str) -> Schema:
    return {"type": "string", "description": _words(field)}


def _metadata(name: str, dialect: Dialect) -> Schema:
    reference = {"$ref": dialect.prefix + _META + name}
    if dialect.wraps:
        return {"description": _words("metadata"), "allOf": [reference]}
    return {"description": _words("metadata"), **reference}


def _list(kind: Kind, name: str, dialect: Dialect) -> Schema:
    return {
        "description": f"{kind.list_kind} is a list of {kind.kind}.",
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": _text("apiVersion"),
            "kind": _text("kind"),
            "metadata": _metadata("ListMeta", dialect),
            "items": {"type": "array", "items": {"$ref": dialect.prefix + name}},
        },
        "x-kubernetes-group-version-kind": [_gvk(kind, kind.list_kind)],
    }


def _gvk(kind: Kind, name: str) -> dict[str, str]:
    return {"group": kind.group, "kind": name, "version": kind.version}


def _v2(raw: Schema) -> Schema:
    """A schema without what Swagger 2.0 cannot say; where free fields are kept, or null may stand,
    without what kubectl would then refuse."""
    schema: dict[str, Any] = {key: value for key, value in raw.items() if key not in _NOT_V2}
    free, nullable = raw.get("x-kubernetes-preserve-unknown-fields"), raw.get("nullable")
    if free or nullable:
        schema.pop("items", None)
        schema.pop("properties", None)
    if nullable or (free and raw.get("type") == "object"):
        schema.pop("type", None)
    if schema.get("type") == "array" and not schema.get("items"):
        del schema["type"]
    if schema.get("properties"):
        below = schema["properties"]
        schema["properties"] = {key: _v2(value) for key, value in below.items()}
        _drop_required(schema, {key for key, value in below.items() if value.get("nullable")})
    for key in _BELOW:
        if isinstance(schema.get(key), dict):
            schema[key] = _v2(schema[key])
    return schema


def _drop_required(schema: dict[str, Any], names: set[str]) -> None:
    kept = [name for name in schema.get("required") or () if name not in names]
    if kept:
        schema["required"] = kept
    else:
        schema.pop("required", None)
