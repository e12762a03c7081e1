"""Binds claims to volumes, one to one, and says why one waits.

Source: Kubernetes documentation, "Persistent Volumes", "Binding"; reasons and messages of Events
are its own. The volume names the claim first, so two claims never get one volume: the second write
meets a conflict and chooses again.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, volumes
from meshkube.control.loop import Context, Controller

COMPONENT = "persistentvolume-controller"
_LOST = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
_LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
_MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"


async def reconcile(context: Context, key: str) -> float | None:
    claim = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(key)
    if claim is None:
        return None
    if volumes.BIND_COMPLETED in meta.annotations(claim):
        await _keep(context, claim)
    elif not meta.deleting(claim):
        await _find(context, claim)
    return None


async def _find(context: Context, claim: Object) -> None:
    name = volumes.spec(claim).get("volumeName")
    if name:
        await _asked_for(context, claim, name)
        return
    class_ = _class(context, claim)
    waits = volumes.waits_for_consumer(class_)
    waits = waits and volumes.SELECTED_NODE not in meta.annotations(claim)
    found = volumes.best(claim, _candidates(context.caches, claim), reserved_only=waits)
    if found is not None:
        await bind(context, claim, found)
        return
    await set_phase(context, claim, "Pending")
    if waits:
        _say(context, claim, "Normal", *_waiting(context, claim))
    elif volumes.class_of(claim):
        await _provision(context, claim, class_)
    else:
        message = "no persistent volumes available for this claim and no storage class is set"
        _say(context, claim, "Normal", "FailedBinding", message)


def _candidates(caches: Informers, claim: Object) -> Iterable[Object]:
    cache = caches.of(kinds.PERSISTENT_VOLUME)
    yield from cache.by_index(indexes.CLAIM, meta.key(claim))
    yield from cache.by_index(indexes.UNCLAIMED, volumes.class_of(claim))


def _class(context: Context, claim: Object) -> Object | None:
    name = volumes.class_of(claim)
    return context.caches.of(kinds.STORAGE_CLASS).get(name) if name else None


def _waiting(context: Context, claim: Object) -> tuple[str, str]:
    users = context.caches.of(kinds.POD).by_index(indexes.CLAIM, meta.key(claim))
    waiting = sorted(meta.name(pod) for pod in users if not volumes.spec(pod).get("nodeName"))
    if waiting:
        return "WaitForPodScheduled", f"waiting for pod {','.join(waiting)} to be scheduled"
    return "WaitForFirstConsumer", "waiting for first consumer to be created before binding"


async def _asked_for(context: Context, claim: Object, name: str) -> None:
    """The claim's author has named the volume."""
    volume = context.caches.of(kinds.PERSISTENT_VOLUME).get(name)
    await set_phase(context, claim, "Pending")
    if volume is None:
        return
    if volumes.spec(volume).get("claimRef") and not volumes.is_for(volume, claim):
        message = f'volume "{name}" already bound to a different claim.'
        _say(context, claim, "Warning", "FailedBinding", message)
        return
    why = volumes.mismatch(volume, claim)
    if why:
        message = f'Cannot bind to requested volume "{name}": {why}'
        _say(context, claim, "Warning", "VolumeMismatch", message)
        return
    await bind(context, claim, volume)


async def _provision(context: Context, claim: Object, class_: Object | None) -> None:
    """Asks the class's provisioner for a volume, by an annotation."""
    if class_ is None:
        message = f'storageclass.storage.k8s.io "{volumes.class_of(claim)}" not found'
        _say(context, claim, "Warning", "ProvisioningFailed", message)
        return
    by = str(class_.get("provisioner") or "")
    if by.startswith("kubernetes.io/"):
        message = f"no volume plugin matched name: {by}"
        _say(context, claim, "Warning", "ProvisioningFailed", message)
        return
    if meta.annotations(claim).get(volumes.PROVISIONER) != by:
        new = meta.copy(claim)
        marks = new["metadata"].setdefault("annotations", {})
        marks[volumes.PROVISIONER] = marks[volumes.OLD_PROVISIONER] = by
        claim = await context.client.update(kinds.PERSISTENT_VOLUME_CLAIM, new)
    message = (
        "Waiting for a volume to be created either by the external provisioner"
        f" '{by}' or manually by the system administrator. If volume creation is delayed,"
        " please verify that the provisioner is running and correctly registered."
    )
    _say(context, claim, "Normal", "ExternalProvisioning", message)


