"""HorizontalPodAutoscalers, in the form of `autoscaling/v2`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    NOT_NEGATIVE,
    Faults,
    child,
    forbidden,
    invalid,
    item,
    not_supported,
    required,
)
from meshkube.api.validation.resources import validate_container_resource

_LONGEST_PERIOD: Final = 1800
_LONGEST_WINDOW: Final = 3600
_POSITIVE: Final = "must be greater than zero"


def validate_autoscaler(autoscaler: Object) -> Faults:
    spec = autoscaler.get("spec") or {}
    least, most = spec.get("minReplicas"), spec.get("maxReplicas") or 0
    faults: Faults = []
    if least is not None and least < 1:
        detail = "must be greater than or equal to 1"
        faults.append(invalid("spec.minReplicas", least, detail))
    if most < 1:
        faults.append(invalid("spec.maxReplicas", most, "must be greater than 0"))
    if least is not None and most < least:
        detail = "must be greater than or equal to `minReplicas`"
        faults.append(invalid("spec.maxReplicas", most, detail))
    faults += _reference(spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef")
    faults += _metrics(spec.get("metrics") or [], least)
    behavior = spec.get("behavior") or {}
    for side in ("scaleUp", "scaleDown"):
        if behavior.get(side) is not None:
            faults += _rules(behavior[side], f"spec.behavior.{side}")
    return faults


def validate_autoscaler_status(autoscaler: Object, old: Object) -> Faults:
    status = autoscaler.get("status") or {}
    return [
        invalid(f"status.{field}", status[field], NOT_NEGATIVE)
        for field in ("currentReplicas", "desiredReplicas")
        if (status.get(field) or 0) < 0
    ]


def _segment(path: str, value: str, detail: str = "") -> Faults:
    if not value:
        return [required(path, detail)]
    return list(formats.faults(path, value, formats.path_segment(value)))


def _reference(reference: Object, path: str) -> Faults:
    return [
        fault
        for field in ("kind", "name")
        for fault in _segment(child(path, field), reference.get(field) or "")
    ]


def _metrics(metrics: list[Object], least: int | None) -> Faults:
    faults: Faults = []
    for index, metric in enumerate(metrics):
        faults += _metric(metric, item("spec.metrics", index))
    outside = any(metric.get("type") in ("Object", "External") for metric in metrics)
    if least == 0 and not outside:
        detail = "must specify at least one Object or External metric to support scaling to zero"
        faults.append(forbidden("spec.metrics", f"{detail} replicas"))
    return faults


def _metric(metric: Object, path: str) -> Faults:
    type_ = metric.get("type") or ""
    faults: Faults = []
    if not type_:
        faults.append(required(child(path, "type"), "must specify a metric source type"))
    if type_ not in _TYPES:
        faults.append(not_supported(child(path, "type"), type_, sorted(_TYPES)))
    present = [name for name in _SOURCES if metric.get(name) is not None]
    if present:
        faults += _SOURCES[present[0]](metric[present[0]], child(path, present[0]))
    wanted = _TYPES.get(type_, "")
    if wanted and wanted not in present:
        detail = "must populate information for the given metric source"
        faults.append(required(child(path, wanted), detail))
    if len(present) != 1:
        detail = "must populate the given metric source only"
        faults += [forbidden(child(path, name), detail) for name in present if name != wanted]
    return faults


def _identifier(source: Object, path: str) -> Faults:
    name = (source.get("metric") or {}).get("name") or ""
    return _segment(f"{path}.metric.name", name, "must specify a metric name")


def _target(source: Object, path: str) -> Faults:
    target, path = source.get("target") or {}, child(path, "target")
    type_ = target.get("type") or ""
    faults: Faults = []
    if not type_:
        faults.append(required(child(path, "type"), "must specify a metric target type"))
    if type_ not in ("Utilization", "Value", "AverageValue"):
        detail = "must be either Utilization, Value, or AverageValue"
        faults.append(invalid(child(path, "type"), type_, detail))
    for field in ("value", "averageValue"):
        amount = target.get(field)
        if amount is not None and quantities.parse(amount) <= 0:
            told = quantities.canonical(amount)
            faults.append(invalid(child(path, field), told, "must be positive"))
    share = target.get("averageUtilization")
    if share is not None and share < 1:
        faults.append(invalid(child(path, "averageUtilization"), share, "must be greater than 0"))
    return faults


def _given(source: Object, field: str) -> bool:
    return (source.get("target") or {}).get(field) is not None


def _object(source: Object, path: str) -> Faults:
    faults = _reference(source.get("describedObject") or {}, child(path, "describedObject"))
    faults += _identifier(source, path) + _target(source, path)
    if not _given(source, "value") and not _given(source, "averageValue"):
        detail = "must set either a target value or averageValue"
        faults.append(required(f"{path}.target.averageValue", detail))
    return faults


def _external(source: Object, path: str) -> Faults:
    faults = _identifier(source, path) + _target(source, path)
    whole, each = _given(source, "value"), _given(source, "averageValue")
    if not whole and not each:
        detail = "must set either a target value for metric or a per-pod target"
        faults.append(required(f"{path}.target.averageValue", detail))
    if whole and each:
        detail = "may not set both a target value for metric and a per-pod target"
        faults.append(forbidden(f"{path}.target.value", detail))
    return faults


def _pods(source: Object, path: str) -> Faults:
    faults = _identifier(source, path) + _target(source, path)
    if not _given(source, "averageValue"):
        detail = "must specify a positive target averageValue"
        faults.append(required(f"{path}.target.averageValue", detail))
    return faults


def _resource(source: Object, path: str) -> Faults:
    faults: Faults = []
    if not source.get("name"):
        faults.append(required(child(path, "name"), "must specify a resource name"))
    return faults + _share(source, path)


def _share(source: Object, path: str) -> Faults:
    faults = _target(source, path)
    share, amount = _given(source, "averageUtilization"), _given(source, "averageValue")
    if not share and not amount:
        detail = "must set either a target raw value or a target utilization"
        faults.append(required(f"{path}.target.averageUtilization", detail))
    if share and amount:
        detail = "may not set both a target raw value and a target utilization"
        faults.append(forbidden(f"{path}.target.averageValue", detail))
    return faults


def _container_resource(source: Object, path: str) -> Faults:
    name, container = source.get("name") or "", source.get("container") or ""
    faults: Faults = []
    if not name:
        faults.append(required(child(path, "name"), "must specify a resource name"))
    else:
        faults += validate_container_resource(child(path, "name"), name)
    if not container:
        faults.append(required(child(path, "container"), "must specify a container"))
    else:
        place = child(path, "container")
        faults += formats.faults(place, container, formats.dns_label(container))
    return faults + _share(source, path)


_SOURCES: Final[dict[str, Callable[[Object, str], Faults]]] = {
    "object": _object,
    "external": _external,
    "pods": _pods,
    "resource": _resource,
    "containerResource": _container_resource,
}
_TYPES: Final = {name[0].upper() + name[1:]: name for name in _SOURCES}


def _rules(rules: Object, path: str) -> Faults:
    faults: Faults = []
    place, window = (
        child(path, "stabilizationWindowSeconds"),
        rules.get("stabilizationWindowSeconds"),
    )
    if window is not None and window < 0:
        faults.append(invalid(place, window, "must be greater than or equal to zero"))
    if window is not None and window > _LONGEST_WINDOW:
        detail = f"must be less than or equal to {_LONGEST_WINDOW}"
        faults.append(invalid(place, window, detail))
    policy, choices = rules.get("selectPolicy"), ("Disabled", "Max", "Min")
    if policy is not None and policy not in choices:
        faults.append(not_supported(child(path, "selectPolicy"), policy, choices))
    policies = rules.get("policies") or []
    if not policies:
        faults.append(required(child(path, "policies"), "must specify at least one Policy"))
    for index, each in enumerate(policies):
        faults += _policy(each, item(child(path, "policies"), index))
    return faults


def _policy(policy: Object, path: str) -> Faults:
    type_, value = policy.get("type") or "", policy.get("value") or 0
    seconds = policy.get("periodSeconds") or 0
    faults: Faults = []
    if type_ not in ("Pods", "Percent"):
        faults.append(not_supported(child(path, "type"), type_, ("Percent", "Pods")))
    if value <= 0:
        faults.append(invalid(child(path, "value"), value, _POSITIVE))
    if seconds <= 0:
        faults.append(invalid(child(path, "periodSeconds"), seconds, _POSITIVE))
    if seconds > _LONGEST_PERIOD:
        detail = f"must be less than or equal to {_LONGEST_PERIOD}"
        faults.append(invalid(child(path, "periodSeconds"), seconds, detail))
    return faults
