"""Loading the shapes: from the published definitions to a shared tree of slotted nodes."""

from __future__ import annotations

import mmap
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from sys import intern
from typing import Any, Final

import orjson

from meshkube.api.kinds import Kind

VERSION: Final = "1.33.0"
"""The Kubernetes release whose schemas are served."""

_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_REGISTRATION: Final = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1."
_EXTENSIONS: Final = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
_SPECIAL: Final = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "int-or-string",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "quantity",
    _META + "Time": "time",
    _META + "MicroTime": "micro-time",
    _META + "FieldsV1": "any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "any",
    _EXTENSIONS + "JSON": "json",
    _EXTENSIONS + "JSONSchemaPropsOrStringArray": "json",
}
# A schema where JSON Schema also allows something else: that is kept as it is.
_MIXED: Final = {
    _EXTENSIONS + "JSONSchemaPropsOrArray": _EXTENSIONS + "JSONSchemaProps",
    _EXTENSIONS + "JSONSchemaPropsOrBool": _EXTENSIONS + "JSONSchemaProps",
}
_NONE: Final[frozenset[str]] = frozenset()
_STRATEGIES: Final[dict[str, frozenset[str]]] = {}


class Node:
    """One place in an object: its type, what is below it, and how lists there are merged."""

    __slots__ = (
        "definition",
        "fields",
        "format",
        "items",
        "list_type",
        "map_keys",
        "map_type",
        "merge_key",
        "patch_strategy",
        "required",
        "type",
    )

    def __init__(self, type_: str) -> None:
        self.type = type_
        self.fields: dict[str, Node] = _NO_FIELDS
        self.items: Node | None = None
        self.patch_strategy = _NONE
        self.merge_key = ""
        self.list_type = ""
        self.map_keys: tuple[str, ...] = ()
        self.map_type = ""
        self.required: tuple[str, ...] = ()
        self.format = ""
        """Of an integer: int32 or int64."""
        self.definition = ""
        """The full name of the definition, such as `io.k8s.api.core.v1.PodSpec`, or empty."""

    def field(self, name: str) -> Node | None:
        """What is under `name`: a field of an object, or the values of a map."""
        return self.items if self.type == "map" else self.fields.get(name)

    def __repr__(self) -> str:
        return f"Node({self.type}{': ' + self.definition if self.definition else ''})"


_NO_FIELDS: dict[str, Node] = {}


def definitions_path() -> Path:
    """Where the definitions lie. The package is only located: to import it costs 90 ms."""
    found = find_spec("kubernetes_validate")
    if found is None or found.origin is None:
        raise RuntimeError("the package kubernetes-validate is not installed")
    folder = Path(found.origin).parent / "kubernetes-json-schema"
    return folder / f"v{VERSION}-local" / "_definitions.json"


class Source:
    """The definitions' text and where each one starts; lives only while something is loaded.

    The text is mapped, never read or parsed as a whole: one definition at a time.
    """

    _KEY = re.compile(rb'\n    "(io\.k8s\.[\w.-]+)": (?=\{)')
    _REFERENCE = re.compile(rb'"\$ref": "#/\$defs/([\w.-]+)"')
    _END = b"\n    }"

    def __init__(self) -> None:
        with definitions_path().open("rb") as opened:
            self.text = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
        self.starts = {match[1].decode(): match.end() for match in self._KEY.finditer(self.text)}

    def definition(self, name: str) -> dict[str, Any]:
        """The schema of one definition. Raises `KeyError`."""
        value: dict[str, Any] = orjson.loads(self._slice(name))
        return value

    def references(self, name: str) -> list[str]:
        """The definitions that one names. Raises `KeyError`."""
        return [match.decode() for match in self._REFERENCE.findall(self._slice(name))]

    def _slice(self, name: str) -> bytes:
        start = self.starts[name]
        return self.text[start : self.text.find(self._END, start) + len(self._END)]


