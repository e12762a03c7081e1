"""ResourceQuotas, LimitRanges, PodDisruptionBudgets and PriorityClasses."""

from __future__ import annotations

from typing import Any, Final

from meshkube.api import quantities
from meshkube.api.types import JSON, Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    NOT_NEGATIVE,
    Faults,
    Shown,
    at,
    child,
    duplicate,
    forbidden,
    go_strings,
    invalid,
    item,
    not_supported,
    required,
    shown,
)
from meshkube.api.validation.pods import validate_template
from meshkube.api.validation.resources import (
    STANDARD_FOR_QUOTAS,
    overcommits,
    validate_amount,
    validate_container_resource,
    validate_resource_name,
)
from meshkube.api.validation.selectors import validate_label_selector
from meshkube.api.validation.workloads import int_or_percent, int_or_percent_shown

_COMPUTE: Final = frozenset(
    {"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory", "pods"}
)
_OF_CLAIMS: Final = frozenset({"persistentvolumeclaims", "requests.storage"})
_SCOPES: Final = {
    "Terminating": _COMPUTE,
    "NotTerminating": _COMPUTE,
    "BestEffort": frozenset({"pods"}),
    "NotBestEffort": _COMPUTE,
    "PriorityClass": _COMPUTE,
    "CrossNamespacePodAffinity": _COMPUTE,
    "VolumeAttributesClass": _OF_CLAIMS,
}
"""Scopes, and the standard resources that each may be used with."""
_CONFLICTS: Final = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_EXISTS_ONLY: Final = frozenset(_SCOPES) - {"PriorityClass", "VolumeAttributesClass"}


def validate_quota(quota: Object) -> Faults:
    spec = quota.get("spec") or {}
    faults = _amounts(spec.get("hard") or {}, "spec.hard") + _scopes(spec)
    if spec.get("scopeSelector") is not None:
        faults += _scope_selector(spec, "spec.scopeSelector.matchExpressions")
    return faults


def validate_quota_update(quota: Object, old: Object) -> Faults:
    now, was = (each.get("spec") or {} for each in (quota, old))
    faults = validate_quota(quota)
    if set(now.get("scopes") or ()) != set(was.get("scopes") or ()):
        faults.append(invalid("spec.scopes", _scopes_shown(now), IMMUTABLE))
    return faults


def validate_quota_status(quota: Object, old: Object) -> Faults:
    status = quota.get("status") or {}
    return [
        fault
        for field in ("hard", "used")
        for fault in _amounts(status.get(field) or {}, f"status.{field}")
    ]


def _amounts(amounts: Object, path: str) -> Faults:
    faults: Faults = []
    for name, amount in amounts.items():
        place = at(path, name)
        faults += _quota_resource(place, name) + validate_amount(place, name, amount)
    return faults


def _quota_resource(path: str, name: str) -> Faults:
    faults = list(formats.faults(path, Shown(name), formats.qualified_name(name)))
    if "/" in name:
        return faults
    huge = name.startswith(("hugepages-", "requests.hugepages-"))
    if not faults and not huge:
        faults += validate_resource_name(path, name)
    if name not in STANDARD_FOR_QUOTAS and not huge:
        faults.append(invalid(path, Shown(name), "must be a standard resource for quota"))
    return faults


def _scopes_shown(spec: Object) -> Shown:
    scopes = spec.get("scopes")
    if scopes is None:
        return Shown("[]core.ResourceQuotaScope(nil)")
    return Shown(go_strings(scopes).replace("[]string", "[]core.ResourceQuotaScope"))


def _scopes(spec: Object) -> Faults:
    scopes = spec.get("scopes") or []
    path, told = "spec.scopes", _scopes_shown(spec)
    faults: Faults = []
    for scope in scopes:
        if scope not in _SCOPES:
            faults.append(invalid(path, told, "unsupported scope"))
        faults += [
            invalid(path, told, "unsupported scope applied to resource")
            for _ in _unsuited(scope, spec)
        ]
    return faults + [
        invalid(path, told, "conflicting scopes") for pair in _CONFLICTS if set(pair) <= set(scopes)
    ]


def _unsuited(scope: str, spec: Object) -> list[str]:
    if scope not in _SCOPES:
        return []
    hard = spec.get("hard") or {}
    return [name for name in hard if name in STANDARD_FOR_QUOTAS and name not in _SCOPES[scope]]


