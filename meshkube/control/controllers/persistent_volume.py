"""What becomes of a volume: available, bound, and after its claim kept, failed or deleted.

Source: Kubernetes documentation, "Persistent Volumes", "Reclaiming" and "Phase".
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, volumes
from meshkube.control.controllers.volume_binder import COMPONENT, set_volume_phase
from meshkube.control.controllers.volume_protection import without
from meshkube.control.loop import Context, Controller

_NO_DELETER = (
    'error getting deleter volume plugin for volume "{name}": no deletable volume plugin matched'
)
_NO_RECYCLER = "No recycler plugin found for the volume!"


async def reconcile(context: Context, key: str) -> float | None:
    volume = context.caches.of(kinds.PERSISTENT_VOLUME).get(key)
    if volume is None:
        return None
    if meta.deleting(volume) and await _ends(context, volume):
        return None
    reference = volumes.spec(volume).get("claimRef")
    if not reference or not reference.get("uid"):
        await set_volume_phase(context, volume, "Available")
        return None
    claim = await _claim(context, volume)
    if claim is None:
        await _release(context, volume)
    elif volumes.spec(claim).get("volumeName") == meta.name(volume):
        await set_volume_phase(context, volume, "Bound")
    elif volumes.spec(claim).get("volumeName"):
        await _unwanted(context, volume)
    # Else the claim's own reconcile is about to bind it.
    return None


async def _ends(context: Context, volume: Object) -> bool:
    """A directory that is to be kept, or whose node is gone for good, holds its volume no longer.
    True where the volume was let go of."""
    if not volumes.provisioned_here(volume):
        return False
    kept = volumes.spec(volume).get("persistentVolumeReclaimPolicy") == "Retain"
    host = meta.labels(volume).get(volumes.NODE_LABEL, "")
    gone = context.caches.of(kinds.NODE).get(host) is None
    new = without(volume, volumes.LOCAL_PATH) if kept or gone else None
    if new is None:
        return False
    await context.client.update(kinds.PERSISTENT_VOLUME, new)
    return True


async def _claim(context: Context, volume: Object) -> Object | None:
    """The claim that the volume names, by the API's own word where the cache has it not."""
    key = volumes.claim_key(volume)
    found = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(key)
    if found is None or not volumes.is_for(volume, found):
        namespace, name = meta.split_key(key)
        try:
            found = await context.client.get(kinds.PERSISTENT_VOLUME_CLAIM, name, namespace)
        except ApiError as error:
            if error.code != 404:
                raise
            return None
    return found if volumes.is_for(volume, found) else None


async def _unwanted(context: Context, volume: Object) -> None:
    """Its claim has got another volume."""
    deletes = volumes.spec(volume).get("persistentVolumeReclaimPolicy") == "Delete"
    marks = meta.annotations(volume)
    if volumes.PROVISIONED_BY in marks and deletes:
        await _release(context, volume)
        return
    new = meta.copy(volume)
    if volumes.BOUND_BY_CONTROLLER in marks:
        # Nobody asked for this one by name.
        del new["metadata"]["annotations"][volumes.BOUND_BY_CONTROLLER]
        del new["spec"]["claimRef"]
    else:
        for field in ("uid", "resourceVersion"):
            new["spec"]["claimRef"].pop(field, None)
    await context.client.update(kinds.PERSISTENT_VOLUME, new)


async def _release(context: Context, volume: Object) -> None:
    """Its claim is gone: the reclaim policy says what follows."""
    if volumes.phase(volume) != "Failed":
        volume = await set_volume_phase(context, volume, "Released")
    policy = volumes.spec(volume).get("persistentVolumeReclaimPolicy") or "Retain"
    if policy == "Retain" or meta.deleting(volume):
        return
    by = meta.annotations(volume).get(volumes.PROVISIONED_BY)
    if policy == "Recycle":
        await _fail(context, volume, "VolumeFailedRecycle", _NO_RECYCLER)
    elif by == volumes.LOCAL_PATH:
        # Its finalizer is the node's, which erases the directory first.
        await context.client.delete(
            kinds.PERSISTENT_VOLUME, meta.name(volume), uid=meta.uid(volume)
        )
    elif not by:
        message = _NO_DELETER.format(name=meta.name(volume))
        await _fail(context, volume, "VolumeFailedDelete", message)


async def _fail(context: Context, volume: Object, reason: str, message: str) -> None:
    if volumes.phase(volume) != "Failed":
        context.events.event(volume, "Warning", reason, message)
    await set_volume_phase(context, volume, "Failed", reason, message)


def _of_claim(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    names = {volumes.spec(claim).get("volumeName") for claim in (old, new) if claim is not None}
    yield from (name for name in names if name)
    claim = new if new is not None else old or {}
    for volume in caches.of(kinds.PERSISTENT_VOLUME).by_index(indexes.CLAIM, meta.key(claim)):
        yield meta.name(volume)


def _of_node(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    if new is not None or old is None:
        return
    for volume in caches.of(kinds.PERSISTENT_VOLUME).list():
        if meta.deleting(volume) and meta.labels(volume).get(volumes.NODE_LABEL) == meta.name(old):
            yield meta.name(volume)


CONTROLLER = Controller(
    name="persistentvolume-binder",
    kind=kinds.PERSISTENT_VOLUME,
    watches={kinds.PERSISTENT_VOLUME_CLAIM: _of_claim, kinds.NODE: _of_node},
    component=COMPONENT,
    reconcile=reconcile,
)
