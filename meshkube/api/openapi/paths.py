"""The API's paths: which operations there are on which kinds.

An entry describes one path once; `v2` and `v3` write it in either dialect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from meshkube.api.kinds import Kind
from meshkube.api.openapi.definitions import V2, V3, Schema
from meshkube.api.schemas.nodes import definition_of

_SCALE: Final = "io.k8s.api.autoscaling.v1.Scale"
_EVICTION: Final = "io.k8s.api.policy.v1.Eviction"
_BINDING: Final = "io.k8s.api.core.v1.Binding"
_META: Final = "io.k8s.apimachinery.pkg.apis.meta.v1."
_STATUS: Final = _META + "Status"
_PATCH: Final = _META + "Patch"
_DELETE_OPTIONS: Final = _META + "DeleteOptions"
_PATCH_TYPES: Final = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_CUSTOM_PATCHES: Final = tuple(name for name in _PATCH_TYPES if "strategic" not in name)
_JSON: Final = ("application/json", "application/yaml")

# What sub-resources hold, where it is not the kind itself: definition, group, version, kind.
_OTHER_KINDS: Final = {
    "scale": (_SCALE, "autoscaling", "v1", "Scale"),
    "eviction": (_EVICTION, "policy", "v1", "Eviction"),
    "binding": (_BINDING, "", "v1", "Binding"),
}
_CREATED: Final = frozenset({"eviction", "binding"})
_CONNECTED: Final = frozenset({"exec", "attach", "proxy", "portforward"})

_PARAMETERS: Final = {
    "dryRun": ("string", "When present, indicates that modifications should not be persisted."),
    "fieldManager": ("string", "The name of the actor that makes these changes."),
    "fieldValidation": (
        "string",
        "What to do about unknown or duplicate fields: Ignore, Warn or Strict.",
    ),
    "force": ("boolean", "Take over fields that other managers own (apply only)."),
    "labelSelector": ("string", "Restrict the list by labels. Defaults to everything."),
    "fieldSelector": ("string", "Restrict the list by fields. Defaults to everything."),
    "limit": ("integer", "The most items to return at once."),
    "continue": ("string", "Where to go on with a list that was cut by `limit`."),
    "resourceVersion": ("string", "From which version of the data to answer."),
    "resourceVersionMatch": ("string", "How `resourceVersion` is applied to a list."),
    "timeoutSeconds": ("integer", "How long a list or watch may last."),
    "watch": ("boolean", "Watch for changes and return them as a stream."),
    "allowWatchBookmarks": ("boolean", "Send bookmarks while watching."),
    "gracePeriodSeconds": ("integer", "Seconds before the object is deleted."),
    "propagationPolicy": ("string", "Orphan, Background or Foreground."),
}
_WRITE: Final = ("dryRun", "fieldManager", "fieldValidation")
_LIST: Final = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "timeoutSeconds",
    "watch",
)
_DELETE: Final = ("dryRun", "gracePeriodSeconds", "propagationPolicy")


@dataclass(frozen=True, slots=True)
class Operation:
    """One HTTP method on one path."""

    method: str
    action: str
    gvk: dict[str, str]
    summary: str
    returns: str
    """A definition, or empty where the answer is not JSON."""
    query: tuple[str, ...] = ()
    body: str = ""
    consumes: tuple[str, ...] = _JSON


@dataclass(frozen=True, slots=True)
class Entry:
    """One path: the names in braces, and its operations."""

    variables: tuple[str, ...]
    operations: list[Operation] = field(default_factory=list)


def document_of(kind: Kind) -> str:
    """The v3 document a kind is in."""
    return f"apis/{kind.group}/{kind.version}" if kind.group else f"api/{kind.version}"


def roots(kinds: Iterable[Kind]) -> list[str]:
    """The definitions that the paths of some kinds name."""
    names = [_STATUS, _PATCH, _DELETE_OPTIONS]
    for kind in kinds:
        if kind.definition is not None:
            names += [_META + "ObjectMeta", _META + "ListMeta"]
        else:
            names += [definition_of(kind), definition_of(kind) + "List"]
        names += [_OTHER_KINDS[name][0] for name in kind.subresources if name in _OTHER_KINDS]
    return names


def served(kinds: Iterable[Kind]) -> Iterator[tuple[str, Entry]]:
    """Every path of some kinds."""
    for kind in kinds:
        space = "{namespace}" if kind.namespaced else None
        inside = ("namespace",) if kind.namespaced else ()
        if kind.namespaced:
            yield kind.path(), Entry((), [_list(kind)])
        yield kind.path(space), Entry(inside, _collection(kind))
        named = (*inside, "name")
        yield kind.path(space, "{name}"), Entry(named, _item(kind))
        for subresource in kind.subresources:
            path = kind.path(space, "{name}", subresource)
            yield path, Entry(named, _subresource(kind, subresource))


def _gvk(kind: Kind) -> dict[str, str]:
    return {"group": kind.group, "kind": kind.kind, "version": kind.version}


def _list(kind: Kind) -> Operation:
    words = f"list or watch objects of kind {kind.kind}"
    return Operation("get", "list", _gvk(kind), words, definition_of(kind) + "List", _LIST)


def _collection(kind: Kind) -> list[Operation]:
    gvk, name = _gvk(kind), definition_of(kind)
    words = f"delete collection of {kind.kind}"
    return [
        _list(kind),
        Operation("post", "post", gvk, f"create a {kind.kind}", name, _WRITE, name),
        Operation("delete", "deletecollection", gvk, words, _STATUS, (*_DELETE, *_LIST[1:6])),
    ]


def _item(kind: Kind) -> list[Operation]:
    gvk, name = _gvk(kind), definition_of(kind)
    words = f"delete a {kind.kind}"
    return [
        *_readable(gvk, name, kind.kind, _patch_types(kind)),
        Operation("delete", "delete", gvk, words, _STATUS, _DELETE, _DELETE_OPTIONS),
    ]


def _patch_types(kind: Kind) -> tuple[str, ...]:
    return _PATCH_TYPES if kind.definition is None else _CUSTOM_PATCHES


def _readable(
    gvk: dict[str, str], name: str, noun: str, patches: tuple[str, ...]
) -> list[Operation]:
    patch = (*_WRITE, "force")
    return [
        Operation("get", "get", gvk, f"read the specified {noun}", name),
        Operation("put", "put", gvk, f"replace the specified {noun}", name, _WRITE, name),
        Operation(
            "patch",
            "patch",
            gvk,
            f"partially update the specified {noun}",
            name,
            patch,
            _PATCH,
            patches,
        ),
    ]


def _subresource(kind: Kind, subresource: str) -> list[Operation]:
    noun = f"{subresource} of the specified {kind.kind}"
    gvk, name = _gvk(kind), definition_of(kind)
    if subresource in _OTHER_KINDS:
        name, *names = _OTHER_KINDS[subresource]
        gvk = dict(zip(("group", "version", "kind"), names, strict=True))
    if subresource in _CREATED:
        return [Operation("post", "post", gvk, f"create {noun}", _STATUS, _WRITE, name)]
    if subresource in _CONNECTED:
        return [
            Operation(method, "connect", gvk, f"connect to {noun}", "")
            for method in ("get", "post")
        ]
    if subresource == "log":
        return [Operation("get", "get", gvk, f"read {noun}", "")]
    if subresource == "finalize":
        return [Operation("put", "put", gvk, f"replace {noun}", name, _WRITE, name)]
    return _readable(gvk, name, noun, _patch_types(kind))


def _path_parameter(name: str) -> dict[str, Any]:
    words = "name of the object" if name == "name" else "the namespace of the object"
    return {"name": name, "in": "path", "required": True, "description": words}


def v3(entry: Entry) -> Schema:
    """A path item of OpenAPI 3.0."""
    text = {"schema": {"type": "string", "uniqueItems": True}}
    item: Schema = {each.method: _operation_v3(each) for each in entry.operations}
    if entry.variables:
        item["parameters"] = [{**_path_parameter(name), **text} for name in entry.variables]
    return item


def _operation_v3(operation: Operation) -> Schema:
    response: Schema = {"description": "OK"}
    if operation.returns:
        response["content"] = _content(operation.returns, _JSON)
    schema = _common(operation)
    schema["responses"] = {"200": response}
    schema["parameters"] = [
        {
            "name": name,
            "in": "query",
            "description": _PARAMETERS[name][1],
            "schema": {"type": _PARAMETERS[name][0], "uniqueItems": True},
        }
        for name in operation.query
    ]
    if operation.body:
        content = _content(operation.body, operation.consumes)
        schema["requestBody"] = {"content": content, "required": True}
    return schema


def _content(definition: str, types: Iterable[str]) -> Schema:
    return {each: {"schema": {"$ref": V3.prefix + definition}} for each in types}


def _common(operation: Operation) -> Schema:
    return {
        "description": operation.summary,
        "x-kubernetes-action": operation.action,
        "x-kubernetes-group-version-kind": operation.gvk,
    }


def v2(entry: Entry) -> Schema:
    """A path item of Swagger 2.0."""
    item: Schema = {each.method: _operation_v2(each) for each in entry.operations}
    if entry.variables:
        text = {"type": "string", "uniqueItems": True}
        item["parameters"] = [{**_path_parameter(name), **text} for name in entry.variables]
    return item


def _operation_v2(operation: Operation) -> Schema:
    response: Schema = {"description": "OK"}
    if operation.returns:
        response["schema"] = {"$ref": V2.prefix + operation.returns}
    parameters: list[Schema] = [
        {
            "name": name,
            "in": "query",
            "description": _PARAMETERS[name][1],
            "type": _PARAMETERS[name][0],
            "uniqueItems": True,
        }
        for name in operation.query
    ]
    if operation.body:
        reference = {"$ref": V2.prefix + operation.body}
        body = {"name": "body", "in": "body", "required": True, "schema": reference}
        parameters.insert(0, body)
    schema = _common(operation)
    schema["consumes"] = list(operation.consumes)
    schema["produces"] = list(_JSON)
    schema["parameters"] = parameters
    schema["responses"] = {"200": response}
    return schema
