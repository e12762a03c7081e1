"""Namespaces, Nodes, Leases and Events."""

from __future__ import annotations

from typing import Final

from meshkube.api.types import Object
from meshkube.api.validation import formats
from meshkube.api.validation.faults import (
    IMMUTABLE,
    Faults,
    Shown,
    child,
    duplicate,
    forbidden,
    go_strings,
    invalid,
    item,
    not_supported,
    quoted,
    required,
)
from meshkube.api.validation.resources import validate_amount
from meshkube.api.validation.scheduling import validate_taints
from meshkube.api.validation.selectors import label_key

_KEPT_BY_EVENTS: Final = (
    "regarding",
    "reason",
    "note",
    "type",
    "action",
    "related",
    "reportingController",
    "reportingInstance",
)


def validate_namespace(namespace: Object) -> Faults:
    faults: Faults = []
    for finalizer in (namespace.get("spec") or {}).get("finalizers") or ():
        path = "spec.finalizers"
        faults += formats.faults(path, finalizer, formats.qualified_name(finalizer))
        if "/" not in finalizer and finalizer != "kubernetes":
            detail = "name is neither a standard finalizer name nor is it fully qualified"
            faults.append(invalid(path, finalizer, detail))
    return faults


def validate_namespace_update(namespace: Object, old: Object) -> Faults:
    return []


def validate_node(node: Object) -> Faults:
    spec = node.get("spec") or {}
    faults = validate_taints(spec.get("taints") or [], "metadata.taints") + _amounts(node)
    cidrs: list[str] = spec.get("podCIDRs") or []
    for index, cidr in enumerate(cidrs):
        faults += formats.faults(item("spec.podCIDRs", index), cidr, formats.cidr(cidr))
    families = [":" in cidr for cidr in cidrs]
    if len(cidrs) > 2 or (len(cidrs) == 2 and families[0] == families[1]):
        detail = "may specify no more than one CIDR for each IP family"
        faults.append(invalid("spec.podCIDRs", go_strings(cidrs), detail))
    return faults


def validate_node_update(node: Object, old: Object) -> Faults:
    spec, before = node.get("spec") or {}, old.get("spec") or {}
    faults = _amounts(node) + _addresses(node)
    if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
        detail = 'node updates may not change podCIDR except from "" to valid'
        faults.append(forbidden("spec.podCIDRs", detail))
    if before.get("providerID") and spec.get("providerID") != before["providerID"]:
        detail = 'node updates may not change providerID except from "" to valid'
        faults.append(forbidden("spec.providerID", detail))
    return faults + validate_taints(spec.get("taints") or [], "metadata.taints")


def _amounts(node: Object) -> Faults:
    faults: Faults = []
    for field in ("capacity", "allocatable"):
        for name, amount in ((node.get("status") or {}).get(field) or {}).items():
            faults += validate_amount(f"status.{field}.{name}", name, amount)
    return faults


def _addresses(node: Object) -> Faults:
    faults: Faults = []
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate((node.get("status") or {}).get("addresses") or ()):
        key = (entry.get("type") or "", entry.get("address") or "")
        if key in seen:
            shown = f"core.NodeAddress{{Type:{quoted(key[0])}, Address:{quoted(key[1])}}}"
            faults.append(duplicate(item("status.addresses", index), Shown(shown)))
        seen.add(key)
    return faults


def validate_lease(lease: Object) -> Faults:
    spec = lease.get("spec") or {}
    faults: Faults = []
    seconds, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if seconds is not None and seconds <= 0:
        faults.append(invalid("spec.leaseDurationSeconds", seconds, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        detail = "must be greater than or equal to 0"
        faults.append(invalid("spec.leaseTransitions", transitions, detail))
    strategy = spec.get("strategy")
    if strategy is not None:
        path = "spec.strategy.strategy"
        if "/" in strategy:
            faults += label_key(path, strategy)
        elif strategy != "OldestEmulationVersion":
            faults.append(not_supported(path, strategy, ("OldestEmulationVersion",)))
    if spec.get("preferredHolder") and not strategy:
        detail = "may only be specified if `strategy` is defined"
        faults.append(forbidden("spec.preferredHolder", detail))
    return faults


def validate_event(event: Object) -> Faults:
    """`v1`: an event about an object lies in that object's namespace. Nothing else of its
    metadata is checked."""
    space = (event.get("metadata") or {}).get("namespace") or ""
    faults = list(formats.faults("namespace", space, formats.dns_subdomain(space)))
    if event.get("eventTime"):
        return _new_event(event, "involvedObject", "reportingComponent", "message") + faults
    about = (event.get("involvedObject") or {}).get("namespace") or ""
    if about == space or (not about and space == "default"):
        return faults
    return [invalid("involvedObject.namespace", about, "does not match event.namespace"), *faults]


def validate_events_event(event: Object) -> Faults:
    """`events.k8s.io/v1`: stricter."""
    faults: Faults = []
    if event.get("eventTime"):
        faults += _new_event(event, "regarding", "reportingController", "note")
    else:
        faults.append(required("eventTime"))
    faults += _series(event)
    kind = event.get("type") or ""
    if kind not in ("Normal", "Warning"):
        faults.append(invalid("type", "", f"has invalid value: {kind}"))
    for field, shown in (
        ("deprecatedFirstTimestamp", "firstTimestamp"),
        ("deprecatedLastTimestamp", "lastTimestamp"),
        ("deprecatedCount", "count"),
        ("deprecatedSource", "source"),
    ):
        if event.get(field):
            faults.append(invalid(shown, "", "needs to be unset"))
    return faults


def validate_events_event_update(event: Object, old: Object) -> Faults:
    """Only the series of an event may grow."""
    names = {"regarding": "involvedObject", "note": "message"}
    faults = _series(event) if event.get("series") != old.get("series") else []
    return faults + [
        invalid(names.get(field, field), event.get(field), IMMUTABLE)
        for field in _KEPT_BY_EVENTS
        if (event.get(field) or None) != (old.get(field) or None)
    ]


def _new_event(event: Object, about: str, controller: str, message: str) -> Faults:
    space = (event.get("metadata") or {}).get("namespace") or ""
    faults: Faults = []
    if not (event.get(about) or {}).get("namespace") and space not in ("default", "kube-system"):
        detail = "does not match event.namespace"
        faults.append(invalid("involvedObject.namespace", "", detail))
    name = event.get(controller) or ""
    if not name:
        faults.append(required(controller))
    faults += label_key(controller, name)
    for field in ("reportingInstance", "action", "reason"):
        value = event.get(field) or ""
        if not value:
            faults.append(required(field))
        if len(value.encode()) > 128:
            faults.append(invalid(field, "", "can have at most 128 characters"))
    if len((event.get(message) or "").encode()) > 1024:
        faults.append(invalid("message", "", "can have at most 1024 characters"))
    return faults


def _series(event: Object) -> Faults:
    series = event.get("series")
    if series is None:
        return []
    faults: Faults = []
    if (series.get("count") or 0) < 2:
        faults.append(invalid("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        faults.append(required("series.lastObservedTime"))
    return faults


def validate_binding(binding: Object) -> Faults:
    """`v1` Binding: the sub-resource by which a scheduler places a pod."""
    target = binding.get("target") or {}
    faults: Faults = []
    if target.get("kind") not in (None, "", "Node"):
        faults.append(not_supported(child("target", "kind"), target["kind"], ("Node", "<empty>")))
    if not target.get("name"):
        faults.append(required(child("target", "name")))
    return faults
