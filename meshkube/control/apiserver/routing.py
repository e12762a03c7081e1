"""Request paths of resources, read into what they name. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
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
    tail: str = ""
    """Of `proxy`: the path after it, as it was sent; empty or with a slash in front."""


Find = Callable[[str, str, str], Kind | None]
"""Finds a kind by group, version and plural."""


def parse(path: str, find: Find = by_plural) -> Route | None:
    """The resource a path names; None for every other path."""
    path, tail = _split_proxy(path)
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
    route = _resource(find, group, version, namespace, rest)
    return replace(route, tail=tail) if tail and route is not None else route


def _split_proxy(path: str) -> tuple[str, str]:
    """The path up to `proxy`, and what it has after that, which is not ours to read."""
    parts = path.split("/")
    if parts[1:3] != ["api", "v1"]:
        return path, ""
    if parts[3:4] == ["nodes"]:
        end = 6
    elif parts[3:4] == ["namespaces"] and parts[5:6] in (["pods"], ["services"]):
        end = 8
    else:
        return path, ""
    if len(parts) <= end or parts[end - 1] != "proxy":
        return path, ""
    head = "/".join(parts[:end])
    return head, path[len(head) :]


def _inside_namespace(group: str, rest: list[str]) -> bool:
    """`namespaces/x/pods`, not the Namespace `x` itself nor its sub-resources."""
    if len(rest) < 3:
        return False
    return bool(group) or not (len(rest) == 3 and rest[2] in kinds.NAMESPACE.subresources)


def _resource(
    find: Find, group: str, version: str, namespace: str, rest: list[str]
) -> Route | None:
    kind = find(group, version, rest[0])
    if kind is None or len(rest) > 3 or (namespace and not kind.namespaced):
        return None
    if kind.namespaced and not namespace and len(rest) > 1:
        return None
    subresource = rest[2] if len(rest) == 3 else ""
    if subresource and subresource not in kind.subresources:
        return None
    return Route(kind, namespace, rest[1] if len(rest) > 1 else "", subresource)
