"""LimitRanges: what containers get where they say nothing, and what is too little or too much.

Pure. Source: the Kubernetes documents, "Limit Ranges".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from meshkube.api import errors, kinds, meta, quantities
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import amounts

_ANNOTATION: Final = "kubernetes.io/limit-ranger"


def fill_in(pod: Object, ranges: Iterable[Object]) -> None:
    """Gives the containers of a new pod the default requests and limits, in place."""
    notes: list[str] = []
    spec = pod.get("spec") or {}
    for item in _items(ranges, "Container"):
        usual = {"requests": item.get("defaultRequest"), "limits": item.get("default")}
        for field, noun in (("containers", "container"), ("initContainers", "init container")):
            for container in spec.get(field) or ():
                notes += _filled(container, usual, noun)
    if notes:
        annotations = pod["metadata"].setdefault("annotations", {})
        annotations[_ANNOTATION] = "LimitRanger plugin set: " + "; ".join(notes)


def _filled(container: Object, usual: dict[str, Any], noun: str) -> Iterator[str]:
    for side, amounts_ in usual.items():
        own = (container.get("resources") or {}).get(side) or {}
        new = {name: amount for name, amount in (amounts_ or {}).items() if name not in own}
        if new:
            resources = container.setdefault("resources", {})
            resources[side] = {**own, **new}
            yield f"{', '.join(sorted(new))} {side[:-1]} for {noun} {container.get('name')}"


def check(kind: Kind, obj: Object, ranges: Iterable[Object]) -> None:
    """Raises `ApiError` 403 where a pod or a claim is outside what its namespace allows."""
    faults = list(_faults(kind, obj, list(ranges)))
    if faults:
        why = faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]"
        raise errors.forbidden(kind.group, kind.plural, meta.name(obj), why)


def _faults(kind: Kind, obj: Object, ranges: list[Object]) -> Iterator[str]:
    spec = obj.get("spec") or {}
    if kind is kinds.PERSISTENT_VOLUME_CLAIM:
        requests = (spec.get("resources") or {}).get("requests") or {}
        for item in _items(ranges, "PersistentVolumeClaim"):
            yield from _compared(item, requests, {}, ("min", "maxRequest"))
        return
    for item in _items(ranges, "Container"):
        for container in [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]:
            held = container.get("resources") or {}
            yield from _compared(item, held.get("requests") or {}, held.get("limits") or {})
    for item in _items(ranges, "Pod"):
        requests, limits = amounts.of_pod(spec, "requests"), amounts.of_pod(spec, "limits")
        yield from _compared(item, requests, limits)


def _items(ranges: Iterable[Object], type_: str) -> Iterator[Object]:
    for found in ranges:
        for item in (found.get("spec") or {}).get("limits") or ():
            if item.get("type") == type_:
                yield item


def _compared(
    item: Object,
    requests: Object,
    limits: Object,
    checks: tuple[str, ...] = ("min", "max", "maxLimitRequestRatio"),
) -> Iterator[str]:
    for check_ in checks:
        field = "max" if check_ == "maxRequest" else check_
        for name, bound in sorted((item.get(field) or {}).items()):
            fault = _CHECKS[check_](
                f"{name} usage per {item['type']} is {_shown(bound)}",
                bound,
                requests.get(name),
                limits.get(name),
            )
            if fault and check_ == "maxLimitRequestRatio":
                start = f"{name} max limit to request ratio per {item['type']} is {_shown(bound)}"
                fault = f"{start}, but {fault}"
            if fault:
                yield fault


def _shown(amount: Any) -> str:
    return str(quantities.canonical(amount))


def _least(rule: str, bound: Any, request: Any, limit: Any) -> str:
    if request is None:
        return f"minimum {rule}.  No request is specified"
    if quantities.compare(request, bound) < 0:
        return f"minimum {rule}, but request is {_shown(request)}"
    if limit is not None and quantities.compare(limit, bound) < 0:
        return f"minimum {rule}, but limit is {_shown(limit)}"
    return ""


def _most(rule: str, bound: Any, request: Any, limit: Any) -> str:
    if limit is None:
        return f"maximum {rule}.  No limit is specified"
    if quantities.compare(limit, bound) > 0:
        return f"maximum {rule}, but limit is {_shown(limit)}"
    if request is not None and quantities.compare(request, bound) > 0:
        return f"maximum {rule}, but request is {_shown(request)}"
    return ""


def _most_asked(rule: str, bound: Any, request: Any, limit: Any) -> str:
    if request is None:
        return f"maximum {rule}.  No request is specified"
    if quantities.compare(request, bound) > 0:
        return f"maximum {rule}, but request is {_shown(request)}"
    return ""


def _ratio(rule: str, bound: Any, request: Any, limit: Any) -> str:
    if request is None or not quantities.parse(request):
        return "no request is specified or request is 0"
    if limit is None or not quantities.parse(limit):
        return "no limit is specified or limit is 0"
    ratio = quantities.parse(limit) / quantities.parse(request)
    return f"provided ratio is {ratio:.6f}" if ratio > quantities.parse(bound) else ""


_CHECKS: Final[dict[str, Callable[[str, Any, Any, Any], str]]] = {
    "min": _least,
    "max": _most,
    "maxRequest": _most_asked,
    "maxLimitRequestRatio": _ratio,
}
