"""Roles and bindings. Source: `rbac.authorization.k8s.io/v1` of the Kubernetes API reference."""

from __future__ import annotations

from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    child,
    invalid,
    item,
    not_supported,
    required,
)

GROUP: Final = "rbac.authorization.k8s.io"
_NO_PATHS: Final = "namespaced rules cannot apply to non-resource URLs"
_BOTH: Final = "rules cannot apply to both regular resources and non-resource URLs"


def validate_role(role: Object) -> Faults:
    return _rules(role, namespaced=True)


def validate_cluster_role(role: Object) -> Faults:
    return _rules(role, namespaced=False)


def _rules(role: Object, *, namespaced: bool) -> Faults:
    faults: Faults = []
    for index, rule in enumerate(role.get("rules") or ()):
        faults += _rule(rule, item("rules", index), namespaced=namespaced)
    return faults


def _rule(rule: Object, path: str, *, namespaced: bool) -> Faults:
    faults: Faults = []
    if not rule.get("verbs"):
        faults.append(required(child(path, "verbs"), "verbs must contain at least one value"))
    urls = rule.get("nonResourceURLs") or []
    if urls:
        field = child(path, "nonResourceURLs")
        if namespaced:
            faults.append(invalid(field, urls, _NO_PATHS))
        if any(rule.get(one) for one in ("apiGroups", "resources", "resourceNames")):
            faults.append(invalid(field, urls, _BOTH))
        return faults
    if not rule.get("apiGroups"):
        detail = "resource rules must supply at least one api group"
        faults.append(required(child(path, "apiGroups"), detail))
    if not rule.get("resources"):
        detail = "resource rules must supply at least one resource"
        faults.append(required(child(path, "resources"), detail))
    return faults


def validate_role_binding(binding: Object) -> Faults:
    return _binding(binding, ("Role", "ClusterRole"), namespaced=True)


def validate_cluster_role_binding(binding: Object) -> Faults:
    return _binding(binding, ("ClusterRole",), namespaced=False)


def _binding(binding: Object, kinds: tuple[str, ...], *, namespaced: bool) -> Faults:
    reference = binding.get("roleRef") or {}
    faults: Faults = []
    if reference.get("apiGroup") != GROUP:
        given = reference.get("apiGroup") or ""
        faults.append(not_supported("roleRef.apiGroup", given, (GROUP,)))
    if reference.get("kind") not in kinds:
        faults.append(not_supported("roleRef.kind", reference.get("kind") or "", kinds))
    name = reference.get("name") or ""
    if not name:
        faults.append(required("roleRef.name"))
    else:
        faults += [invalid("roleRef.name", name, why) for why in formats.path_segment(name)]
    for index, subject in enumerate(binding.get("subjects") or ()):
        faults += _subject(subject, item("subjects", index), namespaced=namespaced)
    return faults


def _subject(subject: Object, path: str, *, namespaced: bool) -> Faults:
    faults: Faults = []
    name, group, kind = (subject.get(field) or "" for field in ("name", "apiGroup", "kind"))
    if not name:
        faults.append(required(child(path, "name")))
    if kind == "ServiceAccount":
        if name:
            faults += [
                invalid(child(path, "name"), name, why) for why in formats.dns_subdomain(name)
            ]
        if group:
            faults.append(not_supported(child(path, "apiGroup"), group, ("",)))
        if not namespaced and not subject.get("namespace"):
            faults.append(required(child(path, "namespace")))
    elif kind in ("User", "Group"):
        if group != GROUP:
            faults.append(not_supported(child(path, "apiGroup"), group, (GROUP,)))
    else:
        known = ("ServiceAccount", "User", "Group")
        faults.append(not_supported(child(path, "kind"), kind, known))
    return faults


def validate_role_binding_update(binding: Object, old: Object) -> Faults:
    return validate_role_binding(binding) + _same_role(binding, old)


def validate_cluster_role_binding_update(binding: Object, old: Object) -> Faults:
    return validate_cluster_role_binding(binding) + _same_role(binding, old)


def _same_role(binding: Object, old: Object) -> Faults:
    reference = binding.get("roleRef") or {}
    if reference == (old.get("roleRef") or {}):
        return []
    fields = {"APIGroup": "apiGroup", "Kind": "kind", "Name": "name"}
    shown = ", ".join(f'{title}:"{reference.get(one, "")}"' for title, one in fields.items())
    return [invalid("roleRef", Shown("rbac.RoleRef{" + shown + "}"), "cannot change roleRef")]
