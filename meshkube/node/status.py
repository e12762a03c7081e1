"""A pod's status, as its node writes it. Pure: `pod_status(view, facts)` gives the whole of it.

What only the API remembers (restart counts of vanished containers, times of the last transitions)
is taken from the status last written, so a new agent carries on where the old one was. Source:
Kubernetes documentation, "Pod Lifecycle", and the kubelet's own wording of reasons and messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshkube.api import meta
from meshkube.api.allocation import IN_PROGRESS, PENDING
from meshkube.api.qos import qos_class
from meshkube.api.types import Object
from meshkube.node.plan import restart_backoff
from meshkube.node.resizing import lacks
from meshkube.node.runtime import Record
from meshkube.node.view import ContainerView, PodView, is_host_network


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the status says that neither the pod nor its containers know."""

    host_ip: str
    second_ips: tuple[str, ...] = ()
    """The host's other addresses."""
    scheme: str = "docker"
    """Of container ids: `docker://...`."""
    messages: Mapping[str, str] = field(default_factory=dict)
    """What ended containers left in their termination log, by container id."""


def pod_status(view: PodView, facts: Facts) -> Object:
    """The status for the API: every field that the node owns."""
    if _turned_away(view):
        return _refused_status(view)
    init = [_container_status(view, container, facts) for container in view.init]
    apps = [_container_status(view, container, facts) for container in view.apps]
    phase = _phase(view, init, apps)
    old = view.pod.get("status") or {}
    status: Object = {
        "phase": phase,
        "conditions": _conditions(view, phase, init, apps),
        "hostIP": facts.host_ip,
        "hostIPs": _by_ip(facts.host_ip, *facts.second_ips),
        "startTime": old.get("startTime") or meta.timestamp(view.seen.now),
        "qosClass": old.get("qosClass") or qos_class(view.pod),
        "containerStatuses": apps,
    }
    if init:
        status["initContainerStatuses"] = init
    if view.ephemeral:
        status["ephemeralContainerStatuses"] = [
            _container_status(view, container, facts) for container in view.ephemeral
        ]
    if phase == "Failed" and view.overdue:
        status["reason"] = "DeadlineExceeded"
        status["message"] = "Pod was active on the node longer than the specified deadline"
    elif view.seen.ending is not None:
        status["reason"] = view.seen.ending.reason
        status["message"] = view.seen.ending.message
    elif old.get("reason"):
        # Of whoever ended the pod.
        status["reason"], status["message"] = old["reason"], old.get("message")
    address = pod_address(view, facts)
    if address:
        status["podIP"] = address
        status["podIPs"] = _addresses(view, address, facts)
    return status


def _turned_away(view: PodView) -> bool:
    """Nothing of it ever ran here."""
    ending = view.seen.ending
    return ending is not None and not ending.disrupts and not view.seen.records


def _refused_status(view: PodView) -> Object:
    """As the kubelet writes it: with a word on containers, clients would show them as waiting."""
    assert view.seen.ending is not None
    old = view.pod.get("status") or {}
    conditions = _conditions(view, "Failed", [], [])
    return {
        "phase": "Failed",
        "reason": view.seen.ending.reason,
        "message": view.seen.ending.message,
        "conditions": [each for each in conditions if each["type"] == "PodScheduled"],
        "startTime": old.get("startTime") or meta.timestamp(view.seen.now),
        "qosClass": old.get("qosClass") or qos_class(view.pod),
        "containerStatuses": [],
    }


def _by_ip(*addresses: str) -> list[Object]:
    return [{"ip": each} for each in addresses if each]


def _addresses(view: PodView, first: str, facts: Facts) -> list[Object]:
    if is_host_network(view.pod):
        return _by_ip(first, *facts.second_ips)
    record = view.sandbox
    if record is None or record.address != first:
        before = list((view.pod.get("status") or {}).get("podIPs") or ())
        return before if before and before[0].get("ip") == first else [{"ip": first}]
    return _by_ip(first, record.second_address)


def pod_address(view: PodView, facts: Facts) -> str:
    """The address of the running sandbox; what was last written, once the pod has ended."""
    if is_host_network(view.pod):
        return facts.host_ip if view.sandbox is not None else ""
    if view.sandbox is not None and view.sandbox.address:
        return view.sandbox.address
    ended = view.finished or meta.deleting(view.pod)
    return str((view.pod.get("status") or {}).get("podIP") or "") if ended else ""


