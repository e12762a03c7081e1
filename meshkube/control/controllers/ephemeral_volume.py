"""Makes the claims of generic ephemeral volumes: one for each, owned by its pod.

Source: Kubernetes documentation, "Ephemeral Volumes", "Generic ephemeral volumes".
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import pods, volumes
from meshkube.control.loop import Context, Controller


def claim_for(pod: Object, volume: Object) -> Object:
    """The claim of one such volume."""
    template = volume["ephemeral"]["volumeClaimTemplate"]
    described = template.get("metadata") or {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"{meta.name(pod)}-{volume['name']}",
            "namespace": meta.namespace(pod),
            "labels": dict(described.get("labels") or {}),
            "annotations": dict(described.get("annotations") or {}),
            "ownerReferences": [meta.owner_reference(kinds.POD, pod)],
        },
        "spec": meta.copy(template.get("spec") or {}),
    }


async def reconcile(context: Context, key: str) -> float | None:
    pod = context.caches.of(kinds.POD).get(key)
    if pod is None or not pods.active(pod):
        return None
    for volume in volumes.spec(pod).get("volumes") or ():
        if "ephemeral" in volume:
            await _ensure(context, pod, claim_for(pod, volume))
    return None


async def _ensure(context: Context, pod: Object, wanted: Object) -> None:
    claim = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(meta.key(wanted))
    if claim is not None:
        owner = meta.controller_of(claim)
        if owner is None or owner["uid"] != meta.uid(pod):
            message = f'PVC "{meta.key(wanted)}" was not created for pod "{meta.key(pod)}"'
            context.events.event(pod, "Warning", "FailedBinding", message)
        return
    try:
        await context.client.create(kinds.PERSISTENT_VOLUME_CLAIM, wanted)
    except ApiError as error:
        if error.code not in (403, 409, 422):
            raise
        if error.code != 409:
            message = f"ephemeral volume controller: {error.message}"
            context.events.event(pod, "Warning", "FailedCreate", message)


def _of_claim(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    """A claim that went is made again while its pod lives."""
    claim = old if new is None else None
    owner = meta.controller_of(claim or {})
    if owner is None or owner.get("kind") != "Pod":
        return []
    return [f"{meta.namespace(claim or {})}/{owner['name']}"]


CONTROLLER = Controller(
    name="ephemeral-volume",
    kind=kinds.POD,
    watches={kinds.PERSISTENT_VOLUME_CLAIM: _of_claim},
    component="ephemeral_volume",
    reconcile=reconcile,
)