class _Loader:
    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}

    def load(self, name: str, source: Source | None = None) -> Node:
        if name in self.nodes:
            return self.nodes[name]
        if name in _SPECIAL:
            node = self.nodes[name] = Node(_SPECIAL[name])
            return node
        source = source or Source()
        if name in _MIXED:
            node = self.nodes[name] = Node("json")
            node.items = self.load(_MIXED[name], source)
            return node
        raw = source.definition(name)
        node = self.nodes[name] = Node("object")
        node.definition = intern(name)
        node.required = tuple(intern(field) for field in raw.get("required", ()))
        node.map_type = intern(raw.get("x-kubernetes-map-type", ""))
        node.fields = {}  # set before the fields are read: a definition may contain itself
        for field, schema in raw.get("properties", {}).items():
            node.fields[intern(field)] = self._field(schema, source)
        return node

    def _field(self, schema: dict[str, Any], source: Source) -> Node:
        if "$ref" in schema:
            return self._reference(schema, source)
        type_ = schema["type"]
        if isinstance(type_, list):
            type_ = next(name for name in type_ if name != "null")
        if type_ == "array":
            node = Node("array")
            node.items = self._field(schema["items"], source)
        elif type_ == "object":
            node = Node("map" if "additionalProperties" in schema else "any")
            if node.type == "map":
                node.items = self._field(schema["additionalProperties"], source)
        else:
            return _scalar(type_, schema.get("format", ""))
        return _marked(node, schema)

    def _reference(self, schema: dict[str, Any], source: Source) -> Node:
        node = self.load(schema["$ref"].rpartition("/")[2], source)
        if not any(key.startswith("x-kubernetes-") for key in schema):
            return node
        copy = Node(node.type)
        copy.definition, copy.fields, copy.required = node.definition, node.fields, node.required
        copy.map_type, copy.items = node.map_type, node.items
        return _marked(copy, schema)


def _marked(node: Node, schema: dict[str, Any]) -> Node:
    strategy = schema.get("x-kubernetes-patch-strategy", "")
    if strategy:
        node.patch_strategy = _STRATEGIES.setdefault(strategy, frozenset(strategy.split(",")))
    node.merge_key = intern(schema.get("x-kubernetes-patch-merge-key", ""))
    node.list_type = intern(schema.get("x-kubernetes-list-type", ""))
    node.map_keys = tuple(map(intern, schema.get("x-kubernetes-list-map-keys", ())))
    node.map_type = intern(schema.get("x-kubernetes-map-type", node.map_type))
    return node


@cache
def _scalar(type_: str, format_: str) -> Node:
    """Plain scalars carry no marks, so one node serves every field of the same type."""
    node = Node("bytes" if format_ == "byte" else intern(type_))
    node.format = "" if format_ == "byte" else intern(format_)
    return node


_loader = _Loader()


def definition_of(kind: Kind) -> str:
    """The name of a kind's definition, such as `io.k8s.api.apps.v1.Deployment`."""
    group = kind.group.partition(".")[0] or "core"
    if kind.definition is not None:
        return ".".join((*reversed(kind.group.split(".")), kind.version, kind.kind))
    if group == "apiextensions":
        return _EXTENSIONS + kind.kind
    if group == "apiregistration":
        return _REGISTRATION + kind.kind
    return f"io.k8s.api.{group}.{kind.version}.{kind.kind}"


def schema_of(definition: str) -> Node:
    """The shape of any definition by its full name (`Scale`, `Eviction`...). Raises `KeyError`."""
    return _loader.load(definition)


def schema_for(kind: Kind) -> Node:
    """The shape of a built-in kind's objects. Raises `KeyError` where none is published."""
    return _loader.load(definition_of(kind))


def preload(kinds: tuple[Kind, ...]) -> None:
    """Read the shapes of many kinds in one pass over the source."""
    source = Source()
    for kind in kinds:
        _loader.load(definition_of(kind), source)
