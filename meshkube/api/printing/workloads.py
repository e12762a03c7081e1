"""What makes pods: how many are wanted, how many there are."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.printing.ages import age
from meshkube.api.printing.columns import AGE, NAME, NONE, Column, Printer, wide
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object

_TEMPLATE = (
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
    *_TEMPLATE,
)


def _deployment(deployment: Object, now: datetime) -> list[Any]:
    status = deployment.get("status") or {}
    return [
        meta.name(deployment),
        f"{status.get('readyReplicas') or 0}/{_wanted(deployment)}",
        status.get("updatedReplicas") or 0,
        status.get("availableReplicas") or 0,
        age(deployment, now),
        *_template(deployment),
    ]


def _wanted(obj: Object) -> int:
    return int((obj.get("spec") or {}).get("replicas") or 0)


def _template(obj: Object) -> tuple[str, str, str]:
    spec = obj.get("spec") or {}
    pod = (spec.get("template") or {}).get("spec") or {}
    containers = pod.get("containers") or ()
    return (
        ",".join(str(container.get("name")) for container in containers),
        ",".join(str(container.get("image")) for container in containers),
        _selector(spec.get("selector")),
    )


def _selector(selector: Object | None) -> str:
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
    *_TEMPLATE,
)


def _replica_set(replica_set: Object, now: datetime) -> list[Any]:
    status = replica_set.get("status") or {}
    return [
        meta.name(replica_set),
        _wanted(replica_set),
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(replica_set, now),
        *_template(replica_set),
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
    kinds.CONTROLLER_REVISION: Printer(_CONTROLLER_REVISION, _controller_revision),
}
