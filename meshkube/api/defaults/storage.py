"""Defaults of volumes, claims and what provides them."""

from __future__ import annotations

from typing import Final

from meshkube.api.defaults.pods import whole_milli
from meshkube.api.defaults.rules import Row
from meshkube.api.types import Object

_FILESYSTEM: Final = "Filesystem"


def _modes(spec: Object) -> None:
    if not spec.get("volumeLifecycleModes"):
        spec["volumeLifecycleModes"] = ["Persistent"]


PERSISTENT_VOLUME: Final[list[Row]] = [
    ("spec", {}),
    ("spec.persistentVolumeReclaimPolicy", "Retain"),
    ("spec.volumeMode", _FILESYSTEM),
    ("spec.capacity", whole_milli),
    ("spec.hostPath.type", ""),
    ("spec.iscsi.iscsiInterface", "default"),
    ("spec.rbd.pool", "rbd"),
    ("spec.rbd.user", "admin"),
    ("spec.rbd.keyring", "/etc/ceph/keyring"),
    ("status", {}),
    ("status.phase", "Pending"),
]
CLAIM: Final[list[Row]] = [
    ("spec", {}),
    ("spec.volumeMode", _FILESYSTEM),
    ("spec.resources", {}),
    ("spec.resources.requests", whole_milli),
    ("spec.resources.limits", whole_milli),
    ("status", {}),
    ("status.phase", "Pending"),
]
STORAGE_CLASS: Final[list[Row]] = [
    ("reclaimPolicy", "Delete"),
    ("volumeBindingMode", "Immediate"),
]
CSI_DRIVER: Final[list[Row]] = [
    ("spec", {}),
    ("spec.attachRequired", True),
    ("spec.podInfoOnMount", False),
    ("spec.storageCapacity", False),
    ("spec.fsGroupPolicy", "ReadWriteOnceWithFSType"),
    ("spec", _modes),
    ("spec.requiresRepublish", False),
    ("spec.seLinuxMount", False),
]
