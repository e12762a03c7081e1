"""Defaults of what limits, protects, scales, ranks and admits."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.pods import POD_SPEC, whole_milli
from meshkube.api.defaults.rules import IfZero, Row, under
from meshkube.api.types import Object

_RBAC: Final = "rbac.authorization.k8s.io"
_SHARE: Final = 80
"""Percent of the requested CPU that an autoscaler aims at where it is told nothing else."""


def _limits(item: Object) -> None:
    """A container's limit is the most there may be, and its request is its limit."""
    if item.get("type") != "Container":
        return
    limits = {**(item.get("max") or {}), **(item.get("default") or {})}
    requests = {**(item.get("min") or {}), **limits, **(item.get("defaultRequest") or {})}
    for field, amounts in (("default", limits), ("defaultRequest", requests)):
        if amounts or field in item:
            item[field] = amounts


def _metrics(spec: Object) -> None:
    if not spec.get("metrics"):
        target = {"type": "Utilization", "averageUtilization": _SHARE}
        spec["metrics"] = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]


def _policy(type_: str, value: int) -> Object:
    return {"type": type_, "value": value, "periodSeconds": 15}


def _behavior(behavior: Object) -> None:
    up = [_policy("Pods", 4), _policy("Percent", 100)]
    rules = (
        ("scaleUp", {"stabilizationWindowSeconds": 0, "selectPolicy": "Max", "policies": up}),
        ("scaleDown", {"selectPolicy": "Max", "policies": [_policy("Percent", 100)]}),
    )
    for name, usual in rules:
        given = behavior.get(name) or {}
        set_ = {field: value for field, value in given.items() if value is not None}
        behavior[name] = {**usual, **set_}


def _policy_types(spec: Object) -> None:
    if not spec.get("policyTypes"):
        egress = ["Egress"] if spec.get("egress") else []
        spec["policyTypes"] = ["Ingress", *egress]


def _subject(subject: Object) -> None:
    if not subject.get("apiGroup") and subject.get("kind") in ("User", "Group"):
        subject["apiGroup"] = _RBAC


def _match(path: str) -> list[Row]:
    return [
        (f"{path}.matchPolicy", "Equivalent"),
        (f"{path}.namespaceSelector", {}),
        (f"{path}.objectSelector", {}),
        (f"{path}.resourceRules[].scope", "*"),
        (f"{path}.excludeResourceRules[].scope", "*"),
    ]


LIMIT_RANGE: Final[list[Row]] = [("spec.limits[]", _limits)]
RESOURCE_QUOTA: Final[list[Row]] = [
    ("spec.hard", whole_milli),
    ("status.hard", whole_milli),
    ("status.used", whole_milli),
]
POD_TEMPLATE_OBJECT: Final[list[Row]] = [
    ("template", {}),
    ("template.metadata", {}),
    ("template.spec", {}),
    *under("template.spec", POD_SPEC),
]
AUTOSCALER: Final[list[Row]] = [
    ("spec", {}),
    ("spec.minReplicas", 1),
    ("spec", _metrics),
    ("spec.behavior", _behavior),
]
NETWORK_POLICY: Final[list[Row]] = [
    ("spec", {}),
    ("spec.podSelector", {}),
    ("spec", _policy_types),
    ("spec.ingress[].ports[].protocol", "TCP"),
    ("spec.egress[].ports[].protocol", "TCP"),
]
PRIORITY_CLASS: Final[list[Row]] = [("preemptionPolicy", "PreemptLowerPriority")]
ROLE_BINDING: Final[list[Row]] = [
    ("roleRef", {}),
    ("roleRef.apiGroup", _RBAC),
    ("subjects[]", _subject),
]
WEBHOOKS: Final[list[Row]] = [
    ("webhooks[].failurePolicy", "Fail"),
    ("webhooks[].matchPolicy", "Equivalent"),
    ("webhooks[].namespaceSelector", {}),
    ("webhooks[].objectSelector", {}),
    ("webhooks[].timeoutSeconds", 10),
    ("webhooks[].rules[].scope", "*"),
    ("webhooks[].clientConfig.service.port", 443),
]
MUTATING_WEBHOOKS: Final[list[Row]] = [("webhooks[].reinvocationPolicy", "Never"), *WEBHOOKS]
ADMISSION_POLICY: Final[list[Row]] = [
    ("spec.failurePolicy", "Fail"),
    *_match("spec.matchConstraints"),
]
ADMISSION_POLICY_BINDING: Final[list[Row]] = _match("spec.matchResources")
API_SERVICE: Final[list[Row]] = [("spec.service.port", 443)]
FLOW_SCHEMA: Final[list[Row]] = [("spec.matchingPrecedence", IfZero(1000))]
PRIORITY_LEVEL: Final[list[Row]] = [
    ("spec.exempt.nominalConcurrencyShares", 0),
    ("spec.exempt.lendablePercent", 0),
    ("spec.limited.nominalConcurrencyShares", 30),
    ("spec.limited.lendablePercent", 0),
    ("spec.limited.limitResponse.queuing.handSize", IfZero(8)),
    ("spec.limited.limitResponse.queuing.queues", IfZero(64)),
    ("spec.limited.limitResponse.queuing.queueLengthLimit", IfZero(50)),
]
