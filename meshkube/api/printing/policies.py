"""What limits, protects, scales and ranks pods, and what lets traffic through to them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import conversion, kinds, meta, quantities
from meshkube.api.printing.ages import age
from meshkube.api.printing.columns import (
    AGE,
    NAME,
    NONE,
    UNKNOWN,
    UNSET,
    Column,
    Printer,
    first,
    pairs,
)
from meshkube.api.printing.workloads import selector_cell
from meshkube.api.types import Object

_BUDGET = (
    NAME,
    Column("Min Available", "How many pods must stay."),
    Column("Max Unavailable", "How many pods may be away."),
    Column("Allowed Disruptions", "How many pods may be evicted now.", "integer"),
    AGE,
)


def _budget(budget: Object, now: datetime) -> list[Any]:
    spec, status = budget.get("spec") or {}, budget.get("status") or {}
    least, most = spec.get("minAvailable"), spec.get("maxUnavailable")
    return [
        meta.name(budget),
        "N/A" if least is None else str(least),
        "N/A" if most is None else str(most),
        status.get("disruptionsAllowed") or 0,
        age(budget, now),
    ]


_QUOTA = (
    NAME,
    Column("Request", "What is used, of what may be asked for."),
    Column("Limit", "What is used, of what limits may add up to."),
    AGE,
)


def _quota(quota: Object, now: datetime) -> list[Any]:
    status = quota.get("status") or {}
    used = status.get("used") or {}
    requests: list[str] = []
    limits: list[str] = []
    for name, hard in sorted((status.get("hard") or {}).items()):
        part = f"{name}: {_amount(used.get(name))}/{_amount(hard)}"
        (limits if name.startswith("limits.") else requests).append(part)
    return [meta.name(quota), ", ".join(requests), ", ".join(limits), age(quota, now)]


def _amount(value: Any) -> str:
    return str(quantities.canonical(value or "0"))


_AUTOSCALER = (
    NAME,
    Column("Reference", "What it scales."),
    Column("Targets", "How things stand, and what is aimed at."),
    Column("MinPods", "The least number of pods."),
    Column("MaxPods", "The greatest number of pods."),
    Column("Replicas", "How many pods there are."),
    AGE,
)
_TARGETS_SHOWN = 2
_SOURCES = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}


def _autoscaler(scaler: Object, now: datetime) -> list[Any]:
    spec, status = scaler.get("spec") or {}, scaler.get("status") or {}
    target, least = spec.get("scaleTargetRef") or {}, spec.get("minReplicas")
    return [
        meta.name(scaler),
        f"{target.get('kind') or ''}/{target.get('name') or ''}",
        _targets(spec.get("metrics") or [], status.get("currentMetrics") or []),
        UNSET if least is None else str(least),
        spec.get("maxReplicas") or 0,
        status.get("currentReplicas") or 0,
        age(scaler, now),
    ]


def _autoscaler_v1(scaler: Object, now: datetime) -> list[Any]:
    as_stored = conversion.to_stored(kinds.HORIZONTAL_POD_AUTOSCALER_V1, scaler)
    return _autoscaler(as_stored, now) if scaler.get("spec") else _autoscaler(scaler, now)


def _targets(metrics: list[Object], current: list[Object]) -> str:
    found = [
        _target(metric, current[index] if index < len(current) else {})
        for index, metric in enumerate(metrics)
    ]
    text = ", ".join(found[:_TARGETS_SHOWN])
    more = len(found) - _TARGETS_SHOWN
    return (f"{text} + {more} more..." if more > 0 else text) or NONE


def _target(metric: Object, current: Object) -> str:
    """`cpu: 12%/80%`, `3/10`, `3/10 (avg)`."""
    kind = metric.get("type") or ""
    if kind not in _SOURCES:
        return "<unknown type>"
    source, now = metric.get(_SOURCES[kind]) or {}, current.get(_SOURCES[kind]) or {}
    target, level = source.get("target") or {}, now.get("current") or {}
    of_resource = kind in ("Resource", "ContainerResource")
    prefix = f"{source.get('name') or ''}: " if of_resource else ""
    if target.get("averageValue") is not None or kind == "Pods":
        suffix = " (avg)" if kind in ("Object", "External") else ""
        aim = target.get("averageValue") or "0"
        return f"{prefix}{level.get('averageValue') or UNKNOWN}/{aim}{suffix}"
    if of_resource:
        used, wanted = level.get("averageUtilization"), target.get("averageUtilization")
        shown = UNKNOWN if used is None else f"{used}%"
        return f"{prefix}{shown}/{'<auto>' if wanted is None else f'{wanted}%'}"
    return f"{level.get('value') or UNKNOWN}/{target.get('value') or '0'}"


def _priority_class(class_: Object, now: datetime) -> list[Any]:
    return [
        meta.name(class_),
        class_.get("value") or 0,
        bool(class_.get("globalDefault")),
        age(class_, now),
        class_.get("preemptionPolicy") or "",
    ]


def _network_policy(policy: Object, now: datetime) -> list[Any]:
    selector = (policy.get("spec") or {}).get("podSelector")
    return [meta.name(policy), selector_cell(selector), age(policy, now)]


def _pod_template(template: Object, now: datetime) -> list[Any]:
    pod = template.get("template") or {}
    containers = (pod.get("spec") or {}).get("containers") or ()
    return [
        meta.name(template),
        ",".join(str(container.get("name")) for container in containers),
        ",".join(str(container.get("image")) for container in containers),
        pairs((pod.get("metadata") or {}).get("labels")),
    ]


def _runtime_class(class_: Object, now: datetime) -> list[Any]:
    return [meta.name(class_), class_.get("handler") or "", age(class_, now)]


def _address(address: Object, now: datetime) -> list[Any]:
    parent = (address.get("spec") or {}).get("parentRef")
    shown = NONE
    if parent:
        group = f".{parent['group']}" if parent.get("group") else ""
        parts = [f"{parent.get('resource') or ''}{group}".lower()]
        parts += [parent["namespace"]] if parent.get("namespace") else []
        shown = "/".join([*parts, parent.get("name") or ""])
    return [meta.name(address), shown]


def _cidr(cidr: Object, now: datetime) -> list[Any]:
    given = (cidr.get("spec") or {}).get("cidrs") or ()
    return [meta.name(cidr), first(given, len(given)), age(cidr, now)]


PRINTERS = {
    kinds.POD_DISRUPTION_BUDGET: Printer(_BUDGET, _budget),
    kinds.RESOURCE_QUOTA: Printer(_QUOTA, _quota),
    kinds.HORIZONTAL_POD_AUTOSCALER: Printer(_AUTOSCALER, _autoscaler),
    kinds.HORIZONTAL_POD_AUTOSCALER_V1: Printer(_AUTOSCALER, _autoscaler_v1),
    kinds.PRIORITY_CLASS: Printer(
        (
            NAME,
            Column("Value", "The priority of its pods.", "integer"),
            Column("Global-Default", "Whether pods that name no class get it.", "boolean"),
            AGE,
            Column("PreemptionPolicy", "Whether its pods may push others out."),
        ),
        _priority_class,
    ),
    kinds.NETWORK_POLICY: Printer(
        (NAME, Column("Pod-Selector", "The pods that it is about."), AGE), _network_policy
    ),
    kinds.POD_TEMPLATE: Printer(
        (
            NAME,
            Column("Containers", "Names of the containers in the template."),
            Column("Images", "Images of the containers in the template."),
            Column("Pod Labels", "Labels of pods made from it."),
        ),
        _pod_template,
    ),
    kinds.RUNTIME_CLASS: Printer(
        (NAME, Column("Handler", "What runs pods of this class."), AGE), _runtime_class
    ),
    kinds.IP_ADDRESS: Printer((NAME, Column("ParentRef", "Whose address it is.")), _address),
    kinds.SERVICE_CIDR: Printer(
        (NAME, Column("CIDRs", "Ranges from which Services get addresses."), AGE), _cidr
    ),
}
