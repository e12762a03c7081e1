"""Adding up what pods ask for. Amounts are quantities as text, by resource."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from meshkube.api import quantities

Amounts = dict[str, str]
Side = Literal["requests", "limits"]


def add(total: Amounts, more: Mapping[str, Any]) -> Amounts:
    """Adds in place; returns `total`."""
    for name, amount in more.items():
        total[name] = quantities.add(total[name], amount) if name in total else str(amount)
    return total


def at_least(total: Amounts, least: Mapping[str, Any]) -> Amounts:
    """Raises each amount in place to what is in `least`; returns `total`."""
    for name, amount in least.items():
        if name not in total or quantities.compare(amount, total[name]) > 0:
            total[name] = str(amount)
    return total


def of_pod(spec: Mapping[str, Any], side: Side) -> Amounts:
    """What a pod asks for, or is limited to: all containers together, or the most that its init
    containers need at one time, and its overhead."""
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, _of(container, side))
    peak: Amounts = {}
    beside: Amounts = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            add(total, _of(container, side))
            at_least(peak, add(beside, _of(container, side)))
        else:
            at_least(peak, add(dict(beside), _of(container, side)))
    at_least(total, peak)
    return add(total, spec.get("overhead") or {}) if total or side == "requests" else total


def _of(container: Mapping[str, Any], side: Side) -> Mapping[str, Any]:
    return (container.get("resources") or {}).get(side) or {}
