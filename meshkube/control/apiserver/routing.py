"""Request paths of resources, read into what they name. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote

from meshkube.api import kinds
from meshkube.api.kinds import Kind, by_plural


@dataclass(frozen=True, slots=True)
class Route:
    """`namespace` and `name` are empty where the path has none."""

    kind: Kind
    namespace: str = ""
    name: str = ""
    subresource: str = ""


def parse(path: str) -> Route | None:
    """The resource a path names; None for every other path."""
    if "%" in path:
        path = unquote(path)
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) >= 3:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) >= 4:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    if "" in rest:
        return None
    namespace = ""
    if rest[0] == "namespaces" and _inside_namespace(group, rest):
        namespace, rest = rest[1], rest[2:]
    return _resource(group, version, namespace, rest)


def _inside_namespace(group: str, rest: list[str]) -> bool:
    """`namespaces/x/pods`, not the Namespace `x` itself nor its sub-resources."""
    if len(rest) < 3:
        return False
    return bool(group) or not (len(rest) == 3 and rest[2] in kinds.NAMESPACE.subresources)


def _resource(group: str, version: str, namespace: str, rest: list[str]) -> Route | None:
    kind = by_plural(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        return None
    if kind.namespaced and not namespace and len(rest) > 1:
        return None
    subresource = rest[2] if len(rest) == 3 else ""
    if subresource and subresource not in kind.subresources:
        return None
    return Route(kind, namespace, rest[1] if len(rest) > 1 else "", subresource)
