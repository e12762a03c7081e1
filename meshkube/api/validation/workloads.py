"""Deployments, ReplicaSets and ControllerRevisions."""

from __future__ import annotations

import re
from typing import Final

from meshkube.api.selectors import from_label_selector
from meshkube.api.types import JSON, Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    NOT_NEGATIVE,
    Faults,
    Shown,
    child,
    forbidden,
    go_map,
    go_strings,
    invalid,
    not_supported,
    quoted,
    required,
)
from meshkube.api.validation.pods import validate_template
from meshkube.api.validation.selectors import validate_label_selector

_PERCENT: Final = re.compile("([0-9]+)%", re.ASCII)


def validate_deployment(deployment: Object) -> Faults:
    spec = deployment.get("spec") or {}
    faults = counts(spec, ("replicas",)) + _selector_and_template(spec)
    faults += _strategy(spec.get("strategy") or {})
    faults += counts(spec, ("minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= (spec.get("minReadySeconds") or 0):
        detail = "must be greater than minReadySeconds"
        faults.append(invalid("spec.progressDeadlineSeconds", deadline, detail))
    return faults


def validate_replica_set(replica_set: Object) -> Faults:
    spec = replica_set.get("spec") or {}
    return counts(spec, ("replicas", "minReadySeconds")) + _selector_and_template(spec)


def validate_deployment_update(deployment: Object, old: Object) -> Faults:
    return validate_deployment(deployment) + same_selector(deployment, old)


def validate_replica_set_update(replica_set: Object, old: Object) -> Faults:
    return validate_replica_set(replica_set) + same_selector(replica_set, old)


def validate_controller_revision(revision: Object) -> Faults:
    number, data = revision.get("revision") or 0, revision.get("data")
    faults = [] if number >= 0 else [invalid("revision", number, NOT_NEGATIVE)]
    if data is None:
        faults.append(required("data", "data is mandatory"))
    elif not isinstance(data, dict):
        faults.append(required("data", "data must be a valid JSON object"))
    return faults


def validate_controller_revision_update(revision: Object, old: Object) -> Faults:
    faults: Faults = []
    number = revision.get("revision") or 0
    if number < 0:
        faults.append(invalid("revision", number, NOT_NEGATIVE))
    if revision.get("data") != old.get("data"):
        faults.append(invalid("data", Shown("runtime.RawExtension"), IMMUTABLE))
    return faults


def counts(spec: Object, fields: tuple[str, ...]) -> Faults:
    return [
        invalid(f"spec.{field}", spec[field], NOT_NEGATIVE)
        for field in fields
        if (spec.get(field) or 0) < 0
    ]


def same_selector(obj: Object, old: Object) -> Faults:
    selector = (obj.get("spec") or {}).get("selector")
    if _plain(selector) == _plain((old.get("spec") or {}).get("selector")):
        return []
    return [invalid("spec.selector", selector_shown(selector), IMMUTABLE)]


def _plain(selector: Object | None) -> Object | None:
    """Without what is empty: Kubernetes takes empty and missing for the same."""
    if selector is None:
        return None
    return {key: value for key, value in selector.items() if value}


def selector_shown(selector: Object | None) -> Shown:
    """As Go prints a pointer to a label selector."""
    if selector is None:
        return Shown('"null"')
    labels = selector.get("matchLabels")
    expressions = selector.get("matchExpressions")
    shown = ", ".join(_requirement_shown(each) for each in expressions or ())
    return Shown(
        "v1.LabelSelector{MatchLabels:"
        + ("map[string]string(nil)" if labels is None else go_map(labels))
        + ", MatchExpressions:[]v1.LabelSelectorRequirement"
        + ("(nil)" if expressions is None else "{" + shown + "}")
        + "}"
    )


def _requirement_shown(requirement: Object) -> str:
    values = requirement.get("values")
    return (
        f"v1.LabelSelectorRequirement{{Key:{quoted(requirement.get('key') or '')},"
        f" Operator:{quoted(requirement.get('operator') or '')},"
        f" Values:{'[]string(nil)' if values is None else go_strings(values)}}}"
    )


def _selector_and_template(spec: Object) -> Faults:
    selector = spec.get("selector")
    if selector is None:
        faults = [required("spec.selector")]
    else:
        faults = validate_label_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            detail = "empty selector is invalid for deployment"
            faults.append(invalid("spec.selector", selector_shown(selector), detail))
        elif faults:
            shown = selector_shown(selector)
            return [*faults, invalid("spec.selector", shown, "invalid label selector")]
    return faults + _template(spec.get("template") or {}, selector)


def _template(template: Object, selector: Object | None) -> Faults:
    faults: Faults = []
    path = "spec.template"
    labels = (template.get("metadata") or {}).get("labels")
    # No selector at all selects nothing; an empty one is a fault of its own.
    if selector is None or not from_label_selector(selector).matches(labels or {}):
        detail = "`selector` does not match template `labels`"
        shown = Shown("map[string]string(nil)") if labels is None else go_map(labels)
        faults.append(invalid(f"{path}.metadata.labels", shown, detail))
    faults += validate_template(template, path)
    spec = template.get("spec") or {}
    policy = spec.get("restartPolicy") or ""
    if policy != "Always":
        faults.append(not_supported(f"{path}.spec.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        detail = "activeDeadlineSeconds in ReplicaSet is not Supported"
        faults.append(forbidden(f"{path}.spec.activeDeadlineSeconds", detail))
    return faults


def _strategy(strategy: Object) -> Faults:
    path, kind = "spec.strategy", strategy.get("type") or ""
    update = strategy.get("rollingUpdate")
    if kind == "Recreate":
        if update is None:
            return []
        detail = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden(child(path, "rollingUpdate"), detail)]
    if kind != "RollingUpdate":
        rest = "RollingUpdate:(*apps.RollingUpdateDeployment)(nil)"
        shown = Shown(f"apps.DeploymentStrategy{{Type:{quoted(kind)}, {rest}}}")
        return [not_supported(path, shown, ("Recreate", "RollingUpdate"))]
    if update is None:
        detail = "this should be defaulted and never be nil"
        return [required(child(path, "rollingUpdate"), detail)]
    return _rolling_update(update, child(path, "rollingUpdate"))


def _rolling_update(update: Object, path: str) -> Faults:
    unavailable, surge = update.get("maxUnavailable"), update.get("maxSurge")
    place = child(path, "maxUnavailable")
    faults = int_or_percent(place, unavailable) + int_or_percent(child(path, "maxSurge"), surge)
    if amount(unavailable) == 0 and amount(surge) == 0:
        faults.append(
            invalid(place, int_or_percent_shown(unavailable), "may not be 0 when `maxSurge` is 0")
        )
    if isinstance(unavailable, str) and amount(unavailable) > 100:
        faults.append(
            invalid(place, int_or_percent_shown(unavailable), "must not be greater than 100%")
        )
    return faults


def int_or_percent(path: str, value: JSON) -> Faults:
    """A number or a percentage, neither negative."""
    if isinstance(value, str):
        return [invalid(path, int_or_percent_shown(value), why) for why in formats.percent(value)]
    return [invalid(path, value, NOT_NEGATIVE)] if (value or 0) < 0 else []


def int_or_percent_shown(value: JSON) -> Shown:
    """As Go prints an IntOrString."""
    text = isinstance(value, str)
    number, string = (0, value) if text else (value or 0, "")
    return Shown(
        f"intstr.IntOrString{{Type:{int(text)}, IntVal:{number}, StrVal:{quoted(string)}}}"
    )


def amount(value: JSON) -> int:
    """The number, or the number of percent; text that is neither counts as 0."""
    if not isinstance(value, str):
        return int(value or 0)
    match = _PERCENT.fullmatch(value)
    return int(match[1]) if match else 0
