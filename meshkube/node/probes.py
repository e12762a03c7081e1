"""Probes: what they ask for and when enough answers make a verdict. Pure.

Source: Kubernetes documentation, "Configure Liveness, Readiness and Startup Probes"."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from meshkube.api.types import Object

ProbeKind = Literal["startup", "liveness", "readiness"]
FIELDS: Mapping[ProbeKind, str] = {
    "startup": "startupProbe",
    "liveness": "livenessProbe",
    "readiness": "readinessProbe",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one try gave; `message` says why it failed, or what there is to be warned of."""

    good: bool
    message: str = ""
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Schedule:
    """Seconds and counts of one probe."""

    initial_delay: float
    period: float
    timeout: float
    successes: int
    failures: int


def schedule(probe: Object) -> Schedule:
    """With Kubernetes' defaults for what is not given."""
    return Schedule(
        float(probe.get("initialDelaySeconds") or 0),
        float(probe.get("periodSeconds") or 10),
        float(probe.get("timeoutSeconds") or 1),
        int(probe.get("successThreshold") or 1),
        int(probe.get("failureThreshold") or 3),
    )


class Tally:
    """Counts answers in a row: `verdict` changes once enough are alike."""

    def __init__(self, schedule: Schedule, verdict: bool) -> None:
        self.verdict = verdict
        self._schedule = schedule
        self._last: bool | None = None
        self._in_a_row = 0

    def add(self, good: bool) -> bool:
        """The verdict after one more answer. True where enough alike have come in a row to confirm
        it (also when it stays what it was)."""
        self._in_a_row = self._in_a_row + 1 if good == self._last else 1
        self._last = good
        enough = self._schedule.successes if good else self._schedule.failures
        if self._in_a_row < enough:
            return False
        self.verdict = good
        return True


def port_number(port: Any, container: Object) -> int:
    """The number of a port given by number or by name. Raises `ValueError`."""
    if isinstance(port, int):
        number = port
    elif str(port).isdigit():
        number = int(port)
    else:
        named = {entry.get("name"): entry for entry in container.get("ports") or ()}
        if port not in named:
            raise ValueError(f"couldn't find port: {port}")
        number = int(named[port]["containerPort"])
    if not 0 < number < 65536:
        raise ValueError(f"invalid port number: {port}")
    return number


def http_url(action: Object, container: Object, address: str) -> tuple[str, str, int, str]:
    """`(scheme, host, port, path)` of an `httpGet` action. Raises `ValueError`."""
    scheme = str(action.get("scheme") or "HTTP").lower()
    path = str(action.get("path") or "/")
    host = str(action.get("host") or address)
    return (
        scheme,
        host,
        port_number(action["port"], container),
        path if path.startswith("/") else "/" + path,
    )
