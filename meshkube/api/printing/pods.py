"""Pods as kubectl users know them: readiness, the reason that matters, restarts."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from meshkube.api import kinds, meta
from meshkube.api.printing.ages import age, since
from meshkube.api.printing.columns import AGE, NAME, NONE, Column, Printer, wide
from meshkube.api.types import Object

_COLUMNS = (
    NAME,
    Column("Ready", "Containers that are ready, of all that the pod has."),
    Column("Status", "The pod's phase, or why it is not further."),
    Column("Restarts", "How often containers were restarted, and how long ago the last time."),
    AGE,
    wide("IP", "The address of the pod."),
    wide("Node", "The node that the pod is assigned to."),
    wide("Nominated Node", "The node on which the pod may run once others have left it."),
    wide("Readiness Gates", "Readiness gates that hold, of all that the pod has."),
)


class _Count(NamedTuple):
    """What the statuses of a pod's containers add up to."""

    reason: str
    ready: int = 0
    restarts: int = 0
    last: str = ""
    """When the container that was restarted last had ended; empty where none was."""


def _cells(pod: Object, now: datetime) -> list[Any]:
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    count = _count(spec, status)
    total = len(spec.get("containers") or ()) + len(_sidecars(spec))
    return [
        meta.name(pod),
        f"{count.ready}/{total}",
        _final_reason(pod, count.reason),
        _restarts(count, now),
        age(pod, now),
        _address(status),
        spec.get("nodeName") or NONE,
        status.get("nominatedNodeName") or NONE,
        _gates(spec, status),
    ]


def _count(spec: Object, status: Object) -> _Count:
    initializing, init, side = _init_containers(spec, status)
    if initializing and not _condition(status, "Initialized"):
        return init
    return _containers(status, side._replace(reason=init.reason, ready=init.ready))


def _phase(status: Object) -> str:
    reason = status.get("reason") or status.get("phase") or ""
    for condition in status.get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("reason") == "SchedulingGated":
            reason = "SchedulingGated"
    return str(reason)


def _sidecars(spec: Object) -> set[str]:
    """Names of init containers that keep running beside the others."""
    return {
        container.get("name", "")
        for container in spec.get("initContainers") or ()
        if container.get("restartPolicy") == "Always"
    }


def _init_containers(spec: Object, status: Object) -> tuple[bool, _Count, _Count]:
    """`(still initializing, all init containers, the sidecars among them)`."""
    sidecars, total = _sidecars(spec), len(spec.get("initContainers") or ())
    init, side = _Count(_phase(status)), _Count("")
    for index, container in enumerate(status.get("initContainerStatuses") or ()):
        init = _restarted(init, container)
        sidecar = container.get("name") in sidecars
        if sidecar:
            side = _restarted(side, container)
        state = container.get("state") or {}
        terminated = state.get("terminated")
        if terminated is not None and not terminated.get("exitCode"):
            continue
        if sidecar and container.get("started"):
            init = init._replace(ready=init.ready + bool(container.get("ready")))
            continue
        why = _init_reason(state) or f"{index}/{total}"
        return True, init._replace(reason=f"Init:{why}"), side
    return False, init, side


def _init_reason(state: Object) -> str:
    if (terminated := state.get("terminated")) is not None:
        return _end(terminated)
    waiting = (state.get("waiting") or {}).get("reason") or ""
    return "" if waiting == "PodInitializing" else str(waiting)


def _containers(status: Object, count: _Count) -> _Count:
    """Adds the containers proper; of several reasons the first container's is shown."""
    running = False
    for container in reversed(status.get("containerStatuses") or ()):
        count = _restarted(count, container)
        state = container.get("state") or {}
        waiting = (state.get("waiting") or {}).get("reason")
        if waiting:
            count = count._replace(reason=waiting)
        elif (terminated := state.get("terminated")) is not None:
            count = count._replace(reason=_end(terminated))
        elif container.get("ready") and state.get("running") is not None:
            running = True
            count = count._replace(ready=count.ready + 1)
    if count.reason == "Completed" and running:
        count = count._replace(reason="Running" if _condition(status, "Ready") else "NotReady")
    return count


def _restarted(count: _Count, container: Object) -> _Count:
    if not container.get("restartCount") and not container.get("lastState"):
        return count
    ended = ((container.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or ""
    restarts = count.restarts + int(container.get("restartCount") or 0)
    return count._replace(restarts=restarts, last=max(count.last, ended))


def _end(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode') or 0}"


def _final_reason(pod: Object, reason: str) -> str:
    status = pod.get("status") or {}
    if not meta.deleting(pod):
        return reason
    if status.get("reason") == "NodeLost":
        return "Unknown"
    return reason if status.get("phase") in ("Succeeded", "Failed") else "Terminating"


def _restarts(count: _Count, now: datetime) -> str:
    if not count.restarts or not count.last:
        return str(count.restarts)
    return f"{count.restarts} ({since(count.last, now)} ago)"


def _address(status: Object) -> str:
    ips: Iterable[Object] = status.get("podIPs") or ()
    for entry in ips:
        return str(entry.get("ip") or NONE)
    return str(status.get("podIP") or NONE)


def _condition(status: Object, type_: str) -> bool:
    return any(
        condition.get("type") == type_ and condition.get("status") == "True"
        for condition in status.get("conditions") or ()
    )


def _gates(spec: Object, status: Object) -> str:
    gates = spec.get("readinessGates") or ()
    if not gates:
        return NONE
    held = sum(_condition(status, gate.get("conditionType", "")) for gate in gates)
    return f"{held}/{len(gates)}"


_DONE = {
    "Succeeded": "The pod has completed successfully.",
    "Failed": "The pod failed.",
}


def _conditions(pod: Object) -> list[Object] | None:
    phase = (pod.get("status") or {}).get("phase")
    message = _DONE.get(phase or "")
    if message is None:
        return None
    return [{"type": "Completed", "status": "True", "reason": phase, "message": message}]


PRINTERS = {kinds.POD: Printer(_COLUMNS, _cells, _conditions)}
