"""ReplicationControllers, DaemonSets and StatefulSets."""

from __future__ import annotations

from typing import Final

from meshkube.api.selectors import from_label_selector, from_labels
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    Faults,
    Shown,
    forbidden,
    go_map,
    invalid,
    not_supported,
    quoted,
    required,
)
from meshkube.api.validation.metadata import validate_annotations, validate_labels
from meshkube.api.validation.pods import validate_template
from meshkube.api.validation.selectors import validate_label_selector
from meshkube.api.validation.workloads import (
    amount,
    counts,
    int_or_percent,
    int_or_percent_shown,
    same_selector,
    selector_shown,
)

_TEMPLATE: Final = "spec.template"
_NO_MATCH: Final = "`selector` does not match template `labels`"
_CHANGEABLE: Final = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _labels_shown(labels: Object | None) -> Shown:
    return Shown("map[string]string(nil)") if labels is None else go_map(labels)


def _always(template: Object) -> Faults:
    policy = (template.get("spec") or {}).get("restartPolicy") or ""
    if policy == "Always":
        return []
    return [not_supported(f"{_TEMPLATE}.spec.restartPolicy", policy, ("Always",))]


def _no_deadline(template: Object, kind: str) -> Faults:
    if (template.get("spec") or {}).get("activeDeadlineSeconds") is None:
        return []
    detail = f"activeDeadlineSeconds in {kind} is not Supported"
    return [forbidden(f"{_TEMPLATE}.spec.activeDeadlineSeconds", detail)]


def validate_replication_controller(controller: Object) -> Faults:
    spec = _spec(controller)
    selector, template = spec.get("selector"), spec.get("template")
    faults = counts(spec, ("minReadySeconds", "replicas"))
    if not selector:
        faults.append(required("spec.selector"))
    if template is None:
        return [*faults, required(_TEMPLATE)]
    labels = (template.get("metadata") or {}).get("labels")
    if selector and not from_labels(selector).matches(labels or {}):
        faults.append(invalid(f"{_TEMPLATE}.metadata.labels", _labels_shown(labels), _NO_MATCH))
    faults += validate_template(template, _TEMPLATE) + _always(template)
    return faults + _no_deadline(template, "ReplicationController")


def validate_daemon_set(daemon_set: Object) -> Faults:
    spec = _spec(daemon_set)
    selector, template = spec.get("selector"), spec.get("template") or {}
    faults = validate_label_selector(selector, "spec.selector")
    labels = (template.get("metadata") or {}).get("labels")
    matched = selector is not None and (
        faults or from_label_selector(selector).matches(labels or {})
    )
    if not matched:
        faults.append(invalid(f"{_TEMPLATE}.metadata.labels", _labels_shown(labels), _NO_MATCH))
    if selector is not None and not any(selector.values()):
        detail = "empty selector is invalid for daemonset"
        faults.append(invalid("spec.selector", selector_shown(selector), detail))
    faults += validate_template(template, _TEMPLATE) + _always(template)
    faults += _no_deadline(template, "DaemonSet")
    faults += counts(spec, ("minReadySeconds", "revisionHistoryLimit"))
    return faults + _daemon_update(spec.get("updateStrategy") or {})


def validate_daemon_set_update(daemon_set: Object, old: Object) -> Faults:
    return validate_daemon_set(daemon_set) + same_selector(daemon_set, old)


def _daemon_update(strategy: Object) -> Faults:
    path, kind = "spec.updateStrategy", strategy.get("type") or ""
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        rest = "RollingUpdate:(*apps.RollingUpdateDaemonSet)(nil)"
        shown = Shown(f"apps.DaemonSetUpdateStrategy{{Type:{quoted(kind)}, {rest}}}")
        return [not_supported(path, shown, ("RollingUpdate", "OnDelete"))]
    if strategy.get("rollingUpdate") is None:
        return [required(f"{path}.rollingUpdate")]
    update = strategy["rollingUpdate"]
    faults: Faults = []
    limits = {name: update.get(name) for name in ("maxUnavailable", "maxSurge")}
    for name, value in limits.items():
        faults += int_or_percent(f"{path}.rollingUpdate.{name}", value)
    for name, value in limits.items():
        if isinstance(value, str) and amount(value) > 100:
            place, detail = f"{path}.rollingUpdate.{name}", "must not be greater than 100%"
            faults.append(invalid(place, int_or_percent_shown(value), detail))
    unavailable, surge = amount(limits["maxUnavailable"]), amount(limits["maxSurge"])
    if unavailable and surge:
        detail = "may not be set when maxUnavailable is non-zero"
        shown = int_or_percent_shown(limits["maxSurge"])
        faults.append(invalid(f"{path}.rollingUpdate.maxSurge", shown, detail))
    elif not unavailable and not surge:
        detail = "cannot be 0 when maxSurge is 0"
        faults.append(required(f"{path}.rollingUpdate.maxUnavailable", detail))
    return faults


