"""HorizontalPodAutoscalers of `autoscaling/v1` and `v2`.

`v1` knows a share of the CPU and nothing else. What else an object holds travels in annotations
there, so that a client of `v1` that writes back what it read loses nothing. Names and forms of the
annotations are those that Kubernetes uses.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from meshkube.api.types import Object

_PREFIX: Final = "autoscaling.alpha.kubernetes.io/"
_METRICS: Final = _PREFIX + "metrics"
_CURRENT: Final = _PREFIX + "current-metrics"
_CONDITIONS: Final = _PREFIX + "conditions"
_BEHAVIOR: Final = _PREFIX + "behavior"
_ANNOTATIONS: Final = frozenset({_METRICS, _CURRENT, _CONDITIONS, _BEHAVIOR})
_SHARE: Final = 80
"""Percent of the requested CPU, where nothing else is aimed at."""

_SOURCES: Final = {
    "Resource": "resource",
    "ContainerResource": "containerResource",
    "Pods": "pods",
    "Object": "object",
    "External": "external",
}
# v1 name -> place in v2, by source; `T` stands for `target` or `current`.
_OF_RESOURCE: Final = {
    "name": "name",
    "container": "container",
    "targetAverageUtilization": "T.averageUtilization",
    "targetAverageValue": "T.averageValue",
}
_FIELDS: Final = {
    "resource": _OF_RESOURCE,
    "containerResource": _OF_RESOURCE,
    "pods": {
        "metricName": "metric.name",
        "selector": "metric.selector",
        "targetAverageValue": "T.averageValue",
    },
    "object": {
        "target": "describedObject",
        "metricName": "metric.name",
        "selector": "metric.selector",
        "targetValue": "T.value",
        "averageValue": "T.averageValue",
    },
    "external": {
        "metricName": "metric.name",
        "metricSelector": "metric.selector",
        "targetValue": "T.value",
        "targetAverageValue": "T.averageValue",
    },
}
_TARGET_TYPES: Final = {
    "averageUtilization": "Utilization",
    "averageValue": "AverageValue",
    "value": "Value",
}


def to_v1(obj: Object) -> Object:
    """A `v2` object in the form of `v1`."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    metrics, behavior = spec.pop("metrics", None) or [], spec.pop("behavior", None)
    current = status.pop("currentMetrics", None) or []
    conditions = status.pop("conditions", None)
    share = next((metric for metric in metrics if _is_share(metric, "target")), None)
    if share is not None:
        spec["targetCPUUtilizationPercentage"] = share["resource"]["target"]["averageUtilization"]
    used = next((metric for metric in current if _is_share(metric, "current")), None)
    if used is not None:
        level = used["resource"]["current"]["averageUtilization"]
        status["currentCPUUtilizationPercentage"] = level
    others = [_metric_v1(each, "target") for each in metrics if not _is_share(each, "target")]
    kept = {
        _METRICS: others,
        _CURRENT: [_metric_v1(each, "current") for each in current],
        _BEHAVIOR: _renamed(behavior, _capital) if behavior else None,
        _CONDITIONS: conditions,
    }
    texts = {name: orjson.dumps(value).decode() for name, value in kept.items() if value}
    return _whole(obj, spec, status, _plain_annotations(obj) | texts)


def to_v2(obj: Object) -> Object:
    """A `v1` object in the form of `v2`."""
    spec, status = dict(obj.get("spec") or {}), dict(obj.get("status") or {})
    annotations = (obj.get("metadata") or {}).get("annotations") or {}
    metrics = [_metric_v2(each, "target") for each in _read(annotations.get(_METRICS))]
    share = spec.pop("targetCPUUtilizationPercentage", None)
    if share is None and not metrics:
        share = _SHARE
    if share is not None:
        metrics.append(_share("target", {"type": "Utilization", "averageUtilization": share}))
    spec["metrics"] = metrics
    behavior = _load(annotations.get(_BEHAVIOR))
    if isinstance(behavior, dict) and behavior:
        spec["behavior"] = _renamed(behavior, _small)
    used = status.pop("currentCPUUtilizationPercentage", None)
    current = [_metric_v2(each, "current") for each in _read(annotations.get(_CURRENT))]
    if not current and used is not None:
        current = [_share("current", {"averageUtilization": used})]
    if current:
        status["currentMetrics"] = current
    conditions = _read(annotations.get(_CONDITIONS))
    if conditions:
        status["conditions"] = conditions
    return _whole(obj, spec, status, _plain_annotations(obj))


def _whole(obj: Object, spec: Object, status: Object, annotations: dict[str, str]) -> Object:
    whole = {**obj, "metadata": {**(obj.get("metadata") or {}), "annotations": annotations}}
    if not annotations:
        del whole["metadata"]["annotations"]
    parts = {"spec": spec, "status": status}
    return whole | {name: part for name, part in parts.items() if part or name in obj}


def _plain_annotations(obj: Object) -> dict[str, str]:
    given = (obj.get("metadata") or {}).get("annotations") or {}
    return {name: text for name, text in given.items() if name not in _ANNOTATIONS}


def _is_share(metric: Object, side: str) -> bool:
    resource = metric.get("resource") or {}
    level = (resource.get(side) or {}).get("averageUtilization")
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and level is not None


def _share(side: str, level: Object) -> Object:
    return {"type": "Resource", "resource": {"name": "cpu", side: level}}


def _metric_v1(metric: Object, side: str) -> Object:
    name = _SOURCES.get(metric.get("type") or "", "")
    source = metric.get(name) or {}
    made: Object = {}
    for field, path in _FIELDS.get(name, {}).items():
        value: Any = source
        for step in path.replace("T", side).split("."):
            value = (value or {}).get(step)
        if value is not None:
            made[_sided(field, side)] = value
    return {"type": metric.get("type"), name: made} if name else {"type": metric.get("type")}


def _metric_v2(metric: Object, side: str) -> Object:
    name = _SOURCES.get(metric.get("type") or "", "")
    source = metric.get(name) or {}
    made: Object = {side: {}}
    for field, path in _FIELDS.get(name, {}).items():
        value = source.get(_sided(field, side))
        if value is None:
            continue
        *steps, last = path.replace("T", side).split(".")
        place = made
        for step in steps:
            place = place.setdefault(step, {})
        place[last] = value
    if side == "target":
        aims = (aim for field, aim in _TARGET_TYPES.items() if field in made["target"])
        made["target"]["type"] = next(aims, "AverageValue")
    return {"type": metric.get("type"), name: made} if name else {"type": metric.get("type")}


def _sided(field: str, side: str) -> str:
    if side == "current" and field.startswith("target") and field != "target":
        return "current" + field.removeprefix("target")
    return field


def _load(text: str | None) -> Any:
    """What an annotation holds; None for text that is no JSON: it is ignored."""
    try:
        return orjson.loads(text) if text else None
    except orjson.JSONDecodeError:
        return None


def _read(text: str | None) -> list[Object]:
    found = _load(text)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _small(name: str) -> str:
    return name[:1].lower() + name[1:]


def _renamed(value: Any, rename: Any) -> Any:
    """The same with every key renamed: this annotation alone has capital names."""
    if isinstance(value, dict):
        return {rename(name): _renamed(each, rename) for name, each in value.items()}
    if isinstance(value, list):
        return [_renamed(each, rename) for each in value]
    return value
