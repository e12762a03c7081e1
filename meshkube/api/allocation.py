"""What a pod holds of its node while its resources are changed in place: what it was given until
that is taken back, and what it asks for unless it can never have that. Pure.

Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from meshkube.api import quantities
from meshkube.api.types import Object

PENDING: Final = "PodResizePending"
IN_PROGRESS: Final = "PodResizeInProgress"
INFEASIBLE: Final = "Infeasible"
DEFERRED: Final = "Deferred"
_STATUSES: Final = (
    ("containers", "containerStatuses"),
    ("initContainers", "initContainerStatuses"),
)


def held(pod: Object) -> Object:
    """The pod's spec with the requests that count; the spec itself where nothing differs."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    new = spec
    for field, statuses in _STATUSES:
        given = {
            entry["name"]: entry["allocatedResources"]
            for entry in status.get(statuses) or ()
            if entry.get("allocatedResources")
        }
        containers = spec.get(field) or ()
        if all(_requests(c) == given.get(c["name"], _requests(c)) for c in containers):
            continue
        never = infeasible(status)
        new = {**new, field: [_counted(c, given.get(c["name"]), never) for c in containers]}
    return new


def infeasible(status: Mapping[str, Any]) -> bool:
    """Whether the node has said that it can never give what is asked for."""
    return any(
        condition.get("type") == PENDING and condition.get("reason") == INFEASIBLE
        for condition in status.get("conditions") or ()
    )


def _requests(container: Object) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get("requests") or {}


def _counted(container: Object, given: Mapping[str, Any] | None, never: bool) -> Object:
    if given is None:
        return container
    asked = _requests(container)
    more = {
        name: amount
        for name, amount in given.items()
        if never or name not in asked or quantities.compare(amount, asked[name]) > 0
    }
    resources = {**(container.get("resources") or {}), "requests": {**asked, **more}}
    return {**container, "resources": resources}
