"""Claims that ask for more than they have get it, where their volume can grow.

A directory of the built-in provisioner has no limit of its own, so growing is a matter of saying
so.
Source: Kubernetes documentation, "Persistent Volumes", "Expanding Persistent Volumes Claims".
"""

from __future__ import annotations

from meshkube.api import kinds, meta, quantities
from meshkube.api.types import Object
from meshkube.control import volumes
from meshkube.control.loop import Context, Controller


def wants_more(claim: Object) -> bool:
    """True for a bound claim that asks for more than its status says it has."""
    has = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    bound = volumes.phase(claim) == "Bound" and bool(has)
    return bound and quantities.compare(volumes.size(claim), has or "0") > 0


async def reconcile(context: Context, key: str) -> float | None:
    claim = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(key)
    if claim is None or meta.deleting(claim) or not wants_more(claim):
        return None
    name = str(volumes.spec(claim).get("volumeName") or "")
    volume = context.caches.of(kinds.PERSISTENT_VOLUME).get(name)
    if volume is None or not volumes.is_for(volume, claim):
        return None
    if not volumes.provisioned_here(volume):
        message = "waiting for an external controller to expand this PVC"
        context.events.event(claim, "Warning", "ExternalExpanding", message)
        return None
    await _grow(context, claim, volume)
    return None


async def _grow(context: Context, claim: Object, volume: Object) -> None:
    asked = volumes.size(claim)
    if quantities.compare(volumes.size(volume), asked) < 0:
        new = meta.copy(volume)
        new["spec"]["capacity"]["storage"] = asked
        volume = await context.client.update(kinds.PERSISTENT_VOLUME, new)
    status = {**(claim.get("status") or {}), "capacity": {"storage": volumes.size(volume)}}
    await context.client.update(
        kinds.PERSISTENT_VOLUME_CLAIM, {**claim, "status": status}, subresource="status"
    )
    context.events.event(claim, "Normal", "VolumeResizeSuccessful", "Resize volume succeeded")


CONTROLLER = Controller(
    name="persistentvolume-expander",
    kind=kinds.PERSISTENT_VOLUME_CLAIM,
    reads=(kinds.PERSISTENT_VOLUME,),
    component="volume_expand",
    reconcile=reconcile,
)
