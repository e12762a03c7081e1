"""The RBAC authorizer: who holds which role, compiled as bindings change.

A change of one object touches only what it says: bindings name roles, and a role is looked up when
asked. So a question costs a few dictionary look-ups, and the same question again costs one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.rules import Rule, RuleSet
from meshkube.control.auth.users import User, service_account_name

REMEMBERED = 16384
"""Answers kept until the next change of policy."""
_Subject = tuple[str, str]
"""`("User" or "Group", name)`."""
_Place = tuple[str, _Subject]
"""A namespace (empty: everywhere) and a subject."""


class Decision(NamedTuple):
    """`reason` says why it is allowed, or what stood in the way of an answer."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Grant:
    """One subject of one binding. `role` is `(namespace, name)`; empty namespace: ClusterRole."""

    role: tuple[str, str]
    reason: str
    missing: str


class Rbac:
    """Roles and bindings, as they stand. `generation` counts changes."""

    def __init__(self) -> None:
        self._roles: dict[tuple[str, str], RuleSet] = {}
        self._grants: dict[_Place, dict[str, _Grant]] = {}
        self._bound: dict[str, list[_Place]] = {}
        self._answers: dict[tuple[object, ...], Decision] = {}
        self.generation = 0

    def set_role(self, role: Object) -> None:
        """A Role or ClusterRole as it is now."""
        self._roles[_key(role)] = RuleSet(role.get("rules") or ())
        self._changed()

    def remove_role(self, role: Object) -> None:
        self._roles.pop(_key(role), None)
        self._changed()

    def set_binding(self, binding: Object) -> None:
        """A RoleBinding or ClusterRoleBinding as it is now."""
        self.remove_binding(binding)
        namespace = meta.namespace(binding)
        key = meta.key(binding)
        places = self._bound[key] = []
        for subject in binding.get("subjects") or ():
            place = (namespace, _subject(subject, namespace))
            self._grants.setdefault(place, {})[key] = _grant(binding, subject)
            places.append(place)
        self._changed()

    def remove_binding(self, binding: Object) -> None:
        key = meta.key(binding)
        for place in self._bound.pop(key, ()):
            held = self._grants.get(place, {})
            held.pop(key, None)
            if not held:
                self._grants.pop(place, None)
        self._changed()

    def clear(self) -> None:
        self._roles.clear()
        self._grants.clear()
        self._bound.clear()
        self._changed()

    def _changed(self) -> None:
        self.generation += 1
        self._answers.clear()

    def decide(self, asked: Attributes) -> Decision:
        key = (
            asked.user, asked.verb, asked.group, asked.resource, asked.subresource,
            asked.namespace, asked.name, asked.path,
        )  # fmt: skip
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) >= REMEMBERED:
                self._answers.clear()
            found = self._answers[key] = self._decide(asked)
        return found

    def _decide(self, asked: Attributes) -> Decision:
        missing = []
        for grant in self._held(asked.user, asked.namespace):
            role = self._roles.get(grant.role)
            if role is None:
                missing.append(grant.missing)
            elif role.allows(asked):
                return Decision(True, grant.reason)
        return Decision(False, _trouble(missing))

    def _held(self, user: User, namespace: str) -> Iterator[_Grant]:
        subjects = [("User", user.name), *(("Group", group) for group in user.groups)]
        for where in ("", namespace) if namespace else ("",):
            for subject in subjects:
                yield from self._grants.get((where, subject), {}).values()

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], str]:
        """Every rule that a user has in a namespace (empty: cluster-wide only), and what kept the
        answer from being complete."""
        rules: list[Rule] = []
        missing = []
        for grant in self._held(user, namespace):
            role = self._roles.get(grant.role)
            if role is None:
                missing.append(grant.missing)
            else:
                rules += role.rules
        return rules, _trouble(missing)

    def role_rules(self, namespace: str, name: str) -> list[Rule] | None:
        """The rules of a Role (without a namespace: a ClusterRole); None where there is none."""
        found = self._roles.get((namespace, name))
        return list(found.rules) if found is not None else None


def _key(role: Object) -> tuple[str, str]:
    return meta.namespace(role), meta.name(role)


def _subject(subject: Object, namespace: str) -> _Subject:
    kind, name = subject.get("kind", ""), subject.get("name", "")
    if kind == "ServiceAccount":
        return "User", service_account_name(subject.get("namespace") or namespace, name)
    return kind, name


def _grant(binding: Object, subject: Object) -> _Grant:
    reference = binding.get("roleRef") or {}
    kind, name = reference.get("kind", ""), reference.get("name", "")
    namespace = meta.namespace(binding)
    described = f'{subject.get("kind")} "{subject.get("name")}"'
    if subject.get("kind") == "ServiceAccount":
        place = subject.get("namespace") or namespace
        described = f'ServiceAccount "{subject.get("name")}/{place}"'
    own = f'RoleBinding "{meta.name(binding)}/{namespace}"'
    if not namespace:
        own = f'ClusterRoleBinding "{meta.name(binding)}"'
    reason = f'RBAC: allowed by {own} of {kind} "{name}" to {described}'
    missing = f'{kind.lower()}.rbac.authorization.k8s.io "{name}" not found'
    return _Grant((namespace if kind == "Role" else "", name), reason, missing)


def _trouble(missing: Iterable[str]) -> str:
    once = list(dict.fromkeys(missing))
    if not once:
        return ""
    return "RBAC: " + (once[0] if len(once) == 1 else "[" + ", ".join(once) + "]")