def _container_status(view: PodView, container: ContainerView, facts: Facts) -> Object:
    record, last = container.current, container.last
    state, last_state = _states(view, container, facts)
    probe = view.probe(container)
    running = "running" in state
    if container.role == "ephemeral":
        # Nobody waits for it.
        started, ready = running, False
    elif container.role == "init":
        started = running
        ready = container.exit_code == 0 and not container.vanished
    else:
        started = running and probe.started
        ready = started and probe.ready
    status: Object = {
        "name": container.name,
        "state": state,
        "lastState": last_state,
        "ready": ready,
        "started": started,
        "restartCount": _restarts(record) if record is not None else last.get("restartCount", 0),
        "image": container.spec.get("image", ""),
        "imageID": _image_id(record, facts) if record is not None else "",
    }
    status |= _resources(container)
    if record is not None and record.state != "created":
        status["containerID"] = f"{facts.scheme}://{record.id}"
    elif container.vanished:
        status["containerID"] = last["containerID"]
        status["imageID"] = last.get("imageID", "")
    return status


def _restarts(record: Record) -> int:
    """An attempt counts from its start on, so that a count never comes before its beginning."""
    return max(0, record.attempt - 1) if record.state == "created" else record.attempt


def _resources(container: ContainerView) -> Object:
    """What it was given; `resources` is what it runs with until that is done, empty for nothing."""
    if container.role == "ephemeral":
        return {}
    given: Object = container.spec.get("resources") or {}
    record = container.current
    now = {key: given[key] for key in ("limits", "requests") if given.get(key)}
    if record is not None and record.state == "running" and lacks(container.spec, record):
        now = container.last.get("resources") or now
    found: Object = {"resources": now}
    if given.get("requests"):
        found["allocatedResources"] = given["requests"]
    return found


def _image_id(record: Record, facts: Facts) -> str:
    """As the kubelet on Docker writes it: by what a registry knows it as, else by its id here."""
    if record.image_digest:
        return f"{facts.scheme}-pullable://{record.image_digest}"
    return f"{facts.scheme}://{record.image_id}" if record.image_id else ""


def _states(view: PodView, container: ContainerView, facts: Facts) -> tuple[Object, Object]:
    """`(state, lastState)`."""
    record = container.current
    before = _ended_before(container, facts)
    if record is not None and container.running:
        assert record.started is not None
        return {"running": {"startedAt": meta.timestamp(record.started)}}, before
    if record is None or record.state == "created" or record.state == "running":
        if container.vanished and not _starts_again(view, container):
            return {"terminated": _vanished(container)}, before
        return {"waiting": _waiting(view, container)}, before
    ended = {"terminated": _terminated(record, facts)}
    if not _starts_again(view, container):
        return ended, before
    waiting = _waiting_again(view, container, record)
    return ({"waiting": waiting}, ended) if waiting else (ended, before)


def _starts_again(view: PodView, container: ContainerView) -> bool:
    return not view.finished and not meta.deleting(view.pod) and view.restarts(container)


def _ended_before(container: ContainerView, facts: Facts) -> Object:
    if container.previous is not None and container.previous.state == "exited":
        return {"terminated": _terminated(container.previous, facts)}
    if container.vanished:
        old_state: Object = container.last.get("state") or {}
        return {"terminated": old_state.get("terminated") or _vanished(container)}
    return dict(container.last.get("lastState") or {}) if container.current is not None else {}


def _vanished(container: ContainerView) -> Object:
    was: Object = (container.last.get("state") or {}).get("terminated") or {}
    return was or {
        "exitCode": 137,
        "reason": "ContainerStatusUnknown",
        "message": "The container could not be located when the pod was terminated",
        "startedAt": None,
        "finishedAt": None,
        "containerID": container.last["containerID"],
    }


def _terminated(record: Record, facts: Facts) -> Object:
    code = record.exit_code or (128 if record.error else 0)
    state: Object = {
        "exitCode": code,
        "reason": _end_reason(record, code),
        "startedAt": meta.timestamp(record.started) if record.started else None,
        "finishedAt": meta.timestamp(record.finished) if record.finished else None,
        "containerID": f"{facts.scheme}://{record.id}",
    }
    message = record.error or facts.messages.get(record.id, "")
    if message:
        state["message"] = message
    return state


