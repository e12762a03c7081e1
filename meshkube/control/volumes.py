"""Claims and volumes: what they say of each other, and which volume suits a claim. Pure.

Sources: Kubernetes documentation, "Persistent Volumes" (binding, reclaiming, reserving) and
"Storage Classes" (volume binding mode). Shared by the binder and the scheduler.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from meshkube.api import meta, quantities
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
PROVISIONER = "volume.kubernetes.io/storage-provisioner"
OLD_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
LOCAL_PATH = "meshkube.io/local-path"
"""The built-in provisioner; also its finalizer on the volumes that it made."""
NODE_LABEL = "meshkube.io/node"
"""On a volume of the built-in provisioner: the node whose directory it is."""
DIRECTORY = "meshkube.io/local-path"
"""On a Node: the directory in which its volumes lie."""
CLAIM_PROTECTION = "kubernetes.io/pvc-protection"
VOLUME_PROTECTION = "kubernetes.io/pv-protection"


class ClaimUse(NamedTuple):
    """A volume of a pod that stands for a claim."""

    volume: str
    claim: str
    ephemeral: bool
    """The claim is made for the pod and goes with it."""


def claims_of(pod: Mapping[str, Any]) -> Iterator[ClaimUse]:
    """The claims that a pod's volumes name, in its own namespace."""
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            name = volume["persistentVolumeClaim"].get("claimName", "")
            yield ClaimUse(volume["name"], name, ephemeral=False)
        elif "ephemeral" in volume:
            name = f"{meta.name(pod)}-{volume['name']}"
            yield ClaimUse(volume["name"], name, ephemeral=True)


def spec(obj: Mapping[str, Any]) -> Object:
    return obj.get("spec") or {}


def phase(obj: Mapping[str, Any]) -> str:
    return str((obj.get("status") or {}).get("phase") or "Pending")


def class_of(obj: Mapping[str, Any]) -> str:
    """The name of the StorageClass of a claim or a volume; empty for none."""
    return str(meta.annotations(obj).get(OLD_CLASS) or spec(obj).get("storageClassName") or "")


def is_bound(claim: Mapping[str, Any]) -> bool:
    """True once both sides name each other."""
    return bool(spec(claim).get("volumeName")) and BIND_COMPLETED in meta.annotations(claim)


def waits_for_consumer(class_: Mapping[str, Any] | None) -> bool:
    """True where claims of the class wait until a pod that uses them is placed."""
    return (class_ or {}).get("volumeBindingMode") == "WaitForFirstConsumer"


def is_for(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> bool:
    """True where the volume is reserved for (or bound to) this claim."""
    reference = spec(volume).get("claimRef") or {}
    same = (reference.get("namespace"), reference.get("name")) == (
        meta.namespace(claim),
        meta.name(claim),
    )
    return same and (reference.get("uid") or meta.uid(claim)) == meta.uid(claim)


def claim_key(volume: Mapping[str, Any]) -> str:
    """`namespace/name` of the claim that a volume names; empty where none."""
    reference = spec(volume).get("claimRef") or {}
    return f"{reference.get('namespace')}/{reference.get('name')}" if reference else ""


def size(obj: Mapping[str, Any]) -> str:
    """What a claim asks for, or what a volume holds."""
    asked = (spec(obj).get("resources") or {}).get("requests") or spec(obj).get("capacity") or {}
    return str(asked.get("storage") or "0")


def mode(obj: Mapping[str, Any]) -> str:
    return str(spec(obj).get("volumeMode") or "Filesystem")


def mismatch(volume: Mapping[str, Any], claim: Mapping[str, Any]) -> str:
    """Why this volume cannot serve the claim; empty where it can. Selectors do not count: a person
    who names a volume wants that one. Nor does the class of a volume that names a claim."""
    if quantities.compare(size(volume), size(claim)) < 0:
        return "requested PV is too small"
    if not spec(volume).get("claimRef") and class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if mode(volume) != mode(claim):
        return "incompatible volumeMode"
    if not set(spec(claim).get("accessModes") or ()) <= set(spec(volume).get("accessModes") or ()):
        return "incompatible accessMode"
    return ""


def best(claim: Object, volumes: Iterable[Object], *, reserved_only: bool = False) -> Object | None:
    """The volume for a claim: one reserved for it, or else the smallest that suits it."""
    selector = spec(claim).get("selector")
    matches = from_label_selector(selector).matches if selector else None
    found: Object | None = None
    for volume in volumes:
        if spec(volume).get("claimRef"):
            fits = not meta.deleting(volume) and not mismatch(volume, claim)
            if fits and is_for(volume, claim):
                return volume
            continue
        if reserved_only or meta.deleting(volume) or phase(volume) not in ("Available", "Pending"):
            continue
        if matches is not None and not matches(meta.labels(volume)):
            continue
        if mismatch(volume, claim):
            continue
        if found is None or _order(volume) < _order(found):
            found = volume
    return found


def _order(volume: Object) -> tuple[int, str]:
    return quantities.value(size(volume)), meta.name(volume)


def reference(claim: Object) -> Object:
    """The `claimRef` by which a volume names its claim."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": meta.namespace(claim),
        "name": meta.name(claim),
        "uid": meta.uid(claim),
        "resourceVersion": meta.resource_version(claim),
    }


def reserved(volume: Object, claim: Object) -> Object:
    """A copy of the volume that names the claim."""
    new = meta.copy(volume)
    if not (spec(volume).get("claimRef") or {}):
        new["metadata"].setdefault("annotations", {})[BOUND_BY_CONTROLLER] = "yes"
    new["spec"]["claimRef"] = reference(claim)
    return new


def provisioned_here(volume: Mapping[str, Any]) -> bool:
    """True for a volume of the built-in provisioner."""
    return meta.annotations(volume).get(PROVISIONED_BY) == LOCAL_PATH


def in_topology(labels: Mapping[str, str], topologies: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a node with these labels is where a class makes volumes (`allowedTopologies`)."""
    return not topologies or any(
        all(
            labels.get(one["key"]) in one["values"]
            for one in term.get("matchLabelExpressions") or ()
        )
        for term in topologies
    )


def node_terms(volume: Mapping[str, Any]) -> tuple[Object, ...] | None:
    """The terms of which a node must match one to reach the volume; None: any node does."""
    required = (spec(volume).get("nodeAffinity") or {}).get("required")
    return None if required is None else tuple(required.get("nodeSelectorTerms") or ())