def validate_stateful_set(stateful_set: Object) -> Faults:
    spec = _spec(stateful_set)
    faults = _stateful_spec(spec)
    service = spec.get("serviceName") or ""
    if service:
        faults += formats.faults("spec.serviceName", service, formats.dns_label(service))
    return faults


def validate_stateful_set_update(stateful_set: Object, old: Object) -> Faults:
    spec, before = _spec(stateful_set), _spec(old)
    faults = _stateful_spec(spec)
    kept = {key: value for key, value in spec.items() if key not in _CHANGEABLE and value}
    if kept != {key: value for key, value in before.items() if key not in _CHANGEABLE and value}:
        detail = (
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template',"
            " 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and"
            " 'minReadySeconds' are forbidden"
        )
        faults.append(forbidden("spec", detail))
    return faults


def _stateful_spec(spec: Object) -> Faults:
    faults: Faults = []
    management = spec.get("podManagementPolicy") or ""
    if management not in ("OrderedReady", "Parallel"):
        detail = "must be 'OrderedReady' or 'Parallel'"
        faults.append(invalid("spec.podManagementPolicy", management, detail))
    faults += _stateful_update(spec.get("updateStrategy") or {})
    retention = spec.get("persistentVolumeClaimRetentionPolicy") or {}
    for field in ("whenDeleted", "whenScaled"):
        if retention.get(field) not in ("Retain", "Delete"):
            place = f"spec.persistentVolumeClaimRetentionPolicy.{field}"
            faults.append(not_supported(place, retention.get(field), ("Retain", "Delete")))
    faults += counts(spec, ("replicas", "minReadySeconds"))
    start = (spec.get("ordinals") or {}).get("start") or 0
    if start < 0:
        detail = "must be greater than or equal to 0"
        faults.append(invalid("spec.ordinals.start", start, detail))
    return faults + _stateful_template(spec)


def _stateful_template(spec: Object) -> Faults:
    selector, template = spec.get("selector"), spec.get("template") or {}
    described = template.get("metadata") or {}
    labels = described.get("labels")
    if selector is None:
        faults, matched = [required("spec.selector")], False
    else:
        faults = validate_label_selector(selector, "spec.selector")
        matched = bool(faults) or from_label_selector(selector).matches(labels or {})
        if faults:
            faults.append(invalid("spec.selector", selector_shown(selector), ""))
        if not any(selector.values()):
            detail = "empty selector is invalid for statefulset"
            faults.append(invalid("spec.selector", selector_shown(selector), detail))
    if not matched:
        faults.append(invalid(f"{_TEMPLATE}.metadata.labels", _labels_shown(labels), _NO_MATCH))
    # The volumes of the claims are not there yet, so the rest is looked at when pods are made.
    faults += validate_labels(labels or {}, f"{_TEMPLATE}.labels")
    faults += validate_annotations(described.get("annotations") or {}, f"{_TEMPLATE}.annotations")
    return faults + _always(template) + _no_deadline(template, "StatefulSet")


def _stateful_update(strategy: Object) -> Faults:
    path, kind = "spec.updateStrategy", strategy.get("type") or ""
    update = strategy.get("rollingUpdate")
    if kind == "OnDelete" and update is not None:
        partition = update.get("partition") or 0
        rest = f"Partition:{partition}, MaxUnavailable:(*intstr.IntOrString)(nil)"
        shown = Shown(f"apps.RollingUpdateStatefulSetStrategy{{{rest}}}")
        detail = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid(f"{path}.rollingUpdate", shown, detail)]
    if kind == "OnDelete":
        return []
    if kind != "RollingUpdate":
        rest = "RollingUpdate:(*apps.RollingUpdateStatefulSetStrategy)(nil)"
        shown = Shown(f"apps.StatefulSetUpdateStrategy{{Type:{quoted(kind)}, {rest}}}")
        return [invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")]
    partition = (update or {}).get("partition") or 0
    if partition < 0:
        detail = "must be greater than or equal to 0"
        return [invalid(f"{path}.rollingUpdate.partition", partition, detail)]
    return []