def _end_reason(record: Record, code: int) -> str:
    if record.error:
        return "ContainerCannotRun"
    if record.oom_killed:
        return "OOMKilled"
    return "Error" if code else "Completed"


def _waiting(view: PodView, container: ContainerView) -> Object:
    trouble = view.seen.troubles.get(container.name)
    if trouble is not None:
        return _reasoned(trouble.reason, trouble.message)
    if container.role == "app" and view.init and not view.initialized:
        return {"reason": "PodInitializing"}
    if container.role not in ("app", "ephemeral"):
        return {"reason": "PodInitializing"}
    return {"reason": "ContainerCreating"}


def _waiting_again(view: PodView, container: ContainerView, record: Record) -> Object | None:
    """While it waits for its next attempt; None while that attempt is being made."""
    trouble = view.seen.troubles.get(container.name)
    if trouble is not None:
        return _reasoned(trouble.reason, trouble.message)
    wait, _ = restart_backoff(record)
    if record.error and not wait:
        # As the kubelet says it until the first back-off.
        return _reasoned("RunContainerError", record.error)
    if not wait or container.name in view.seen.busy or record.finished is None:
        return None
    message = (
        f"back-off {_duration(wait)} restarting failed container={container.name}"
        f" pod={meta.name(view.pod)}_{meta.namespace(view.pod)}({meta.uid(view.pod)})"
    )
    return {"reason": "CrashLoopBackOff", "message": message}