async def bind(context: Context, claim: Object, volume: Object) -> None:
    """Makes both name each other. Safe to repeat after any step."""
    client = context.client
    if (volumes.spec(volume).get("claimRef") or {}).get("uid") != meta.uid(claim):
        volume = await client.update(kinds.PERSISTENT_VOLUME, volumes.reserved(volume, claim))
    await set_volume_phase(context, volume, "Bound")
    name = meta.name(volume)
    marks = meta.annotations(claim)
    if volumes.spec(claim).get("volumeName") != name or volumes.BIND_COMPLETED not in marks:
        new = meta.copy(claim)
        fresh = new["metadata"].setdefault("annotations", {})
        fresh[volumes.BIND_COMPLETED] = "yes"
        if new["spec"].get("volumeName") != name:
            new["spec"]["volumeName"] = name
            fresh[volumes.BOUND_BY_CONTROLLER] = "yes"
        claim = await client.update(kinds.PERSISTENT_VOLUME_CLAIM, new)
    await set_phase(context, claim, "Bound", volume)


async def _keep(context: Context, claim: Object) -> None:
    """A bound claim: its volume must still be its own."""
    name = volumes.spec(claim).get("volumeName")
    if not name:
        await _lose(context, claim, "ClaimLost", _LOST_REFERENCE)
        return
    volume = context.caches.of(kinds.PERSISTENT_VOLUME).get(name)
    if volume is None:
        await _lose(context, claim, "ClaimLost", _LOST)
    elif volumes.spec(volume).get("claimRef") and not volumes.is_for(volume, claim):
        await _lose(context, claim, "ClaimMisbound", _MISBOUND)
    else:
        await bind(context, claim, volume)


async def _lose(context: Context, claim: Object, reason: str, message: str) -> None:
    if volumes.phase(claim) != "Lost":
        _say(context, claim, "Warning", reason, message)
        await set_phase(context, claim, "Lost")


async def set_phase(
    context: Context, claim: Object, phase: str, volume: Object | None = None
) -> None:
    """Writes a claim's phase, and what it got with `volume`. The size once reached is kept: what a
    volume grew to is said by who made it grow."""
    old = claim.get("status") or {}
    status: Object = {**old, "phase": phase}
    if volume is not None:
        status["accessModes"] = list(volumes.spec(volume).get("accessModes") or ())
        if old.get("phase") != "Bound" or not old.get("capacity"):
            status["capacity"] = {"storage": volumes.size(volume)}
    elif phase != "Lost":
        status.pop("accessModes", None)
        status.pop("capacity", None)
    if status != old:
        new = {**claim, "status": status}
        await context.client.update(kinds.PERSISTENT_VOLUME_CLAIM, new, subresource="status")


async def set_volume_phase(
    context: Context, volume: Object, phase: str, reason: str = "", message: str = ""
) -> Object:
    """Writes a volume's phase and why."""
    old = volume.get("status") or {}
    wanted: Object = {"phase": phase}
    if message:
        wanted |= {"reason": reason, "message": message}
    if {k: old.get(k) for k in ("phase", "reason", "message")} == {
        k: wanted.get(k) for k in ("phase", "reason", "message")
    }:
        return volume
    since = old.get("lastPhaseTransitionTime")
    if old.get("phase") != phase or not since:
        since = meta.timestamp(context.clock.now())
    new = {**volume, "status": {**wanted, "lastPhaseTransitionTime": since}}
    return await context.client.update(kinds.PERSISTENT_VOLUME, new, subresource="status")


def _say(context: Context, claim: Object, type: Any, reason: str, message: str) -> None:
    context.events.event(claim, type, reason, message)


def _of_volume(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """The claims that a volume names or named, and those it may serve."""
    claims = caches.of(kinds.PERSISTENT_VOLUME_CLAIM)
    for volume in (old, new):
        if volume is None:
            continue
        key = volumes.claim_key(volume)
        if key:
            yield key
    if new is not None and not volumes.claim_key(new):
        for value in (volumes.class_of(new), indexes.NAMED + meta.name(new)):
            yield from map(meta.key, claims.by_index(indexes.UNBOUND, value))


def _of_class(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    name = meta.name(new if new is not None else old or {})
    waiting = caches.of(kinds.PERSISTENT_VOLUME_CLAIM).by_index(indexes.UNBOUND, name)
    return [meta.key(claim) for claim in waiting]


CONTROLLER = Controller(
    name="persistentvolumeclaim-binder",
    kind=kinds.PERSISTENT_VOLUME_CLAIM,
    watches={kinds.PERSISTENT_VOLUME: _of_volume, kinds.STORAGE_CLASS: _of_class},
    reads=(kinds.POD,),
    component=COMPONENT,
    reconcile=reconcile,
)
