"""Faults of a new status, as the `status` sub-resource takes it: the rest of the object stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.addresses import validate_load_balancer_status
from meshkube.api.validation.autoscaling import validate_autoscaler_status
from meshkube.api.validation.certificates import validate_request_status
from meshkube.api.validation.cluster import validate_node_update
from meshkube.api.validation.definitions import validate_definition_status
from meshkube.api.validation.faults import (
    IMMUTABLE,
    NOT_NEGATIVE,
    Faults,
    child,
    forbidden,
    invalid,
    item,
    without_value,
)
from meshkube.api.validation.quotas import validate_budget_status, validate_quota_status
from meshkube.api.validation.selectors import label_key

_DEPLOYMENT: Final = (
    "observedGeneration",
    "replicas",
    "updatedReplicas",
    "readyReplicas",
    "availableReplicas",
    "unavailableReplicas",
    "terminatingReplicas",
    "collisionCount",
)
_REPLICA_SET: Final = (
    "replicas",
    "fullyLabeledReplicas",
    "readyReplicas",
    "availableReplicas",
    "observedGeneration",
    "terminatingReplicas",
)
_DAEMON_SET: Final = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)
_STATEFUL_SET: Final = (
    "replicas",
    "readyReplicas",
    "currentReplicas",
    "updatedReplicas",
    "availableReplicas",
    "observedGeneration",
    "collisionCount",
)
_JOB: Final = ("active", "succeeded", "failed", "ready", "terminating")
_OWN_CONDITIONS: Final = frozenset({"PodScheduled", "Ready", "Initialized"})


def _status(obj: Object) -> Object:
    return obj.get("status") or {}


def _counts(
    status: Object,
    fields: tuple[str, ...],
    parts: tuple[str, ...],
    ready: str = "readyReplicas",
) -> Faults:
    """Counts of pods: none negative, and none of a part greater than the whole."""
    faults = [
        invalid(f"status.{field}", status[field], NOT_NEGATIVE)
        for field in fields
        if (status.get(field) or 0) < 0
    ]
    whole = status.get("replicas") or 0
    for field in parts:
        part = status.get(field) or 0
        if part > whole:
            detail = "cannot be greater than status.replicas"
            faults.append(invalid(f"status.{field}", part, detail))
    available = status.get("availableReplicas") or 0
    if available > (status.get("readyReplicas") or 0):
        detail = f"cannot be greater than {ready}"
        faults.append(invalid("status.availableReplicas", available, detail))
    return faults


def _deployment(deployment: Object, old: Object) -> Faults:
    status = _status(deployment)
    parts = ("updatedReplicas", "readyReplicas", "availableReplicas")
    faults = _counts(status, _DEPLOYMENT, parts)
    count, before = status.get("collisionCount") or 0, _status(old).get("collisionCount") or 0
    if count < before:
        faults.append(invalid("status.collisionCount", count, "cannot be decremented"))
    return faults


def _replica_set(replica_set: Object, old: Object) -> Faults:
    parts = ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    return _counts(_status(replica_set), _REPLICA_SET, parts)


def _not_negative(status: Object, fields: tuple[str, ...]) -> Faults:
    return [
        invalid(f"status.{field}", status[field], NOT_NEGATIVE)
        for field in fields
        if (status.get(field) or 0) < 0
    ]


def _collisions(status: Object, before: Object) -> Faults:
    count = status.get("collisionCount") or 0
    if count >= (before.get("collisionCount") or 0):
        return []
    return [invalid("status.collisionCount", count, "cannot be decremented")]


def _daemon_set(daemon_set: Object, old: Object) -> Faults:
    status = _status(daemon_set)
    return _not_negative(status, _DAEMON_SET) + _collisions(status, _status(old))


def _stateful_set(stateful_set: Object, old: Object) -> Faults:
    status = _status(stateful_set)
    parts = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    faults = _counts(status, _STATEFUL_SET, parts, ready="status.readyReplicas")
    return faults + _collisions(status, _status(old))


def _job(job: Object, old: Object) -> Faults:
    """What has been counted stays so, and an end is an end."""
    status, before = _status(job), _status(old)
    faults = _not_negative(status, _JOB)
    for field in ("failed", "succeeded"):
        count = status.get(field) or 0
        if field == "succeeded" and (job.get("spec") or {}).get("completionMode") == "Indexed":
            continue
        if count < (before.get(field) or 0):
            detail = f"cannot decrease the {field} counter"
            faults.append(invalid(f"status.{field}", count, detail))
    true, was = _true(status), _true(before)
    for kind in ("Failed", "Complete", "FailureTarget", "SuccessCriteriaMet"):
        if kind in was and kind not in true:
            word = "" if kind == "SuccessCriteriaMet" else "terminal "
            detail = f"cannot disable the {word}{kind}=True condition"
            faults.append(without_value("status.conditions", detail))
    if {"Complete", "Failed"} <= true - was:
        detail = "cannot set Complete=True and Failed=true conditions"
        faults.append(without_value("status.conditions", detail))
    return faults


def _true(status: Object) -> set[str]:
    entries = status.get("conditions") or ()
    return {entry.get("type") or "" for entry in entries if entry.get("status") == "True"}


def _pod(pod: Object, old: Object) -> Faults:
    status, before = _status(pod), _status(old)
    faults: Faults = []
    for index, condition in enumerate(status.get("conditions") or ()):
        kind = condition.get("type") or ""
        if kind not in _OWN_CONDITIONS:
            faults += label_key(child(item("status.conditions", index), "Type"), kind)
    quality, was = status.get("qosClass") or "", before.get("qosClass") or ""
    if was and quality != was:
        faults.append(invalid("status.qosClass", quality, IMMUTABLE))
    policy = (old.get("spec") or {}).get("restartPolicy")
    faults += _transitions(status, before, "containerStatuses", policy or "")
    for field in ("podIPs", "hostIPs"):
        known = {entry.get("ip") for entry in before.get(field) or ()}
        for index, entry in enumerate(status.get(field) or ()):
            address = entry.get("ip") or ""
            if address not in known:
                place = item(f"status.{field}", index)
                faults += formats.faults(place, address, formats.ip(address))
    return faults


def _transitions(status: Object, before: Object, field: str, policy: str) -> Faults:
    """A container that ended for good does not run again."""
    if policy == "Always":
        return []
    running = {
        entry.get("name")
        for entry in status.get(field) or ()
        if (entry.get("state") or {}).get("terminated") is None
    }
    detail = "may not be transitioned to non-terminated state"
    faults: Faults = []
    for index, entry in enumerate(before.get(field) or ()):
        ended = (entry.get("state") or {}).get("terminated")
        retried = ended is not None and policy == "OnFailure" and ended.get("exitCode")
        if ended is not None and not retried and entry.get("name") in running:
            faults.append(forbidden(child(item(f"status.{field}", index), "state"), detail))
    return faults


def _service(service: Object, old: Object) -> Faults:
    path, status = "status.loadBalancer", _status(service).get("loadBalancer") or {}
    if (service.get("spec") or {}).get("type") != "LoadBalancer" and status.get("ingress"):
        detail = "may only be used when `spec.type` is 'LoadBalancer'"
        return [forbidden(child(path, "ingress"), detail)]
    return validate_load_balancer_status(status, path, modes=True)


def _ingress(ingress: Object, old: Object) -> Faults:
    status = _status(ingress).get("loadBalancer") or {}
    return validate_load_balancer_status(status, "status.loadBalancer", modes=False)


def _namespace(namespace: Object, old: Object) -> Faults:
    going = bool((namespace.get("metadata") or {}).get("deletionTimestamp"))
    phase, wanted = _status(namespace).get("phase") or "", "Terminating" if going else "Active"
    if phase == wanted:
        return []
    when = "is not empty" if going else "is empty"
    detail = f"may only be '{wanted}' if `deletionTimestamp` {when}"
    return [invalid("status.Phase", phase, detail)]


STATUS: Final[dict[Kind, Callable[[Object, Object], Faults]]] = {
    kinds.DEPLOYMENT: _deployment,
    kinds.REPLICA_SET: _replica_set,
    kinds.REPLICATION_CONTROLLER: _replica_set,
    kinds.DAEMON_SET: _daemon_set,
    kinds.STATEFUL_SET: _stateful_set,
    kinds.JOB: _job,
    kinds.POD: _pod,
    kinds.SERVICE: _service,
    kinds.INGRESS: _ingress,
    kinds.NAMESPACE: _namespace,
    kinds.NODE: validate_node_update,
    kinds.POD_DISRUPTION_BUDGET: validate_budget_status,
    kinds.RESOURCE_QUOTA: validate_quota_status,
    kinds.HORIZONTAL_POD_AUTOSCALER: validate_autoscaler_status,
    kinds.CUSTOM_RESOURCE_DEFINITION: validate_definition_status,
    kinds.CERTIFICATE_SIGNING_REQUEST: validate_request_status,
}
