"""What a pod takes of a node: for who chooses a node and for the node that is chosen. Pure.

Source: Kubernetes documentation, "Resource Management for Pods and Containers"."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshkube.api.quantities import milli, value

Resources = dict[str, int]
"""cpu in thousandths of a core, everything else in units (bytes, pieces)."""
Port = tuple[str, str, int]
"""Host address, protocol, port."""


def amount(resource: str, quantity: Any) -> int:
    return milli(quantity) if resource == "cpu" else value(quantity)


def resources(quantities: Mapping[str, Any] | None) -> Resources:
    return {name: amount(name, quantity) for name, quantity in (quantities or {}).items()}


def _add(total: Resources, more: Mapping[str, int]) -> None:
    for name, count in more.items():
        total[name] = total.get(name, 0) + count


def _raise_to(total: Resources, least: Mapping[str, int]) -> None:
    for name, count in least.items():
        total[name] = max(total.get(name, 0), count)


def requests(spec: Mapping[str, Any], defaults: Mapping[str, int] | None = None) -> Resources:
    """What a pod takes of a node: its containers together, or its largest init container with the
    sidecars that started before it, and the overhead. `defaults` stand for absent requests."""

    def of(container: Mapping[str, Any]) -> Resources:
        asked = resources((container.get("resources") or {}).get("requests"))
        return {**(defaults or {}), **asked}

    running: Resources = {}
    for container in spec.get("containers") or ():
        _add(running, of(container))
    sidecars: Resources = {}
    starting: Resources = {}
    for container in spec.get("initContainers") or ():
        asked = of(container)
        if container.get("restartPolicy") == "Always":
            _add(running, asked)
            _add(sidecars, asked)
            _raise_to(starting, sidecars)
        else:
            together = dict(sidecars)
            _add(together, asked)
            _raise_to(starting, together)
    _raise_to(running, starting)
    _add(running, resources(spec.get("overhead")))
    return running


def host_ports(spec: Mapping[str, Any]) -> tuple[Port, ...]:
    """The ports of the host that its containers ask for."""
    containers = [
        *(spec.get("containers") or ()),
        *(c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always"),
    ]
    return tuple(
        (port.get("hostIP") or "0.0.0.0", port.get("protocol") or "TCP", int(port["hostPort"]))
        for container in containers
        for port in container.get("ports") or ()
        if port.get("hostPort")
    )


def clash(one: Port, other: Port) -> bool:
    """Whether two pods cannot both have these ports of one host."""
    if one[1:] != other[1:]:
        return False
    return one[0] == other[0] or "0.0.0.0" in (one[0], other[0])
