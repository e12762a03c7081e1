"""Nodes: are they ready, what are they for, what do they run."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.printing.ages import age
from meshkube.api.printing.columns import AGE, NAME, NONE, UNKNOWN, Column, Printer, wide
from meshkube.api.types import Object

_ROLE_PREFIX = "node-role.kubernetes.io/"
_ROLE_LABEL = "kubernetes.io/role"

_COLUMNS = (
    NAME,
    Column("Status", "Whether the node is ready, and whether pods may be scheduled on it."),
    Column("Roles", "The roles of the node, from its labels."),
    AGE,
    Column("Version", "The version of the node agent."),
    wide("Internal-IP", "The node's address inside the cluster."),
    wide("External-IP", "The node's address outside the cluster."),
    wide("OS-Image", "The operating system of the node."),
    wide("Kernel-Version", "The kernel of the node."),
    wide("Container-Runtime", "What runs the containers, and its version."),
)


def _cells(node: Object, now: datetime) -> list[Any]:
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    return [
        meta.name(node),
        _status(node),
        ",".join(_roles(node)) or NONE,
        age(node, now),
        info.get("kubeletVersion") or "",
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        info.get("kernelVersion") or UNKNOWN,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _status(node: Object) -> str:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = [held.get("status") == "True" for held in conditions if held.get("type") == "Ready"]
    text = ("Ready" if ready[0] else "NotReady") if ready else "Unknown"
    unschedulable = (node.get("spec") or {}).get("unschedulable")
    return f"{text},SchedulingDisabled" if unschedulable else text


def _roles(node: Object) -> list[str]:
    roles = set()
    for key, value in meta.labels(node).items():
        if key.startswith(_ROLE_PREFIX):
            roles.add(key.removeprefix(_ROLE_PREFIX))
        elif key == _ROLE_LABEL:
            roles.add(value)
    return sorted(roles - {""})


def _address(status: Object, type_: str) -> str:
    for address in status.get("addresses") or ():
        if address.get("type") == type_:
            return str(address.get("address"))
    return NONE


PRINTERS = {kinds.NODE: Printer(_COLUMNS, _cells)}
