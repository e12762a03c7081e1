"""Where pods may run: affinity, tolerations, spread constraints, taints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from meshkube.api.errors import FieldError
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    child,
    duplicate,
    forbidden,
    invalid,
    item,
    not_supported,
    quoted,
    required,
)
from meshkube.api.validation.selectors import (
    label_key,
    label_values,
    one_of,
    operator_faults,
    optional_one_of,
    validate_label_selector,
)

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
TAINT_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_BAD_OPERATOR: Final = "not a valid selector operator"


def validate_affinity(affinity: Object, path: str) -> Faults:
    faults: Faults = []
    if affinity.get("nodeAffinity"):
        faults += _node_affinity(affinity["nodeAffinity"], child(path, "nodeAffinity"))
    for side in ("podAffinity", "podAntiAffinity"):
        if affinity.get(side):
            faults += _pod_affinity(affinity[side], child(path, side))
    return faults


def _node_affinity(affinity: Object, path: str) -> Faults:
    faults: Faults = []
    if affinity.get(_REQUIRED) is not None:
        faults += validate_node_selector(affinity[_REQUIRED], child(path, _REQUIRED))
    for index, term in enumerate(affinity.get(_PREFERRED) or ()):
        place = item(child(path, _PREFERRED), index)
        faults += _weight(term, place)
        preference = term.get("preference") or {}
        faults += _node_term(preference, child(place, "preference"), check_values=False)
    return faults


def validate_node_selector(selector: Object, path: str) -> Faults:
    """Terms of which one must hold."""
    place = child(path, "nodeSelectorTerms")
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        return [required(place, "must have at least one node selector term")]
    return [
        fault
        for index, term in enumerate(terms)
        for fault in _node_term(term, item(place, index), check_values=True)
    ]


def _node_term(term: Object, path: str, *, check_values: bool) -> Faults:
    faults: Faults = []
    for index, requirement in enumerate(term.get("matchExpressions") or ()):
        place = item(child(path, "matchExpressions"), index)
        faults += _node_requirement(requirement, place, check_values=check_values)
    for index, requirement in enumerate(term.get("matchFields") or ()):
        faults += _node_field(requirement, item(child(path, "matchFields"), index))
    return faults


def _node_requirement(requirement: Object, path: str, *, check_values: bool) -> Faults:
    operator, values = requirement.get("operator") or "", requirement.get("values") or []
    faults = operator_faults(operator, values, path)
    if operator in ("Gt", "Lt") and len(values) != 1:
        detail = "must be specified single value when `operator` is 'Lt' or 'Gt'"
        faults.append(required(child(path, "values"), detail))
    if operator not in ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"):
        faults.append(invalid(child(path, "operator"), operator, _BAD_OPERATOR))
    faults += label_key(child(path, "key"), requirement.get("key") or "")
    if check_values:
        faults += label_values(child(path, "values"), values)
    return faults


def _node_field(requirement: Object, path: str) -> Faults:
    operator, values = requirement.get("operator") or "", requirement.get("values") or []
    faults: Faults = []
    if operator not in ("In", "NotIn"):
        faults.append(invalid(child(path, "operator"), operator, _BAD_OPERATOR))
    elif len(values) != 1:
        detail = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        faults.append(required(child(path, "values"), detail))
    key = requirement.get("key") or ""
    if key != "metadata.name":
        faults.append(invalid(child(path, "key"), key, "not a valid field selector key"))
        return faults
    for index, value in enumerate(values):
        place = item(child(path, "values"), index)
        faults += formats.faults(place, value, formats.dns_subdomain(value))
    return faults


def _weight(term: Object, path: str) -> Faults:
    weight = term.get("weight") or 0
    if 1 <= weight <= 100:
        return []
    return [invalid(child(path, "weight"), weight, "must be in the range 1-100")]


def _pod_affinity(affinity: Object, path: str) -> Faults:
    faults: Faults = []
    for index, term in enumerate(affinity.get(_REQUIRED) or ()):
        faults += _pod_term(term, item(child(path, _REQUIRED), index))
    for index, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        place = item(child(path, _PREFERRED), index)
        faults += _weight(weighted, place)
        faults += _pod_term(weighted.get("podAffinityTerm") or {}, child(place, "podAffinityTerm"))
    return faults


def _pod_term(term: Object, path: str) -> Faults:
    faults = validate_label_selector(term.get("labelSelector"), child(path, "labelSelector"))
    faults += validate_label_selector(
        term.get("namespaceSelector"), child(path, "namespaceSelector")
    )
    for name in term.get("namespaces") or ():
        faults += formats.faults(child(path, "namespace"), name, formats.dns_label(name))
    faults += _match_label_keys(term, path)
    key = term.get("topologyKey") or ""
    if not key:
        faults.append(required(child(path, "topologyKey"), "can not be empty"))
    return faults + label_key(child(path, "topologyKey"), key)


def _match_label_keys(term: Object, path: str) -> Faults:
    faults: Faults = []
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        keys, place = term.get(field) or [], child(path, field)
        if keys and term.get("labelSelector") is None:
            detail = "must not be specified when labelSelector is not set"
            faults.append(forbidden(place, detail))
        elif keys:
            for index, key in enumerate(keys):
                faults += label_key(item(place, index), key)
    mismatch = term.get("mismatchLabelKeys") or ()
    for index, key in enumerate(term.get("matchLabelKeys") or ()):
        if key in mismatch:
            detail = "exists in both matchLabelKeys and mismatchLabelKeys"
            faults.append(invalid(item(child(path, "matchLabelKeys"), index), key, detail))
    return faults


def validate_taint_effect(path: str, effect: str) -> Faults:
    return [] if effect in TAINT_EFFECTS else [not_supported(path, effect, TAINT_EFFECTS)]


def validate_tolerations(tolerations: list[Object], path: str) -> Faults:
    return [
        fault
        for index, toleration in enumerate(tolerations)
        for fault in _toleration(toleration, item(path, index))
    ]


def _toleration(toleration: Object, path: str) -> Iterator[FieldError]:
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        yield from label_key(child(path, "key"), key)
    elif operator != "Exists":
        detail = (
            'operator must be Exists when `key` is empty, which means "match all values and all'
            ' keys"'
        )
        yield invalid(child(path, "operator"), operator, detail)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        detail = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield invalid(child(path, "effect"), effect, detail)
    if operator in ("", "Equal"):
        reasons = formats.label_value(value)
        if reasons:
            yield invalid(child(path, "operator"), value, ";".join(reasons))
    elif operator == "Exists":
        if value:
            detail = "value must be empty when `operator` is 'Exists'"
            yield invalid(child(path, "operator"), value, detail)
    else:
        yield not_supported(child(path, "operator"), operator, ("Equal", "Exists"))
    if effect:
        yield from validate_taint_effect(child(path, "effect"), effect)


def validate_spread_constraints(constraints: list[Object], path: str) -> Faults:
    faults: Faults = []
    ahead = Counter(map(_spread_key, constraints))
    for index, constraint in enumerate(constraints):
        place, key = item(path, index), _spread_key(constraint)
        faults += _spread_constraint(constraint, place)
        ahead[key] -= 1
        if ahead[key]:
            shown = "{" + f"{key[0]}, {key[1]}" + "}"
            faults.append(duplicate(child(place, "{topologyKey, whenUnsatisfiable}"), shown))
    return faults


def _spread_key(constraint: Object) -> tuple[str, str]:
    return constraint.get("topologyKey") or "", constraint.get("whenUnsatisfiable") or ""


def _spread_constraint(constraint: Object, path: str) -> Faults:
    faults: Faults = []
    skew, action = constraint.get("maxSkew") or 0, constraint.get("whenUnsatisfiable") or ""
    if skew <= 0:
        faults.append(invalid(child(path, "maxSkew"), skew, "must be greater than zero"))
    if not constraint.get("topologyKey"):
        faults.append(required(child(path, "topologyKey"), "can not be empty"))
    actions = ("DoNotSchedule", "ScheduleAnyway")
    if action not in actions:
        faults.append(not_supported(child(path, "whenUnsatisfiable"), action, actions))
    domains = constraint.get("minDomains")
    if domains is not None:
        place = child(path, "minDomains")
        if domains <= 0:
            faults.append(invalid(place, domains, "must be greater than zero"))
        if action != "DoNotSchedule":
            detail = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            faults.append(invalid(place, domains, detail))
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policies = ("Honor", "Ignore")
        faults += optional_one_of(child(path, field), constraint.get(field), policies)
    faults += _spread_label_keys(constraint, child(path, "matchLabelKeys"))
    selector = constraint.get("labelSelector")
    return faults + validate_label_selector(selector, child(path, "labelSelector"))


def _spread_label_keys(constraint: Object, path: str) -> Faults:
    keys, selector = constraint.get("matchLabelKeys") or [], constraint.get("labelSelector")
    if not keys:
        return []
    faults: Faults = []
    used = set((selector or {}).get("matchLabels") or {})
    used |= {each.get("key") for each in (selector or {}).get("matchExpressions") or ()}
    if selector is None:
        faults.append(forbidden(path, "must not be specified when labelSelector is not set"))
    for index, key in enumerate(keys):
        faults += label_key(item(path, index), key)
        if key in used:
            detail = "exists in both matchLabelKeys and labelSelector"
            faults.append(invalid(item(path, index), key, detail))
    return faults


def validate_taints(taints: list[Object], path: str) -> Faults:
    """Taints of a node."""
    faults: Faults = []
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        place = item(path, index)
        key, effect = taint.get("key") or "", taint.get("effect") or ""
        faults += label_key(child(place, "key"), key)
        value = taint.get("value") or ""
        reasons = formats.label_value(value)
        if reasons:
            faults.append(invalid(child(place, "value"), value, ";".join(reasons)))
        faults += one_of(child(place, "effect"), effect, TAINT_EFFECTS)
        if (key, effect) in seen:
            shown = (
                f"core.Taint{{Key:{quoted(key)}, Value:{quoted(value)}, Effect:{quoted(effect)},"
                " TimeAdded:<nil>}: taints must be unique by key and effect pair"
            )
            faults.append(duplicate(place, Shown(shown)))
        seen.add((key, effect))
    return faults
