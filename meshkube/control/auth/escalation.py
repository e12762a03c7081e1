"""Nobody gives away what they do not have: the checks on writes of roles and bindings.

Source: Kubernetes documentation, "Using RBAC Authorization", "Privilege escalation prevention and
bootstrapping".
"""

from __future__ import annotations

from collections.abc import Callable

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.auth.attributes import Attributes
from meshkube.control.auth.rbac import Rbac
from meshkube.control.auth.rules import Rule, compact, uncovered
from meshkube.control.auth.users import MASTERS, User

Allowed = Callable[[Attributes], bool]
_ROLES = (kinds.ROLE, kinds.CLUSTER_ROLE)
_BINDINGS = (kinds.ROLE_BINDING, kinds.CLUSTER_ROLE_BINDING)
KINDS = frozenset({*_ROLES, *_BINDINGS})
_ALL: Rule = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
_ALL_PATHS: Rule = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def check(
    kind: Kind, obj: Object, old: Object | None, user: User, rbac: Rbac, allowed: Allowed
) -> None:
    """Raises `ApiError` 403 where a write would give more than its writer has; 404 where a binding
    names a role that is not there and its writer may not `bind` it."""
    if MASTERS in user.groups or kind not in KINDS:
        return
    if kind in _ROLES:
        _check_role(kind, obj, old, user, rbac, allowed)
    else:
        _check_binding(kind, obj, old, user, rbac, allowed)


def _check_role(
    kind: Kind, obj: Object, old: Object | None, user: User, rbac: Rbac, allowed: Allowed
) -> None:
    rules = obj.get("rules") or []
    aggregated = bool(obj.get("aggregationRule"))
    if old is not None and rules == (old.get("rules") or []) and not _aggregates_anew(obj, old):
        return
    namespace = meta.namespace(obj)
    if _may(user, "escalate", kind, namespace, meta.name(obj), allowed):
        return
    owned, _ = rbac.rules_of(user, namespace)
    if aggregated and uncovered(owned, [_ALL, _ALL_PATHS]):
        why = "must have cluster-admin privileges to use an aggregationRule"
        raise errors.forbidden(kind.group, kind.plural, meta.name(obj), why)
    _refuse(kind, obj, user, uncovered(owned, rules))


def _aggregates_anew(obj: Object, old: Object) -> bool:
    return bool(obj.get("aggregationRule")) and obj.get("aggregationRule") != old.get(
        "aggregationRule"
    )


def _check_binding(
    kind: Kind, obj: Object, old: Object | None, user: User, rbac: Rbac, allowed: Allowed
) -> None:
    if old is not None and _same(obj, old, "subjects") and _same(obj, old, "roleRef"):
        return
    reference = obj.get("roleRef") or {}
    role_kind = kinds.ROLE if reference.get("kind") == "Role" else kinds.CLUSTER_ROLE
    name, namespace = str(reference.get("name") or ""), meta.namespace(obj)
    if _may(user, "bind", role_kind, namespace, name, allowed):
        return
    rules = rbac.role_rules(namespace if role_kind is kinds.ROLE else "", name)
    if rules is None:
        raise errors.not_found(role_kind.group, role_kind.plural, name)
    owned, _ = rbac.rules_of(user, namespace)
    _refuse(kind, obj, user, uncovered(owned, rules))


def _same(obj: Object, old: Object, field: str) -> bool:
    return (obj.get(field) or None) == (old.get(field) or None)


def _may(user: User, verb: str, kind: Kind, namespace: str, name: str, allowed: Allowed) -> bool:
    return allowed(Attributes(user, verb, kind.group, kind.plural, "", namespace, name))


def _refuse(kind: Kind, obj: Object, user: User, missing: list[Rule]) -> None:
    if not missing:
        return
    groups = " ".join(f'"{group}"' for group in user.groups)
    why = (
        f'user "{user.name}" (groups=[{groups}]) is attempting to grant RBAC permissions not '
        "currently held:\n" + "\n".join(_described(rule) for rule in compact(missing))
    )
    raise errors.forbidden(kind.group, kind.plural, meta.name(obj), why)


_FIELDS = {
    "nonResourceURLs": "NonResourceURLs",
    "apiGroups": "APIGroups",
    "resources": "Resources",
    "resourceNames": "ResourceNames",
    "verbs": "Verbs",
}


def _described(rule: Rule) -> str:
    shown = []
    for field, title in _FIELDS.items():
        if rule.get(field):
            shown.append(f"{title}:[" + " ".join(f'"{value}"' for value in rule[field]) + "]")
    return "{" + ", ".join(shown) + "}"
