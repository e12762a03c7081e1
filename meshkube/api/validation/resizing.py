"""What `pods/resize` may change: CPU and memory of containers that run, and nothing else.

Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshkube.api import quantities
from meshkube.api.qos import qos_class
from meshkube.api.types import Object
from meshkube.api.validation.faults import Faults, at, child, forbidden, invalid, item

RESIZABLE: Final = ("cpu", "memory")
_MIRROR: Final = "kubernetes.io/config.mirror"


def only_resized(pod: Object, old: Object) -> Object:
    """`old`'s spec with the resources that `pod` asks for; its other changes are dropped. Where
    containers came, went or moved, they are kept as they are, for `validate_resize` to refuse."""
    spec, before = pod.get("spec") or {}, old["spec"]
    new = {**before}
    for field in ("containers", "initContainers"):
        asked, had = spec.get(field) or [], before.get(field) or []
        if _names(asked) != _names(had):
            new[field] = asked
        elif had:
            new[field] = [_resized(*pair) for pair in zip(asked, had, strict=True)]
    return new


def _resized(container: Object, had: Object) -> Object:
    new = {**had}
    for field in ("resources", "resizePolicy"):
        new.pop(field, None)
        if container.get(field) is not None:
            new[field] = container[field]
    return new


def _names(containers: list[Object]) -> list[str]:
    return [str(each.get("name")) for each in containers]


def validate_resize(pod: Object, old: Object) -> Faults:
    """`pod` is what `only_resized` left of the request."""
    spec, before = pod["spec"], old["spec"]
    whole = _of_the_pod(spec, before, old)
    if whole:
        return whole
    faults: Faults = []
    if qos_class(pod) != qos_class(old):
        detail = "Pod QOS Class may not change as a result of resizing"
        faults.append(invalid("spec", qos_class(pod), detail))
    order = _order(spec, before)
    if order:
        return faults + order
    for field in ("containers", "initContainers"):
        for index, (new, was) in enumerate(
            zip(spec.get(field) or (), before.get(field) or (), strict=True)
        ):
            path = item(f"spec.{field}", index)
            if field == "initContainers" and was.get("restartPolicy") != "Always":
                if _resources(new) != _resources(was):
                    detail = "resources for non-sidecar init containers are immutable"
                    faults.append(forbidden(child(path, "resources"), detail))
                continue
            faults += _container(new, was, child(path, "resources"))
    return faults


def _of_the_pod(spec: Object, before: Object, old: Object) -> Faults:
    if spec.get("resources") or before.get("resources"):
        return [forbidden("", "pods with pod-level resources cannot be resized")]
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [forbidden("", "static pods cannot be resized")]
    if (before.get("os") or {}).get("name") == "windows":
        return [forbidden("", "windows pods cannot be resized")]
    return []


def _order(spec: Object, before: Object) -> Faults:
    for field in ("containers", "initContainers"):
        now, had = _names(spec.get(field) or []), _names(before.get(field) or [])
        if len(now) != len(had):
            detail = f"{field} may not be added or removed on resize"
            return [forbidden(f"spec.{field}", detail)]
        detail = f"{field} may not be renamed or reordered on resize"
        moved = [
            forbidden(child(item(f"spec.{field}", index), "name"), detail)
            for index, (name, was) in enumerate(zip(now, had, strict=True))
            if name != was
        ]
        if moved:
            return moved
    return []


def _container(new: Object, was: Object, path: str) -> Faults:
    faults: Faults = []
    for side in ("requests", "limits"):
        if _amounts(was, side).keys() - _amounts(new, side).keys():
            faults.append(forbidden(path, f"resource {side} cannot be removed"))
    faults += _smaller_memory(new, was, path)
    if _fixed(new) != _fixed(was):
        faults.append(forbidden("spec", "only cpu and memory resources are mutable"))
    return faults


def _smaller_memory(new: Object, was: Object, path: str) -> Faults:
    """The kernel may end a container whose memory limit shrinks under it."""
    limit, before = _amounts(new, "limits").get("memory"), _amounts(was, "limits").get("memory")
    if limit is None or before is None or quantities.compare(limit, before) >= 0:
        return []
    if restarts(new, "memory"):
        return []
    detail = "memory limits cannot be decreased unless resizePolicy is RestartContainer"
    return [forbidden(at(child(path, "limits"), "memory"), detail)]


def restarts(container: Mapping[str, Any], resource: str) -> bool:
    """Whether another amount of `resource` asks for a new container (its `resizePolicy`)."""
    return any(
        policy.get("resourceName") == resource and policy.get("restartPolicy") == "RestartContainer"
        for policy in container.get("resizePolicy") or ()
    )


def _resources(container: Object) -> Object:
    return container.get("resources") or {}


def _amounts(container: Object, side: str) -> Mapping[str, Any]:
    return _resources(container).get(side) or {}


def _fixed(container: Object) -> Object:
    """All of the container but its CPU and memory."""
    rest: Object = {**container, "resources": {"claims": _resources(container).get("claims")}}
    for side in ("requests", "limits"):
        rest["resources"][side] = {
            name: quantities.canonical(amount)
            for name, amount in _amounts(container, side).items()
            if name not in RESIZABLE
        }
    return rest
