"""The built-in provisioner `meshkube.io/local-path`: a volume is a directory of one node.

It makes the PersistentVolume; the node makes the directory when the first pod mounts it, and erases
it when the volume is deleted: until then the volume carries the node's finalizer. A node says with
an annotation where its volumes lie.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, pods, volumes
from meshkube.control.loop import Context, Controller

HOSTNAME = "kubernetes.io/hostname"


def refusal(claim: Object) -> str:
    """Why no volume can be made for such a claim; empty where one can."""
    spec = volumes.spec(claim)
    if spec.get("selector"):
        return "claim.Spec.Selector is not supported"
    if volumes.mode(claim) != "Filesystem":
        return f"{volumes.LOCAL_PATH} makes no volumes of mode {volumes.mode(claim)}"
    if spec.get("dataSourceRef") or spec.get("dataSource"):
        return f"{volumes.LOCAL_PATH} makes no volumes out of a data source"
    return ""


def choose(class_: Object, nodes: Sequence[Object], made: Iterable[Object]) -> Object | None:
    """The node for a claim that does not wait for a pod: ready, where the class may make volumes,
    and with the fewest of them."""
    counts: dict[str, int] = {}
    for volume in made:
        name = meta.labels(volume).get(volumes.NODE_LABEL, "")
        counts[name] = counts.get(name, 0) + 1
    fit = [node for node in nodes if pods.ready(node) and _directory(node)]
    fit = [node for node in fit if not volumes.spec(node).get("unschedulable")]
    places = class_.get("allowedTopologies") or ()
    fit = [node for node in fit if volumes.in_topology(meta.labels(node), places)]
    return min(fit, key=lambda n: (counts.get(meta.name(n), 0), meta.name(n)), default=None)


def _directory(node: Object) -> str:
    return meta.annotations(node).get(volumes.DIRECTORY, "")


def new_volume(claim: Object, class_: Object, node: Object) -> Object:
    """The volume for the claim, on that node, already reserved for it."""
    name = f"pvc-{meta.uid(claim)}"
    host = meta.labels(node).get(HOSTNAME) or meta.name(node)
    folder = f"{name}_{meta.namespace(claim)}_{meta.name(claim)}"
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "labels": {volumes.NODE_LABEL: meta.name(node)},
            "annotations": {volumes.PROVISIONED_BY: volumes.LOCAL_PATH},
            "finalizers": [volumes.VOLUME_PROTECTION, volumes.LOCAL_PATH],
        },
        "spec": {
            "accessModes": list(volumes.spec(claim).get("accessModes") or ()),
            "capacity": {"storage": volumes.size(claim)},
            "claimRef": volumes.reference(claim),
            "local": {"path": f"{_directory(node)}/{folder}"},
            "mountOptions": list(class_.get("mountOptions") or ()),
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{
                "matchExpressions": [{"key": HOSTNAME, "operator": "In", "values": [host]}]
            }]}},
            "persistentVolumeReclaimPolicy": class_.get("reclaimPolicy") or "Delete",
            "storageClassName": meta.name(class_),
            "volumeMode": "Filesystem",
        },
    }  # fmt: skip


async def reconcile(context: Context, key: str) -> float | None:
    claim = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(key)
    if claim is None or not _wants(claim):
        return None
    if context.caches.of(kinds.PERSISTENT_VOLUME).get(f"pvc-{meta.uid(claim)}") is not None:
        return None
    class_ = context.caches.of(kinds.STORAGE_CLASS).get(volumes.class_of(claim))
    if class_ is None or class_.get("provisioner") != volumes.LOCAL_PATH:
        return None
    why = refusal(claim)
    node = None if why else _node(context, claim, class_)
    if why or (node is not None and not _directory(node)):
        why = why or f"node {meta.name(node or {})} offers no directory for volumes"
        _failed(context, claim, class_, why)
        await _give_back(context, claim)
    elif node is None:
        if volumes.SELECTED_NODE in meta.annotations(claim):
            await _give_back(context, claim)
        else:
            _failed(context, claim, class_, "no node is ready to hold the volume")
    else:
        await _make(context, claim, class_, node)
    return None


def _wants(claim: Object) -> bool:
    """True while the binder waits for a volume of ours. Of a class that waits for a pod the binder
    says so only once the scheduler has chosen a node."""
    asked = meta.annotations(claim).get(volumes.PROVISIONER) == volumes.LOCAL_PATH
    return asked and not volumes.spec(claim).get("volumeName") and not meta.deleting(claim)


def _node(context: Context, claim: Object, class_: Object) -> Object | None:
    chosen = meta.annotations(claim).get(volumes.SELECTED_NODE)
    nodes = context.caches.of(kinds.NODE)
    if chosen:
        return nodes.get(chosen)
    made = context.caches.of(kinds.PERSISTENT_VOLUME).list()
    return choose(class_, nodes.list(), [each for each in made if volumes.provisioned_here(each)])


async def _make(context: Context, claim: Object, class_: Object, node: Object) -> None:
    message = f'External provisioner is provisioning volume for claim "{meta.key(claim)}"'
    context.events.event(claim, "Normal", "Provisioning", message)
    volume = new_volume(claim, class_, node)
    try:
        await context.client.create(kinds.PERSISTENT_VOLUME, volume)
    except ApiError as error:
        if error.reason == "AlreadyExists":
            return
        raise
    message = f"Successfully provisioned volume {meta.name(volume)}"
    context.events.event(claim, "Normal", "ProvisioningSucceeded", message)


def _failed(context: Context, claim: Object, class_: Object, why: str) -> None:
    message = f'failed to provision volume with StorageClass "{meta.name(class_)}": {why}'
    context.events.event(claim, "Warning", "ProvisioningFailed", message)


async def _give_back(context: Context, claim: Object) -> None:
    """Lets the scheduler choose another node."""
    if volumes.SELECTED_NODE in meta.annotations(claim):
        new = meta.copy(claim)
        del new["metadata"]["annotations"][volumes.SELECTED_NODE]
        await context.client.update(kinds.PERSISTENT_VOLUME_CLAIM, new)


def _waiting(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """A node came, or became ready: claims that found none look again."""
    if new is None or (old is not None and pods.ready(old) and _directory(old)):
        return
    for claim in caches.of(kinds.PERSISTENT_VOLUME_CLAIM).by_index(indexes.UNBOUND, "*"):
        if _wants(claim):
            yield meta.key(claim)


CONTROLLER = Controller(
    name="local-path",
    kind=kinds.PERSISTENT_VOLUME_CLAIM,
    watches={kinds.NODE: _waiting},
    reads=(kinds.PERSISTENT_VOLUME, kinds.STORAGE_CLASS),
    component=volumes.LOCAL_PATH,
    reconcile=reconcile,
)
