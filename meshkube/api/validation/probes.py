"""Probes and lifecycle hooks of containers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshkube.api.types import JSON, Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    NOT_NEGATIVE,
    Faults,
    child,
    forbidden,
    invalid,
    not_supported,
    required,
)

_COUNTS: Final = (
    "initialDelaySeconds",
    "timeoutSeconds",
    "periodSeconds",
    "successThreshold",
    "failureThreshold",
)
_SCHEMES: Final = ("HTTP", "HTTPS")


def port_or_name(path: str, port: JSON) -> Faults:
    """A port by number, or by the name of a container port."""
    if isinstance(port, str):
        return list(formats.faults(path, port, formats.port_name(port)))
    return [invalid(path, port or 0, reason) for reason in formats.port_number(port or 0)]


def _exec(action: Object, path: str, grace: int | None) -> Faults:
    return [] if action.get("command") else [required(child(path, "command"))]


def _http_get(action: Object, path: str, grace: int | None) -> Faults:
    faults: Faults = []
    if not action.get("path"):
        faults.append(required(child(path, "path")))
    faults += port_or_name(child(path, "port"), action.get("port"))
    scheme = action.get("scheme") or ""
    if scheme not in _SCHEMES:
        faults.append(not_supported(child(path, "scheme"), scheme, _SCHEMES))
    for header in action.get("httpHeaders") or ():
        name = header.get("name") or ""
        place = child(path, "httpHeaders")
        faults += formats.faults(place, name, formats.header_name(name))
    return faults


def _port_only(action: Object, path: str, grace: int | None) -> Faults:
    return port_or_name(child(path, "port"), action.get("port"))


def _sleep(action: Object, path: str, grace: int | None) -> Faults:
    seconds = action.get("seconds") or 0
    if grace is None or 0 <= seconds <= grace:
        return []
    detail = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
    return [invalid(path, seconds, detail)]


_HANDLERS: Final[dict[str, Callable[[Object, str, int | None], Faults]]] = {
    "exec": _exec,
    "httpGet": _http_get,
    "tcpSocket": _port_only,
    "grpc": _port_only,
    "sleep": _sleep,
}


def _handler(handler: Object, path: str, grace: int | None) -> Faults:
    given = [name for name in _HANDLERS if handler.get(name) is not None]
    if not given:
        return [required(path, "must specify a handler type")]
    faults = _HANDLERS[given[0]](handler[given[0]], child(path, given[0]), grace)
    detail = "may not specify more than 1 handler type"
    return faults + [forbidden(child(path, name), detail) for name in given[1:]]


def _probe(probe: Object, path: str, grace: int | None) -> Faults:
    faults = _handler(probe, path, grace)
    for field in _COUNTS:
        if (probe.get(field) or 0) < 0:
            faults.append(invalid(child(path, field), probe[field], NOT_NEGATIVE))
    own = probe.get("terminationGracePeriodSeconds")
    if own is not None and own <= 0:
        place = child(path, "terminationGracePeriodSeconds")
        faults.append(invalid(place, own, "must be greater than 0"))
    return faults


def validate_probes(container: Object, path: str, grace: int | None) -> Faults:
    """The three probes; `grace` is the pod's termination grace period."""
    faults: Faults = []
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        probe, place = container.get(name), child(path, name)
        if probe is None:
            continue
        faults += _probe(probe, place, grace)
        own = probe.get("terminationGracePeriodSeconds")
        if name == "readinessProbe":
            if own is not None:
                detail = "must not be set for readinessProbes"
                faults.append(invalid(child(place, "terminationGracePeriodSeconds"), own, detail))
        elif (probe.get("successThreshold") or 0) != 1:
            wanted = probe.get("successThreshold") or 0
            faults.append(invalid(child(place, "successThreshold"), wanted, "must be 1"))
    return faults


def validate_lifecycle(lifecycle: Object, path: str, grace: int | None) -> Faults:
    faults: Faults = []
    for hook in ("postStart", "preStop"):
        if lifecycle.get(hook) is not None:
            faults += _handler(lifecycle[hook], child(path, hook), grace)
    return faults
