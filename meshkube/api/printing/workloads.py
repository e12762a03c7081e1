"""What makes pods: how many are wanted, how many there are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.printing.ages import age
from meshkube.api.printing.columns import AGE, NAME, NONE, Column, Printer, pairs, wide
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object

TEMPLATE = (
    wide("Containers", "Names of the containers in the template."),
    wide("Images", "Images of the containers in the template."),
    wide("Selector", "Labels of the pods that it controls."),
)

_DEPLOYMENT = (
    NAME,
    Column("Ready", "Pods that are ready, of those wanted."),
    Column("Up-to-date", "Pods of the current template."),
    Column("Available", "Pods that have been ready for long enough."),
    AGE,
    *TEMPLATE,
)


def _deployment(deployment: Object, now: datetime) -> list[Any]:
    status = deployment.get("status") or {}
    return [
        meta.name(deployment),
        f"{status.get('readyReplicas') or 0}/{_wanted(deployment)}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(deployment, now),
        *template_cells(_spec(deployment)),
    ]


def _spec(obj: Object) -> Object:
    return obj.get("spec") or {}


def _wanted(obj: Object) -> int:
    return int(_spec(obj).get("replicas") or 0)


def template_cells(spec: Object) -> tuple[str, str, str]:
    """The cells of `TEMPLATE` for an object with this spec."""
    return (*_containers(spec), selector_cell(spec.get("selector")))


def _containers(spec: Object) -> tuple[str, str]:
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = pod.get("containers") or ()
    return (
        ",".join(str(container.get("name")) for container in containers),
        ",".join(str(container.get("image")) for container in containers),
    )


def selector_cell(selector: Object | None) -> str:
    try:
        return str(from_label_selector(selector or {})) or NONE
    except ApiError:
        return "<error>"


_REPLICA_SET = (
    NAME,
    Column("Desired", "Pods wanted.", type="integer"),
    Column("Current", "Pods that there are.", type="integer"),
    Column("Ready", "Pods that are ready.", type="integer"),
    AGE,
    *TEMPLATE,
)


def _replica_set(replica_set: Object, now: datetime) -> list[Any]:
    status = replica_set.get("status") or {}
    return [
        meta.name(replica_set),
        _wanted(replica_set),
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(replica_set, now),
        *template_cells(_spec(replica_set)),
    ]


def _replication_controller(controller: Object, now: datetime) -> list[Any]:
    spec = _spec(controller)
    *counted, _ = _replica_set({**controller, "spec": {**spec, "selector": None}}, now)
    return [*counted, pairs(spec.get("selector"))]


_DAEMON_SET = (
    NAME,
    Column("Desired", "Nodes that should run its pod.", type="integer"),
    Column("Current", "Nodes that should, and have at least one.", type="integer"),
    Column("Ready", "Nodes that should, and have one that is ready.", type="integer"),
    Column("Up-to-date", "Nodes whose pod is of the current template.", type="integer"),
    Column("Available", "Nodes whose pod has been ready for long enough.", type="integer"),
    Column("Node Selector", "Labels of the nodes that should run its pod."),
    AGE,
    *TEMPLATE,
)


def _daemon_set(daemon_set: Object, now: datetime) -> list[Any]:
    spec, status = _spec(daemon_set), daemon_set.get("status") or {}
    pod = (spec.get("template") or {}).get("spec") or {}
    counts = (
        "desiredNumberScheduled",
        "currentNumberScheduled",
        "numberReady",
        "updatedNumberScheduled",
        "numberAvailable",
    )
    return [
        meta.name(daemon_set),
        *(status.get(field) or 0 for field in counts),
        pairs(pod.get("nodeSelector")),
        age(daemon_set, now),
        *template_cells(spec),
    ]


_STATEFUL_SET = (NAME, Column("Ready", "Pods that are ready, of those wanted."), AGE, *TEMPLATE[:2])


def _stateful_set(stateful_set: Object, now: datetime) -> list[Any]:
    status = stateful_set.get("status") or {}
    return [
        meta.name(stateful_set),
        f"{status.get('readyReplicas') or 0}/{_wanted(stateful_set)}",
        age(stateful_set, now),
        *_containers(_spec(stateful_set)),
    ]


_CONTROLLER_REVISION = (
    NAME,
    Column("Controller", "The object whose state this is."),
    Column("Revision", "The number of the revision."),
    AGE,
)


def _controller_revision(revision: Object, now: datetime) -> list[Any]:
    return [
        meta.name(revision),
        _owner(revision),
        revision.get("revision") or 0,
        age(revision, now),
    ]


def _owner(obj: Object) -> str:
    """`statefulset.apps/web`: the controller of an object, or `<none>`."""
    owner = meta.controller_of(obj)
    if owner is None:
        return NONE
    group, slash, _ = str(owner.get("apiVersion")).rpartition("/")
    kind = str(owner.get("kind")).lower()
    return f"{kind}.{group}/{owner.get('name')}" if slash else f"{kind}/{owner.get('name')}"


PRINTERS = {
    kinds.DEPLOYMENT: Printer(_DEPLOYMENT, _deployment),
    kinds.REPLICA_SET: Printer(_REPLICA_SET, _replica_set),
    kinds.REPLICATION_CONTROLLER: Printer(_REPLICA_SET, _replication_controller),
    kinds.DAEMON_SET: Printer(_DAEMON_SET, _daemon_set),
    kinds.STATEFUL_SET: Printer(_STATEFUL_SET, _stateful_set),
    kinds.CONTROLLER_REVISION: Printer(_CONTROLLER_REVISION, _controller_revision),
}