def _scope_selector(spec: Object, path: str) -> Faults:
    faults: Faults = []
    terms = spec["scopeSelector"].get("matchExpressions") or ()
    for term in terms:
        scope, operator = term.get("scopeName") or "", term.get("operator") or ""
        values = term.get("values") or []
        if scope not in _SCOPES:
            faults.append(invalid(child(path, "scopeName"), scope, "unsupported scope"))
        for _ in _unsuited(scope, spec):
            detail = "unsupported scope applied to resource"
            faults.append(invalid(path, Shown("core.ScopeSelector"), detail))
        if scope in _EXISTS_ONLY and operator != "Exists":
            detail = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating,"
                " ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort,"
                " ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            faults.append(invalid(child(path, "operator"), operator, detail))
        faults += _selector_operator(path, operator, values)
    named = {term.get("scopeName") for term in terms}
    return faults + [
        invalid("spec.scopeSelector.scopes", _scopes_shown(spec), "conflicting scopes")
        for pair in _CONFLICTS
        if set(pair) <= named
    ]


def _selector_operator(path: str, operator: str, values: list[JSON]) -> Faults:
    if operator in ("In", "NotIn"):
        detail = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        return [] if values else [required(child(path, "values"), detail)]
    if operator in ("Exists", "DoesNotExist"):
        detail = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
        return [invalid(child(path, "values"), go_strings(values), detail)] if values else []
    return [invalid(child(path, "operator"), operator, "not a valid selector operator")]


def validate_limit_range(limit_range: Object) -> Faults:
    faults: Faults = []
    seen: set[str] = set()
    for index, limit in enumerate((limit_range.get("spec") or {}).get("limits") or ()):
        path = item("spec.limits", index)
        type_ = limit.get("type") or ""
        faults += _limit_type(child(path, "type"), type_)
        if type_ in seen:
            faults.append(duplicate(child(path, "type"), type_))
        seen.add(type_)
        faults += _limit(limit, type_, path)
    return faults


def _limit_type(path: str, type_: str) -> Faults:
    faults = list(formats.faults(path, type_, formats.qualified_name(type_)))
    standard = type_ in ("Pod", "Container", "PersistentVolumeClaim")
    if not faults and "/" not in type_ and not standard:
        detail = "must be a standard limit type or fully qualified"
        faults.append(invalid(path, type_, detail))
    return faults


def _limit(limit: Object, type_: str, path: str) -> Faults:
    check = validate_resource_name
    if type_ in ("Pod", "Container"):
        check = validate_container_resource
    faults: Faults = []
    given: dict[str, Object] = {}
    for field in ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio"):
        amounts = limit.get(field) or {}
        if type_ == "Pod" and field in ("default", "defaultRequest"):
            if amounts:
                detail = "may not be specified when `type` is 'Pod'"
                faults.append(forbidden(child(path, field), detail))
            continue
        given[field] = amounts
        for name in amounts:
            faults += check(at(child(path, field), name), name)
    held = {**(limit.get("min") or {}), **(limit.get("max") or {})}
    if type_ == "PersistentVolumeClaim" and "storage" not in held:
        detail = "either minimum or maximum storage value is required, but neither was provided"
        faults.append(required(child(path, "limits"), detail))
    for name in dict.fromkeys(name for amounts in given.values() for name in amounts):
        values = {field: amounts.get(name) for field, amounts in given.items()}
        faults += _limit_values(path, name, values)
    return faults


_NOT_MORE: Final = (
    # The first may not be more than the second: where the fault is shown, with which value.
    ("min", "max", "min", "min", "min value", "max value"),
    ("min", "defaultRequest", "defaultRequest", "defaultRequest", "min value",
     "default request value"),
    ("defaultRequest", "max", "defaultRequest", "defaultRequest", "default request value",
     "max value"),
    ("defaultRequest", "default", "defaultRequest", "defaultRequest", "default request value",
     "default limit value"),
    ("min", "default", "default", "min", "min value", "default value"),
    ("default", "max", "default", "max", "default value", "max value"),
)  # fmt: skip


