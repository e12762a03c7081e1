"""What stands behind a pod's volume: its own source, or that of the volume it has claimed. Pure.

Source: Kubernetes documentation, "Persistent Volumes", "Claims As Volumes".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.volumes import VolumeError

Lookup = Callable[[str], Object | None]
"""An object by its name."""

# The contract with the control plane's built-in provisioner.
LOCAL_PATH = "meshkube.io/local-path"
NODE_LABEL = "meshkube.io/node"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROTECTION = "kubernetes.io/pv-protection"

# What a PersistentVolume's spec holds beside its source.
_NOT_SOURCES = frozenset({
    "accessModes", "capacity", "claimRef", "mountOptions", "nodeAffinity",
    "persistentVolumeReclaimPolicy", "storageClassName", "volumeAttributesClassName", "volumeMode",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backing:
    """A volume's source: `kind` is its key in the API (`hostPath`), `source` what is there."""

    kind: str
    source: Object
    name: str
    """Of the PersistentVolume; empty for a source in the pod itself."""
    read_only: bool = False
    mount_options: tuple[str, ...] = ()
    made_here: bool = False
    """A directory of the built-in provisioner."""


def claim_name(pod: Object, volume: Object) -> str:
    """The claim that a volume stands for; empty where it is none."""
    if "ephemeral" in volume:
        return f"{meta.name(pod)}-{volume['name']}"
    return str((volume.get("persistentVolumeClaim") or {}).get("claimName") or "")


def claim_names(pod: Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes") or ():
        name = claim_name(pod, volume)
        if name:
            yield name


def volume_of(claim: Object | None) -> str:
    """The volume that a claim is bound to; empty while it is not."""
    return str(((claim or {}).get("spec") or {}).get("volumeName") or "")


def backing(pod: Object, volume: Object, node: str, claims: Lookup, volumes: Lookup) -> Backing:
    """Raises `VolumeError`."""
    name = claim_name(pod, volume)
    if not name:
        kind = next((key for key in volume if key != "name"), "emptyDir")
        return Backing(kind, volume.get(kind) or {}, "", _read_only(volume.get(kind)))
    claim = claims(name)
    if claim is None:
        raise VolumeError(f'error getting PVC "{meta.namespace(pod)}/{name}": could not find PVC')
    if meta.deleting(claim):
        raise VolumeError(f'PVC "{meta.key(claim)}" is being deleted')
    bound = volume_of(claim)
    if not bound or (claim.get("status") or {}).get("phase") != "Bound":
        raise VolumeError(f'PVC "{meta.key(claim)}" is not bound')
    found = volumes(bound)
    reference = ((found or {}).get("spec") or {}).get("claimRef") or {}
    if found is None or reference.get("uid") != meta.uid(claim):
        raise VolumeError(f'PV "{bound}" is not bound to PVC "{meta.key(claim)}"')
    return _of_volume(volume, found, node)


def _of_volume(volume: Object, found: Object, node: str) -> Backing:
    name, spec = meta.name(found), found["spec"]
    if spec.get("volumeMode") == "Block":
        raise VolumeError(f'volume "{name}" is a block device: only file systems can be mounted')
    made_here = meta.annotations(found).get(PROVISIONED_BY) == LOCAL_PATH
    if made_here and meta.labels(found).get(NODE_LABEL) != node:
        raise VolumeError(
            f'MountVolume.NodeAffinity check failed for volume "{name}" : no matching'
            " NodeSelectorTerms"
        )
    kind = next((key for key in spec if key not in _NOT_SOURCES), "")
    inner = volume.get("persistentVolumeClaim") or {}
    only = set(spec.get("accessModes") or ()) == {"ReadOnlyMany"}
    return Backing(
        kind,
        spec.get(kind) or {},
        name,
        only or _read_only(inner) or _read_only(spec.get(kind)),
        tuple(spec.get("mountOptions") or ()),
        made_here,
    )


def _read_only(source: Object | None) -> bool:
    return bool((source or {}).get("readOnly"))
