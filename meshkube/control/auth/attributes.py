"""What a request wants to do: the attributes that authorizers decide on.

Source: Kubernetes documentation, "Authorization", "Request attributes" and "Determine the request
verb"; a path is read by its form alone, so rules may name resources that are not served.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from meshkube.api.errors import ApiError
from meshkube.api.errors import forbidden as forbidden_resource
from meshkube.api.kinds import Kind
from meshkube.control.auth.users import User

_VERBS = {
    "POST": "create",
    "GET": "get",
    "HEAD": "get",
    "PUT": "update",
    "PATCH": "patch",
    "DELETE": "delete",
}


@dataclass(frozen=True, slots=True)
class Attributes:
    """One question. With `path` it is about a path that is no resource."""

    user: User
    verb: str
    group: str = ""
    resource: str = ""
    """The plural; empty for a path."""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    fields: str = ""
    """The field selector of a list or watch."""
    labels: str = ""
    """Its label selector."""

    @property
    def of_resource(self) -> bool:
        return not self.path

    @property
    def full_resource(self) -> str:
        """`pods/log`: as rules name it."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def of_request(user: User, method: str, path: str, query: Mapping[str, str]) -> Attributes:
    """The attributes of an HTTP request."""
    verb = _VERBS.get(method, method.lower())
    parts = _parts(path)
    if parts is None:
        return Attributes(user, method.lower() if method != "HEAD" else "head", path=path)
    group, namespace, resource, name, subresource = parts
    fields = labels = ""
    if verb in ("get", "delete") and not name:
        fields, labels = query.get("fieldSelector", ""), query.get("labelSelector", "")
        name = _one_name(fields) if fields else ""
        if verb == "delete":
            verb = "deletecollection"
        else:
            verb = "watch" if query.get("watch", "") not in _FALSE else "list"
    return Attributes(user, verb, group, resource, subresource, namespace, name, "", fields, labels)


_FALSE = ("", "0", "f", "F", "false", "False", "FALSE")


@functools.lru_cache(4096)
def _parts(path: str) -> tuple[str, str, str, str, str] | None:
    """`(group, namespace, resource, name, sub-resource)`; None where the path is no resource's."""
    parts = [unquote(part) for part in path.strip("/").split("/")]
    group, namespace = "", ""
    if parts[0] == "apis" and len(parts) >= 4:
        group, parts = parts[1], parts[3:]
    elif parts[0] == "api" and len(parts) >= 3:
        parts = parts[2:]
    else:
        return None
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in ("status", "finalize"):
            parts = parts[2:]
    parts += ["", ""]
    return group, namespace, parts[0], parts[1], parts[2]


def _one_name(fields: str) -> str:
    return required(fields, "metadata.name")


def required(fields: str, field: str) -> str:
    """The one value that a selector allows for a field or label; empty where it allows others."""
    for term in fields.split(","):
        key, mark, value = term.partition("=")
        if mark and key.strip() == field and not key.endswith("!"):
            return value.removeprefix("=").strip()
    return ""


def of_kind(
    user: User, verb: str, kind: Kind, namespace: str = "", name: str = "", subresource: str = "",
    fields: str = "", labels: str = "",
) -> Attributes:  # fmt: skip
    """The attributes of a call in this process."""
    if not name and fields:
        name = _one_name(fields)
    if kind.plural == "namespaces" and not kind.group and name:
        namespace = name
    return Attributes(
        user, verb, kind.group, kind.plural, subresource, namespace, name, "", fields, labels
    )


def denied(asked: Attributes, reason: str = "") -> ApiError:
    """The 403 in Kubernetes' words."""
    who = f'User "{asked.user.name}" cannot {asked.verb}'
    if not asked.of_resource:
        why = f'{who} path "{asked.path}"'
        message = f"forbidden: {why}" + (f": {reason}" if reason else "")
        return ApiError(403, "Forbidden", message, {"causes": []})
    where = f'in the namespace "{asked.namespace}"' if asked.namespace else "at the cluster scope"
    why = f'{who} resource "{asked.full_resource}" in API group "{asked.group}" {where}'
    if reason:
        why += f": {reason}"
    return forbidden_resource(asked.group, asked.resource, asked.name, why)