def _limit_values(path: str, name: str, values: dict[str, Any]) -> Faults:
    faults: Faults = []
    for small, large, field, told, small_words, large_words in _NOT_MORE:
        one, other = values.get(small), values.get(large)
        if one is not None and other is not None and quantities.compare(one, other) > 0:
            place = at(child(path, field), name)
            one_text, other_text = quantities.canonical(one), quantities.canonical(other)
            detail = f"{small_words} {one_text} is greater than {large_words} {other_text}"
            faults.append(invalid(place, quantities.canonical(values[told]), detail))
    faults += _ratio(at(child(path, "maxLimitRequestRatio"), name), values)
    limit, request = values.get("default"), values.get("defaultRequest")
    if limit is None or request is None or overcommits(name):
        return faults
    if quantities.compare(limit, request):
        limit, request = quantities.canonical(limit), quantities.canonical(request)
        detail = f"default value {limit} must equal to defaultRequest value {request} in {name}"
        faults.append(invalid(at(child(path, "defaultRequest"), name), request, detail))
    return faults


def _ratio(path: str, values: dict[str, Any]) -> Faults:
    ratio, least, most = (values.get(f) for f in ("maxLimitRequestRatio", "min", "max"))
    if ratio is None:
        return []
    faults: Faults = []
    told = quantities.canonical(ratio)
    if quantities.compare(ratio, "1") < 0:
        faults.append(invalid(path, told, f"ratio {told} is less than 1"))
    if least is not None and most is not None and quantities.parse(least):
        limit = float(quantities.parse(most) / quantities.parse(least))
        if float(quantities.parse(ratio)) > limit:
            detail = f"ratio {told} is greater than max/min = {limit:.6f}"
            faults.append(invalid(path, told, detail))
    return faults


def validate_budget(budget: Object) -> Faults:
    spec = budget.get("spec") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    faults: Faults = []
    if least is not None and most is not None:
        detail = "minAvailable and maxUnavailable cannot be both set"
        faults.append(invalid("spec", Shown("policy.PodDisruptionBudgetSpec"), detail))
    for field, value in (("minAvailable", least), ("maxUnavailable", most)):
        if value is None:
            continue
        path = f"spec.{field}"
        problems = int_or_percent(path, value)
        faults += problems
        if isinstance(value, str) and not problems and int(value[:-1]) > 100:
            told = int_or_percent_shown(value)
            faults.append(invalid(path, told, "must not be greater than 100%"))
    faults += validate_label_selector(spec.get("selector"), "spec.selector")
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
        supported = ("AlwaysAllow", "IfHealthyBudget")
        faults.append(not_supported("spec.unhealthyPodEvictionPolicy", policy, supported))
    return faults


def validate_budget_status(budget: Object, old: Object) -> Faults:
    status = budget.get("status") or {}
    fields = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
    return [
        invalid(f"status.{field}", status[field], NOT_NEGATIVE)
        for field in fields
        if (status.get(field) or 0) < 0
    ]


_SYSTEM: Final = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_HIGHEST: Final = 1_000_000_000


def validate_priority_class(class_: Object) -> Faults:
    name = (class_.get("metadata") or {}).get("name") or ""
    value = class_.get("value") or 0
    faults: Faults = []
    if name.startswith("system-"):
        why = _not_system(name, value, bool(class_.get("globalDefault")))
        if why:
            detail = (
                "priority class names with 'system-' prefix are reserved for system use only."
                f" error: {why}"
            )
            faults.append(forbidden("metadata.name", detail))
    elif value > _HIGHEST:
        detail = f"maximum allowed value of a user defined priority is {_HIGHEST}"
        faults.append(forbidden("value", detail))
    policy = class_.get("preemptionPolicy")
    if policy == "":
        faults.append(required("preemptionPolicy"))
    elif policy not in (None, "Never", "PreemptLowerPriority"):
        supported = ("Never", "PreemptLowerPriority")
        faults.append(not_supported("preemptionPolicy", policy, supported))
    return faults


def _not_system(name: str, value: int, default: bool) -> str:
    if name not in _SYSTEM:
        return f"{name} is not a known system priority class"
    if value != _SYSTEM[name]:
        return f"value of {name} PriorityClass must be {_SYSTEM[name]}"
    return f"globalDefault of {name} PriorityClass must be false" if default else ""


def validate_priority_class_update(class_: Object, old: Object) -> Faults:
    faults: Faults = []
    if (class_.get("value") or 0) != (old.get("value") or 0):
        faults.append(forbidden("value", "may not be changed in an update."))
    policy = class_.get("preemptionPolicy")
    if policy != old.get("preemptionPolicy"):
        told = Shown(shown(policy) if policy else "null")
        faults.append(invalid("preemptionPolicy", told, IMMUTABLE))
    return faults


def validate_pod_template(template: Object) -> Faults:
    return validate_template(template.get("template") or {}, "template")
