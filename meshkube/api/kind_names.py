"""Kinds by the names that people type: plural, singular, short, with version and group. Pure.

Source: kubectl's own reading of `TYPE[.VERSION][.GROUP]`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from meshkube.api.kinds import KINDS, Kind
from meshkube.api.types import Object


class KindNames:
    """What the names mean among these kinds. Of two that a name could mean the earlier one is
    meant, a plural or singular before a short name."""

    def __init__(self, kinds: Iterable[Kind]) -> None:
        self._kinds = tuple(kinds)
        self._by_name: dict[str, Kind] = {}
        self._by_kind = {(kind.api_version, kind.kind): kind for kind in self._kinds}
        for kind in self._kinds:
            for name in {kind.plural, kind.singular, kind.kind.lower()}:
                self._add(name, kind)
        for kind in self._kinds:
            for name in kind.short_names:
                self._add(name, kind)

    def _add(self, name: str, kind: Kind) -> None:
        version = f"{name}.{kind.version}"
        for each in (name, f"{name}.{kind.group}", f"{version}.{kind.group}"):
            self._by_name.setdefault(each, kind)
        if not kind.group:
            self._by_name.setdefault(version, kind)

    def one(self, word: str) -> Kind | None:
        """The kind of `deploy`, `Deployment`, `deployments.apps` or `deployments.v1.apps`."""
        return self._by_name.get(word.lower())

    def category(self, word: str) -> list[Kind]:
        """The kinds of a category such as `all`, each in its preferred version."""
        found: dict[str, Kind] = {}
        for kind in self._kinds:
            if word.lower() in kind.categories and "list" in kind.verbs:
                found.setdefault(kind.resource, kind)
        return list(found.values())

    def of(self, api_version: str, kind: str) -> Kind | None:
        """The kind of an object's `apiVersion` and `kind`."""
        return self._by_kind.get((api_version, kind))

    def near(self, word: str) -> str:
        """The name most like one that means nothing; empty where none is."""
        close = difflib.get_close_matches(word.lower(), self._by_name, 1, 0.7)
        return close[0] if close else ""


BUILT_IN = KindNames(
    (*(kind for kind in KINDS if not kind.stored), *(kind for kind in KINDS if kind.stored))
)
"""Of the kinds that every server has; a name without a version means the stored one."""


def discovered(document: Object) -> list[Kind]:
    """The kinds of an APIGroupDiscoveryList (`apidiscovery.k8s.io`), in its order. What is not
    as it should be is passed over: one odd group must not hide the others."""
    return [
        _kind(
            str((group.get("metadata") or {}).get("name") or ""), str(version.get("version")), each
        )
        for group in _list(document, "items")
        for version in _list(group, "versions")
        for each in _list(version, "resources")
    ]


def defined(crd: Object) -> list[Kind]:
    """The kinds that a CustomResourceDefinition will bring, as far as it is well formed."""
    spec = crd.get("spec")
    names = spec.get("names") if isinstance(spec, dict) else None
    if not isinstance(spec, dict) or not isinstance(names, dict):
        return []
    like = {
        "resource": names.get("plural"),
        "singularResource": names.get("singular"),
        "responseKind": {"kind": names.get("kind")},
        "scope": spec.get("scope"),
    }
    return [
        _kind(str(spec.get("group")), str(version.get("name")), like)
        for version in _list(spec, "versions")
    ]


def _kind(group: str, version: str, resource: Object) -> Kind:
    kind = str((resource.get("responseKind") or {}).get("kind") or "")
    return Kind(
        group,
        version,
        kind,
        plural=str(resource.get("resource") or ""),
        singular=str(resource.get("singularResource") or kind.lower()),
        short_names=tuple(resource.get("shortNames") or ()),
        namespaced=resource.get("scope") == "Namespaced",
        subresources=tuple(str(sub.get("subresource")) for sub in _list(resource, "subresources")),
        categories=tuple(resource.get("categories") or ()),
        verbs=tuple(resource.get("verbs") or ()),
    )


def _list(obj: Object, field: str) -> list[Any]:
    found = obj.get(field)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
