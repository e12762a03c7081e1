"""Discovery documents, made from the table of kinds. Pure.

Sources: Kubernetes API concepts, "API discovery"; `apidiscovery.k8s.io/v2`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import TypeAlias

from meshkube.api.kinds import BINDING, MEASURED, REVIEWS, Kind
from meshkube.api.schemas import VERSION
from meshkube.api.types import Object

MAJOR, MINOR, _ = VERSION.split(".")
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


@dataclass(frozen=True, slots=True)
class Sub:
    """A sub-resource: what it answers with, and by which verbs."""

    group: str
    version: str
    kind: str
    verbs: tuple[str, ...]


_STREAM = ("create", "get")
_SUBS = {
    "scale": Sub("autoscaling", "v1", "Scale", ("get", "patch", "update")),
    "exec": Sub("", "v1", "PodExecOptions", _STREAM),
    "attach": Sub("", "v1", "PodAttachOptions", _STREAM),
    "portforward": Sub("", "v1", "PodPortForwardOptions", _STREAM),
    "binding": Sub("", "v1", "Binding", ("create",)),
    "eviction": Sub("policy", "v1", "Eviction", ("create",)),
    "token": Sub("authentication.k8s.io", "v1", "TokenRequest", ("create",)),
    "proxy": Sub("", "v1", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),
}
_OWN_VERBS = {"log": ("get",), "finalize": ("update",)}
_VIEW_VERBS = ("get", "patch", "update")
"""Of a sub-resource that is a view of the whole object, such as `status`."""


# The order in which clients should prefer groups.
_GROUP_ORDER = ("", "apps", "events.k8s.io", "authentication.k8s.io", "authorization.k8s.io")


def subresource(kind: Kind, name: str) -> Sub:
    if name == "proxy":
        return replace(_SUBS[name], kind=f"{kind.kind}ProxyOptions")
    known = _SUBS.get(name)
    return known or Sub(kind.group, kind.version, kind.kind, _OWN_VERBS.get(name, _VIEW_VERBS))


Groups: TypeAlias = dict[str, dict[str, tuple[Kind, ...]]]
"""Kinds by group and version, in the order of preference."""


def grouped(kinds: Iterable[Kind]) -> Groups:
    """What is served, with what is answered on the spot."""
    found: dict[str, dict[str, list[Kind]]] = {name: {} for name in _GROUP_ORDER}
    for kind in (*kinds, BINDING, *REVIEWS, *MEASURED):
        found.setdefault(kind.group, {}).setdefault(kind.version, []).append(kind)
    return {
        group: {version: tuple(members) for version, members in versions.items()}
        for group, versions in found.items()
    }


def api_versions(groups: Groups, address: str) -> Object:
    """`/api`."""
    return {
        "kind": "APIVersions",
        "versions": list(groups[""]),
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_group_list(groups: Groups) -> Object:
    """`/apis`."""
    listed = [_group(groups, name) for name in groups if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}


def api_group(groups: Groups, name: str) -> Object | None:
    """`/apis/NAME`."""
    if not name or name not in groups:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(groups, name)}


def _group(groups: Groups, name: str) -> Object:
    versions = [
        {"groupVersion": f"{name}/{version}", "version": version} for version in groups[name]
    ]
    return {"name": name, "versions": versions, "preferredVersion": versions[0]}


def api_resource_list(groups: Groups, group: str, version: str) -> Object | None:
    """`/api/v1`, `/apis/GROUP/VERSION`."""
    members = groups.get(group, {}).get(version)
    if members is None:
        return None
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": [entry for kind in members for entry in _resources(kind)],
    }


def _resources(kind: Kind) -> Iterable[Object]:
    entry: Object = {
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    if "get" in kind.verbs and kind not in MEASURED:
        entry["storageVersionHash"] = _storage_hash(kind.storage)
    yield entry
    for name in kind.subresources:
        sub = subresource(kind, name)
        below: Object = {
            "name": f"{kind.plural}/{name}",
            "singularName": "",
            "namespaced": kind.namespaced,
            "kind": sub.kind,
            "verbs": list(sub.verbs),
        }
        if (sub.group, sub.version) != (kind.group, kind.version):
            below |= {"group": sub.group, "version": sub.version}
        yield below


def _storage_hash(kind: Kind) -> str:
    """Tells clients that migrate stored objects when the version that a kind is kept in changes:
    opaque to them, and made as kube-apiserver makes it (KEP-1515)."""
    text = f"{kind.group}/{kind.version}/{kind.kind}"
    return b64encode(sha256(text.encode()).digest()[:8]).decode()


def aggregated(groups: Groups, core: bool) -> Object:
    """`/api` (the core group) or `/apis` (all others) as one APIGroupDiscoveryList."""
    items = [_aggregated_group(groups, name) for name in groups if (name == "") is core]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _aggregated_group(groups: Groups, name: str) -> Object:
    versions = [
        {
            "version": version,
            "resources": [_aggregated_resource(kind) for kind in members],
            "freshness": "Current",
        }
        for version, members in groups[name].items()
    ]
    metadata = {"name": name} if name else {}
    return {"metadata": {**metadata, "creationTimestamp": None}, "versions": versions}


def _aggregated_resource(kind: Kind) -> Object:
    entry: Object = {
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": "Namespaced" if kind.namespaced else "Cluster",
        "singularResource": kind.singular,
        "verbs": list(kind.verbs),
    }
    if kind.short_names:
        entry["shortNames"] = list(kind.short_names)
    if kind.categories:
        entry["categories"] = list(kind.categories)
    subs = []
    for name in kind.subresources:
        sub = subresource(kind, name)
        response = {"group": sub.group, "version": sub.version, "kind": sub.kind}
        subs.append({"subresource": name, "responseKind": response, "verbs": list(sub.verbs)})
    if subs:
        entry["subresources"] = subs
    return entry


def version(platform: str) -> Object:
    """`/version`."""
    return {
        "major": MAJOR,
        "minor": MINOR,
        "gitVersion": f"v{VERSION}+meshkube",
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "cpython",
        "platform": platform,
    }
