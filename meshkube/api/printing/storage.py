"""Volumes, claims on them, and what provides them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from meshkube.api import kinds, meta, quantities
from meshkube.api.printing.ages import age
from meshkube.api.printing.columns import AGE, NAME, NONE, UNSET, Column, Printer, wide
from meshkube.api.types import Object

DEFAULT_CLASSES = (
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
)
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"
_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_MODE = wide("VolumeMode", "Filesystem or Block.")
_ATTRIBUTES = Column("VolumeAttributesClass", "The class of attributes the volume has.")

_VOLUME = (
    NAME,
    Column("Capacity", "How much the volume holds."),
    Column("Access Modes", "Ways in which the volume can be mounted."),
    Column("Reclaim Policy", "What becomes of the volume when its claim is deleted."),
    Column("Status", "Available, Bound, Released or Failed."),
    Column("Claim", "The claim that the volume is bound to."),
    Column("StorageClass", "The class the volume belongs to."),
    _ATTRIBUTES,
    Column("Reason", "Why the volume is in its state."),
    AGE,
    _MODE,
)


def _volume(volume: Object, now: datetime) -> list[Any]:
    spec, status = volume.get("spec") or {}, volume.get("status") or {}
    claim = spec.get("claimRef")
    return [
        meta.name(volume),
        _storage(spec.get("capacity")),
        _modes(spec),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(volume),
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        _class(volume),
        _or_unset(spec, "volumeAttributesClassName"),
        status.get("reason") or "",
        age(volume, now),
        _or_unset(spec, "volumeMode"),
    ]


_CLAIM = (
    NAME,
    Column("Status", "Pending, Bound or Lost."),
    Column("Volume", "The volume that the claim is bound to."),
    Column("Capacity", "How much the volume holds."),
    Column("Access Modes", "Ways in which the volume can be mounted."),
    Column("StorageClass", "The class the volume is to be of."),
    _ATTRIBUTES,
    AGE,
    _MODE,
)


def _claim(claim: Object, now: datetime) -> list[Any]:
    spec, status = claim.get("spec") or {}, claim.get("status") or {}
    bound = spec.get("volumeName") or ""
    return [
        meta.name(claim),
        _phase(claim),
        bound,
        _storage(status.get("capacity")) if bound else "",
        _modes(status) if bound else "",
        _class(claim),
        _or_unset(spec, "volumeAttributesClassName"),
        age(claim, now),
        _or_unset(spec, "volumeMode"),
    ]


def _storage(amounts: Object | None) -> str:
    return str(quantities.canonical((amounts or {}).get("storage") or "0"))


def _modes(holder: Object) -> str:
    given = holder.get("accessModes") or ()
    return ",".join(short for mode, short in _MODES.items() if mode in given)


def _phase(obj: Object) -> str:
    return "Terminating" if meta.deleting(obj) else (obj.get("status") or {}).get("phase") or ""


def _class(obj: Object) -> str:
    named = meta.annotations(obj).get(_CLASS_ANNOTATION)
    return named or (obj.get("spec") or {}).get("storageClassName") or ""


def _or_unset(spec: Object, field: str) -> str:
    value = spec.get(field)
    return UNSET if value is None else str(value)


_STORAGE_CLASS = (
    NAME,
    Column("Provisioner", "Who makes volumes of this class."),
    Column("ReclaimPolicy", "What becomes of a volume when its claim is deleted."),
    Column("VolumeBindingMode", "When a volume is made and bound: at once, or for the first pod."),
    Column("AllowVolumeExpansion", "Whether volumes of this class can grow."),
    AGE,
)


def _storage_class(class_: Object, now: datetime) -> list[Any]:
    default = any(meta.annotations(class_).get(name) == "true" for name in DEFAULT_CLASSES)
    return [
        f"{meta.name(class_)} (default)" if default else meta.name(class_),
        class_.get("provisioner") or "",
        class_.get("reclaimPolicy") or "Delete",
        class_.get("volumeBindingMode") or "Immediate",
        bool(class_.get("allowVolumeExpansion")),
        age(class_, now),
    ]


_ATTACHMENT = (
    NAME,
    Column("Attacher", "The driver that attaches the volume.", format="name"),
    Column("PV", "The volume."),
    Column("Node", "The node that it is attached to."),
    Column("Attached", "Whether it is attached.", type="boolean"),
    AGE,
)


def _attachment(attachment: Object, now: datetime) -> list[Any]:
    spec = attachment.get("spec") or {}
    return [
        meta.name(attachment),
        spec.get("attacher") or "",
        (spec.get("source") or {}).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool((attachment.get("status") or {}).get("attached")),
        age(attachment, now),
    ]


_DRIVER = (
    NAME,
    Column("AttachRequired", "Whether volumes are attached before they are mounted.", "boolean"),
    Column("PodInfoOnMount", "Whether the driver is told about the pod.", "boolean"),
    Column("StorageCapacity", "Whether the scheduler looks at what is left.", "boolean"),
    Column("TokenRequests", "Audiences of the tokens that the driver gets."),
    Column("RequiresRepublish", "Whether mounted volumes are published again.", "boolean"),
    Column("Modes", "Persistent, Ephemeral, or both."),
    AGE,
)


def _driver(driver: Object, now: datetime) -> list[Any]:
    spec = driver.get("spec") or {}
    tokens, attach = spec.get("tokenRequests"), spec.get("attachRequired")
    audiences = ",".join(token.get("audience") or "" for token in tokens or ())
    return [
        meta.name(driver),
        attach is None or bool(attach),
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        UNSET if tokens is None else audiences,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(driver, now),
    ]


def _csi_node(node: Object, now: datetime) -> list[Any]:
    drivers = (node.get("spec") or {}).get("drivers") or ()
    return [meta.name(node), len(drivers), age(node, now)]


PRINTERS = {
    kinds.PERSISTENT_VOLUME: Printer(_VOLUME, _volume),
    kinds.PERSISTENT_VOLUME_CLAIM: Printer(_CLAIM, _claim),
    kinds.STORAGE_CLASS: Printer(_STORAGE_CLASS, _storage_class),
    kinds.VOLUME_ATTACHMENT: Printer(_ATTACHMENT, _attachment),
    kinds.CSI_DRIVER: Printer(_DRIVER, _driver),
    kinds.CSI_NODE: Printer(
        (NAME, Column("Drivers", "How many drivers the node has.", "integer"), AGE), _csi_node
    ),
}
