"""RBAC rules: what one allows, in a form that is quick to ask, and whether rules cover others.

Rules are `rbac.authorization.k8s.io/v1 PolicyRule` objects. Source: Kubernetes documentation,
"Using RBAC Authorization".
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from meshkube.api.types import Object
from meshkube.control.auth.attributes import Attributes

Rule = Object
Names = frozenset[str] | None
"""The resource names that are allowed; None: all."""


class RuleSet:
    """The rules of one role, keyed for the lookup that they serve."""

    __slots__ = ("_paths", "_resources", "rules")

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules: Sequence[Rule] = list(rules)
        self._resources: dict[tuple[str, str, str], Names] = {}
        self._paths: dict[str, set[str]] = {}
        for rule in self.rules:
            self._add(rule)

    def _add(self, rule: Rule) -> None:
        names = frozenset(rule.get("resourceNames") or ()) or None
        verbs = rule.get("verbs") or ()
        for key in itertools.product(
            verbs, rule.get("apiGroups") or (), rule.get("resources") or ()
        ):
            known = self._resources.get(key, frozenset())
            self._resources[key] = None if known is None or names is None else known | names
        for verb in verbs:
            self._paths.setdefault(verb, set()).update(rule.get("nonResourceURLs") or ())

    def allows(self, asked: Attributes) -> bool:
        if not asked.of_resource:
            return any(
                path_matches(pattern, asked.path)
                for verb in (asked.verb, "*")
                for pattern in self._paths.get(verb, ())
            )
        resources = [asked.full_resource, "*"]
        if asked.subresource:
            resources.append(f"*/{asked.subresource}")
        table = self._resources
        for verb in (asked.verb, "*"):
            for group in (asked.group, "*"):
                for resource in resources:
                    names = table.get((verb, group, resource), _NONE)
                    if names is None or (names and asked.name in names):
                        return True
        return False


_NONE: frozenset[str] = frozenset()


def path_matches(pattern: str, path: str) -> bool:
    """`*`, `/healthz`, `/healthz/*`."""
    if pattern.endswith("*"):
        return path.startswith(pattern[:-1])
    return pattern == path


def uncovered(owned: Sequence[Rule], asked: Iterable[Rule]) -> list[Rule]:
    """The parts of `asked` (each one verb on one thing) that `owned` do not allow."""
    return [part for rule in asked for part in split(rule) if not _covered(owned, part)]


def split(rule: Rule) -> list[Rule]:
    """A rule as rules of one verb on one resource (of one name) or one path each."""
    verbs = rule.get("verbs") or ()
    parts: list[Rule] = []
    groups, resources = rule.get("apiGroups") or (), rule.get("resources") or ()
    for group, resource, verb in itertools.product(groups, resources, verbs):
        part = {"apiGroups": [group], "resources": [resource], "verbs": [verb]}
        names = rule.get("resourceNames") or ()
        parts += [{**part, "resourceNames": [name]} for name in names] if names else [part]
    for path, verb in itertools.product(rule.get("nonResourceURLs") or (), verbs):
        parts.append({"nonResourceURLs": [path], "verbs": [verb]})
    return parts


def _covered(owned: Sequence[Rule], part: Rule) -> bool:
    return any(_covers(rule, part) for rule in owned)


def _covers(rule: Rule, part: Rule) -> bool:
    if not _has(rule, "verbs", part["verbs"][0]):
        return False
    if "nonResourceURLs" in part:
        wanted = part["nonResourceURLs"][0]
        return any(_path_covers(one, wanted) for one in rule.get("nonResourceURLs") or ())
    if not _has(rule, "apiGroups", part["apiGroups"][0]):
        return False
    resource = part["resources"][0]
    _, slash, sub = resource.partition("/")
    wide = f"*/{sub}" if slash else resource
    if not _has(rule, "resources", resource) and wide not in (rule.get("resources") or ()):
        return False
    names = rule.get("resourceNames") or ()
    return not names or (bool(part.get("resourceNames")) and part["resourceNames"][0] in names)


def _has(rule: Rule, field: str, value: str) -> bool:
    values: Any = rule.get(field) or ()
    return "*" in values or value in values


def _path_covers(owned: str, wanted: str) -> bool:
    return owned == wanted or (owned.endswith("*") and wanted.startswith(owned[:-1]))


def compact(rules: Iterable[Rule]) -> list[Rule]:
    """One-verb rules of the same thing put together, for people to read."""
    merged: dict[Any, Rule] = {}
    for rule in rules:
        key = tuple(
            tuple(rule.get(field) or ())
            for field in ("apiGroups", "resources", "resourceNames", "nonResourceURLs")
        )
        known = merged.get(key)
        if known is None:
            merged[key] = {**rule, "verbs": list(rule["verbs"])}
        else:
            known["verbs"] += [verb for verb in rule["verbs"] if verb not in known["verbs"]]
    return list(merged.values())
