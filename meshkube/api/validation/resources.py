"""Amounts of resources: requests, limits, and the names of resources."""

from __future__ import annotations

from typing import Final

from meshkube.api import quantities
from meshkube.api.types import JSON, Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    NOT_NEGATIVE,
    Faults,
    Shown,
    at,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    not_found,
    not_supported,
    required,
)

_CONTAINER: Final = frozenset({"cpu", "memory", "ephemeral-storage"})
_STANDARD: Final = _CONTAINER | {
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
}
STANDARD_FOR_QUOTAS: Final = _STANDARD - {"storage"}
_INTEGERS: Final = frozenset(
    {
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
        "services.loadbalancers",
    }
)
_HUGE: Final = "hugepages-"


def is_native(name: str) -> bool:
    return "/" not in name or "kubernetes.io/" in name


def is_extended(name: str) -> bool:
    """`example.com/gpu`: counted in whole numbers, never overcommitted."""
    if is_native(name) or name.startswith("requests."):
        return False
    return not formats.qualified_name(f"requests.{name}")


def overcommits(name: str) -> bool:
    """Whether limits may add up to more than there is."""
    return is_native(name) and not name.startswith(_HUGE)


def validate_resource_name(path: str, name: str) -> Faults:
    """Any resource: a standard one or a qualified name."""
    faults = list(formats.faults(path, Shown(name), formats.qualified_name(name)))
    if not faults and "/" not in name:
        standard = name in _STANDARD or name.startswith((_HUGE, f"requests.{_HUGE}"))
        if not standard:
            detail = "must be a standard resource type or fully qualified"
            faults.append(invalid(path, Shown(name), detail))
    return faults


def validate_container_resource(path: str, name: str) -> Faults:
    """One that a container can ask for."""
    faults = validate_resource_name(path, name)
    if "/" not in name:
        if name not in _CONTAINER and not name.startswith(_HUGE):
            faults.append(invalid(path, Shown(name), "must be a standard resource for containers"))
    elif not is_native(name) and not is_extended(name):
        faults.append(invalid(path, Shown(name), "doesn't follow extended resource name standard"))
    return faults


def _pod_resource(path: str, name: str) -> Faults:
    faults = validate_resource_name(path, name)
    if not faults and name not in ("cpu", "memory") and not name.startswith(_HUGE):
        faults.append(not_supported(path, Shown(name), ["cpu", "hugepages-", "memory"]))
    return faults


def validate_amount(path: str, name: str, amount: JSON) -> Faults:
    """An amount of a named resource: not negative, whole where it counts things."""
    number = quantities.parse(amount)
    faults: Faults = []
    if number < 0:
        faults.append(invalid(path, quantities.canonical(amount), NOT_NEGATIVE))
    if (name in _INTEGERS or is_extended(name)) and number % 1:
        faults.append(invalid(path, quantities.canonical(amount), "must be an integer"))
    return faults


def validate_resources(
    resources: Object, path: str, claims: frozenset[str], *, of_pod: bool = False
) -> Faults:
    """`resources` of a container, or of a whole pod."""
    check = _pod_resource if of_pod else validate_container_resource
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    faults: Faults = []
    for name, amount in limits.items():
        place = at(child(path, "limits"), name)
        faults += check(place, name) + validate_amount(place, name, amount)
    for name, amount in requests.items():
        place = at(child(path, "requests"), name)
        faults += check(place, name) + validate_amount(place, name, amount)
        faults += _within(path, name, amount, limits)
    faults += _huge_pages(path, {**limits, **requests})
    return faults + _claims(resources.get("claims") or [], child(path, "claims"), claims)


def _within(path: str, name: str, amount: JSON, limits: Object) -> Faults:
    """A request is at most its limit; for what cannot be overcommitted, equal to it."""
    if name not in limits:
        if overcommits(name):
            return []
        detail = "Limit must be set for non overcommitable resources"
        return [required(child(path, "limits"), detail)]
    order = quantities.compare(amount, limits[name])
    if order <= 0 and (order == 0 or overcommits(name)):
        return []
    words = "less than or equal to" if overcommits(name) else "equal to"
    detail = f"must be {words} {name} limit of {quantities.canonical(limits[name])}"
    return [invalid(child(path, "requests"), quantities.canonical(amount), detail)]


def _huge_pages(path: str, amounts: Object) -> Faults:
    huge = any(name.startswith(_HUGE) for name in amounts)
    if huge and "cpu" not in amounts and "memory" not in amounts:
        return [forbidden(path, "HugePages require cpu or memory")]
    return []


def _claims(claims: list[Object], path: str, known: frozenset[str]) -> Faults:
    faults: Faults = []
    seen: set[tuple[str, str]] = set()
    for index, claim in enumerate(claims):
        place, name = item(path, index), claim.get("name") or ""
        if not name:
            faults.append(required(place))
            continue
        key = (name, claim.get("request") or "")
        if key in seen:
            faults.append(duplicate(place, "/".join(filter(None, key))))
        seen.add(key)
        if name not in known:
            faults.append(not_found(child(place, "name"), name))
    return faults
