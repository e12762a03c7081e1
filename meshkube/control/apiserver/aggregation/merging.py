"""Discovery documents with what other servers answer for. Pure.

Sources: Kubernetes API concepts, "API discovery"; `apidiscovery.k8s.io/v2`.
"""

from __future__ import annotations

from collections.abc import Mapping

from meshkube.api.types import Object
from meshkube.control.apiserver.aggregation.remotes import GroupVersion, Remotes

Resources = Mapping[GroupVersion, list[Object]]
"""What each remote last said that it serves, as in APIResourceList, once it has said so."""


def group(own: Object | None, remotes: Remotes, name: str) -> Object | None:
    """`/apis/NAME`; None where nobody serves it."""
    merged = _merged(own, remotes, name)
    return {"kind": "APIGroup", "apiVersion": "v1", **merged} if merged else None


def group_list(own: Object, remotes: Remotes) -> Object:
    """`/apis`."""
    known = {one["name"]: one for one in own["groups"]}
    names = [*known, *(name for name in remotes.groups if name not in known)]
    return {**own, "groups": [_merged(known.get(name), remotes, name) for name in names]}


def _merged(own: Object | None, remotes: Remotes, name: str) -> Object | None:
    """Own versions first."""
    theirs = [
        {"groupVersion": f"{name}/{one.version}", "version": one.version}
        for one in remotes.groups.get(name, ())
    ]
    if not theirs:
        return own
    taken = {one["version"] for one in theirs}
    mine = [one for one in (own or {}).get("versions") or () if one["version"] not in taken]
    versions = [*mine, *theirs]
    return {**(own or {}), "name": name, "versions": versions, "preferredVersion": versions[0]}


def aggregated(own: Object, remotes: Remotes, known: Resources) -> Object:
    """`/apis` as one APIGroupDiscoveryList."""
    items = {one["metadata"].get("name", ""): one for one in own["items"]}
    for name, members in remotes.groups.items():
        before = items.get(name) or {"metadata": {"name": name, "creationTimestamp": None}}
        taken = {one.version for one in members}
        mine = [one for one in before.get("versions") or () if one["version"] not in taken]
        theirs = [_version(one.group, one.version, one.refused, known) for one in members]
        items[name] = {**before, "versions": [*mine, *theirs]}
    return {**own, "items": list(items.values())}


def _version(group: str, version: str, refused: str, known: Resources) -> Object:
    """One that cannot be asked now is stale, with what it said last."""
    said = known.get((group, version))
    freshness = "Stale" if refused or said is None else "Current"
    return {
        "version": version,
        "resources": _resources(group, version, said or []),
        "freshness": freshness,
    }


def _resources(group: str, version: str, listed: list[Object]) -> list[Object]:
    found: dict[str, Object] = {}
    for one in listed:
        name, _, below = str(one.get("name") or "").partition("/")
        response = {
            "group": one.get("group") or group,
            "version": one.get("version") or version,
            "kind": one.get("kind") or "",
        }
        if below:
            entry = {"subresource": below, "responseKind": response, "verbs": one.get("verbs")}
            if name in found:
                found[name].setdefault("subresources", []).append(entry)
            continue
        found[name] = {
            "resource": name,
            "responseKind": response,
            "scope": "Namespaced" if one.get("namespaced") else "Cluster",
            "singularResource": one.get("singularName") or "",
            "verbs": one.get("verbs"),
            **{key: one[key] for key in ("shortNames", "categories") if one.get(key)},
        }
    return list(found.values())