def _duration(seconds: float) -> str:
    """As Go prints it: `10s`, `2m40s`, `5m0s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"


def _reasoned(reason: str, message: str) -> Object:
    return {"reason": reason, "message": message} if message else {"reason": reason}


def _phase(view: PodView, init: list[Object], apps: list[Object]) -> str:
    finished = view.finished
    still = any("running" in status["state"] for status in init + apps)
    if finished and (not still or view.seen.ending):
        return finished
    if view.phase in ("Succeeded", "Failed"):
        return view.phase
    if meta.deleting(view.pod):
        return _phase_at_the_end(view, still)
    if not view.initialized and not any(c.current is not None for c in view.apps):
        return "Pending"
    never_ran = any("waiting" in status["state"] and not status["lastState"] for status in apps)
    return "Pending" if never_ran else "Running"


def _phase_at_the_end(view: PodView, still: bool) -> str:
    """A deleted pod whose containers have all ended is over, whatever its restart policy.

    One that never ran has failed, once nothing of it is left or under way: whoever counts the ends
    of pods, as a Job does, waits for that before it lets the pod go.
    """
    if still:
        return view.phase
    codes = [container.exit_code for container in view.apps]
    if all(code is None for code in codes):
        return view.phase if view.sandbox_running or view.seen.busy else "Failed"
    return "Succeeded" if all(code == 0 for code in codes) else "Failed"


def _conditions(view: PodView, phase: str, init: list[Object], apps: list[Object]) -> list[Object]:
    old = {c["type"]: c for c in (view.pod.get("status") or {}).get("conditions") or ()}
    now = meta.timestamp(view.seen.now)
    completed = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    unready = [s["name"] for s in apps if not s["ready"]]
    unready += _unready_sidecars(view, init)
    containers_ready = not unready and not completed
    gates = _open_gates(view, old)
    found = [
        _condition("PodReadyToStartContainers", view.sandbox_running),
        _initialized_condition(view, completed),
        _ready_condition("Ready", containers_ready and not gates, completed, unready, gates),
        _ready_condition("ContainersReady", containers_ready, completed, unready, []),
        _condition("PodScheduled", True),
        *_resizing(view, phase),
    ]
    if view.seen.ending is not None and view.seen.ending.disrupts:
        why = view.seen.ending.message
        found.append(_condition("DisruptionTarget", True, "TerminationByKubelet", why))
    for condition in found:
        before = old.get(condition["type"], {})
        same = before.get("status") == condition["status"]
        condition["lastProbeTime"] = None
        condition["lastTransitionTime"] = before.get("lastTransitionTime", now) if same else now
    return found


def _resizing(view: PodView, phase: str) -> list[Object]:
    """While resources are changed in place, or cannot be."""
    found: list[Object] = []
    if phase not in ("Pending", "Running") or meta.deleting(view.pod):
        return found
    if view.seen.resize is not None:
        found.append(_condition(PENDING, True, *view.seen.resize))
    lacking = [
        container.name
        for container in view.containers
        if container.running and lacks(container.spec, container.current)  # type: ignore[arg-type]
    ]
    if lacking:
        troubles = [view.seen.troubles[name] for name in lacking if name in view.seen.troubles]
        error = ("Error", troubles[0].message) if troubles else ()
        found.append(_condition(IN_PROGRESS, True, *error))
    return found


def _unready_sidecars(view: PodView, init: list[Object]) -> list[str]:
    roles = {container.name: container.role for container in view.init}
    return [s["name"] for s in init if roles[s["name"]] == "sidecar" and not s["ready"]]


def _open_gates(view: PodView, old: Mapping[str, Any]) -> list[str]:
    gates = view.pod["spec"].get("readinessGates") or ()
    types = [gate["conditionType"] for gate in gates]
    return [type for type in types if old.get(type, {}).get("status") != "True"]


def _condition(type: str, holds: bool, reason: str = "", message: str = "") -> Object:
    condition: Object = {"type": type, "status": "True" if holds else "False"}
    if reason:
        condition["reason"] = reason
    if message:
        condition["message"] = message
    return condition


def _initialized_condition(view: PodView, completed: str) -> Object:
    if completed == "PodCompleted":
        return _condition("Initialized", True, completed)
    waiting = [] if view.initialized else [c.name for c in view.init if not view.init_done(c)]
    if not waiting or not view.init:
        return _condition("Initialized", True)
    message = f"containers with incomplete status: {_listed(waiting)}"
    return _condition("Initialized", False, "ContainersNotInitialized", message)


def _ready_condition(
    type: str, ready: bool, completed: str, unready: list[str], gates: list[str]
) -> Object:
    if ready or completed:
        return _condition(type, ready, completed)
    if unready:
        message = f"containers with unready status: {_listed(unready)}"
        return _condition(type, False, "ContainersNotReady", message)
    message = "; ".join(
        f'the status of pod readiness gate "{gate}" is not "True"' for gate in gates
    )
    return _condition(type, False, "ReadinessGatesNotReady", message)


def _listed(names: Iterable[str]) -> str:
    return "[" + " ".join(names) + "]"


def status_patch(old: Mapping[str, Any], new: Object) -> Object:
    """The strategic merge patch from one status to the other; empty where nothing differs.
    Conditions merge by type: those of others stay as they are."""
    patch: Object = {}
    for key in ("phase", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "qosClass",
                "containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses",
                "reason", "message"):  # fmt: skip
        if old.get(key) != new.get(key) and (old.get(key) or new.get(key)):
            patch[key] = new.get(key)
    known = {condition["type"]: condition for condition in old.get("conditions") or ()}
    changed = [
        # A merge keeps what it does not name: an old reason must be taken away.
        {"reason": None, "message": None, **c} if c["type"] in known else c
        for c in new["conditions"]
        if not _same(known.get(c["type"]), c)
    ]
    stated = {condition["type"] for condition in new["conditions"]}
    changed += [
        {"$patch": "delete", "type": type}
        for type in (PENDING, IN_PROGRESS)
        if type in known and type not in stated
    ]
    if changed:
        patch["conditions"] = changed
    return patch


def only_progress(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a new status says no more than that a pod is on its way: as before, nothing runs, has
    run or hangs."""
    if old.get("phase", "Pending") != "Pending" or new["phase"] != "Pending" or new.get("reason"):
        return False
    return all(
        _waits(entry.get("state") or {})
        for status in (old, new)
        for statuses in _CONTAINERS
        for entry in status.get(statuses) or ()
    )


_CONTAINERS = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_ON_THE_WAY = ("ContainerCreating", "PodInitializing")


def _waits(state: Object) -> bool:
    return (state.get("waiting") or {}).get("reason") in _ON_THE_WAY


def _same(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> bool:
    keys = ("status", "reason", "message", "lastTransitionTime")
    return old is not None and all((old.get(k) or "") == (new.get(k) or "") for k in keys)
