"""Quality of service: which class a pod is of, by what its containers ask for. Pure. Source:
Kubernetes documentation, "Pod Quality of Service Classes"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshkube.api import quantities
from meshkube.api.types import Object


def amounts(container: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get(which) or {}


def requested(container: Mapping[str, Any], resource: str) -> Any:
    """The request; without one, the limit; else None."""
    found = amounts(container, "requests").get(resource)
    return found if found is not None else amounts(container, "limits").get(resource)


def qos_class(pod: Object) -> str:
    """`Guaranteed`, `Burstable` or `BestEffort`."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]
    guaranteed, anything = True, False
    for container in containers:
        for resource in ("cpu", "memory"):
            limit = amounts(container, "limits").get(resource)
            request = requested(container, resource)
            anything = anything or positive(request) or positive(limit)
            if not positive(limit) or quantities.parse(str(limit)) != quantities.parse(
                str(request)
            ):
                guaranteed = False
    if not anything:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def positive(quantity: Any) -> bool:
    return quantity is not None and quantities.parse(str(quantity)) > 0
