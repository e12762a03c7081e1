"""Who may ask the node's server for what. Pure.

The API server, which has asked its own rules already, may do everything. Other nodes may fetch
images. Of everybody else, known by another certificate of the cluster's CA or by a bearer token,
the API server is asked: `questions` says what. Source: Kubernetes documentation, "Kubelet
authentication/authorization".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshkube.api.types import Object

MASTERS, NODES = "system:masters", "system:nodes"
AUTHENTICATED = "system:authenticated"
OF_IMAGES = ("/images", "/images/archive")
_OURS = ("/images", "/proxy")
"""Paths that no kubelet has: they are for the cluster's own certificates alone."""
_VERBS = {
    "POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch",
    "DELETE": "delete",
}  # fmt: skip
_FINE = {"/pods": "pods", "/runningpods": "pods", "/healthz": "healthz", "/configz": "configz"}
"""What a right of its own is enough for; the right to all of `nodes/proxy` is, too."""
_COARSE = {
    "/stats": "stats", "/metrics": "metrics", "/logs": "log", "/checkpoint": "checkpoint",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the cluster knows them."""

    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: Mapping[str, list[str]] = field(default_factory=dict, compare=False)


def caller(certificate: Mapping[str, Any] | None) -> Caller | None:
    """The user of a verified certificate, as `ssl` describes one; None without any."""
    subject = [pair for each in (certificate or {}).get("subject", ()) for pair in each]
    name = next((value for kind, value in subject if kind == "commonName"), "")
    if not name:
        return None
    groups = [value for kind, value in subject if kind == "organizationName"]
    return Caller(name, (*groups, AUTHENTICATED))


def is_master(certificate: Mapping[str, Any] | None) -> bool:
    """Whether the holder is the API server or an operator."""
    found = caller(certificate)
    return found is not None and MASTERS in found.groups


def permitted(certificate: Mapping[str, Any] | None, method: str, path: str) -> bool:
    """Whether the holder may make this request, whatever the API server says."""
    found = caller(certificate)
    if found is None:
        return False
    return MASTERS in found.groups or (
        NODES in found.groups and method == "GET" and path in OF_IMAGES
    )


def bearer(authorization: str) -> str:
    """The token of an `Authorization` header; empty where there is none."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def questions(node: str, method: str, path: str) -> list[Object]:
    """The `resourceAttributes` of which one must be allowed; none: nobody may."""
    verb = _VERBS.get(method, "")
    if not verb or _named(path, _OURS):
        return []
    fine, coarse = _named(path, _FINE), _named(path, _COARSE)
    wanted = [_FINE[fine]] if fine else []
    wanted.append(_COARSE[coarse] if coarse else "proxy")
    return [
        {
            "verb": verb, "version": "v1", "resource": "nodes", "subresource": each, "name": node,
        }
        for each in wanted
    ]  # fmt: skip


def _named(path: str, roots: tuple[str, ...] | Mapping[str, str]) -> str:
    """The one of `roots` that the path is or is below."""
    root = "/" + path.lstrip("/").split("/", 1)[0]
    return next((each for each in roots if each == root.lower()), "")
