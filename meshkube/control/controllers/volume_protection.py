"""Holds claims that pods use, and volumes that are bound, until they are not: two controllers that
take the protecting finalizers away.

Source: Kubernetes documentation, "Persistent Volumes", "Storage Object in Use Protection".
"""

from __future__ import annotations

from collections.abc import Iterable

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, volumes
from meshkube.control.loop import Context, Controller


def uses(pod: Object, claim: Object) -> bool:
    """True for a pod that has been placed and names the claim: its node may have it mounted."""
    if not volumes.spec(pod).get("nodeName") or meta.namespace(pod) != meta.namespace(claim):
        return False
    owned = any(
        o.get("uid") == meta.uid(pod) for o in meta.metadata(claim).get("ownerReferences") or ()
    )
    return any(
        use.claim == meta.name(claim) and (owned or not use.ephemeral)
        for use in volumes.claims_of(pod)
    )


def without(obj: Object, finalizer: str) -> Object | None:
    """A copy without that finalizer; None where it has not got it."""
    held = meta.metadata(obj).get("finalizers") or []
    if finalizer not in held:
        return None
    new = meta.copy(obj)
    new["metadata"]["finalizers"] = [name for name in held if name != finalizer]
    return new


async def _let_go(context: Context, kind: Kind, obj: Object, finalizer: str) -> None:
    new = without(obj, finalizer)
    if new is not None:
        await context.client.update(kind, new)


async def reconcile_claim(context: Context, key: str) -> float | None:
    claim = context.caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(key)
    if claim is None or not meta.deleting(claim):
        return None
    if volumes.CLAIM_PROTECTION not in (meta.metadata(claim).get("finalizers") or ()):
        return None
    cached = context.caches.of(kinds.POD).by_index(indexes.CLAIM, key)
    if any(uses(pod, claim) for pod in cached):
        return None
    # A cache may lag: what is mounted must not go, so the API is asked, too.
    listed = await context.client.list(kinds.POD, meta.namespace(claim))
    if not any(uses(pod, claim) for pod in listed.items):
        await _let_go(context, kinds.PERSISTENT_VOLUME_CLAIM, claim, volumes.CLAIM_PROTECTION)
    return None


async def reconcile_volume(context: Context, key: str) -> float | None:
    volume = context.caches.of(kinds.PERSISTENT_VOLUME).get(key)
    if volume is None or not meta.deleting(volume) or volumes.phase(volume) == "Bound":
        return None
    await _let_go(context, kinds.PERSISTENT_VOLUME, volume, volumes.VOLUME_PROTECTION)
    return None


def _of_pod(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
    pod = new if new is not None else old or {}
    return [f"{meta.namespace(pod)}/{use.claim}" for use in volumes.claims_of(pod)]


CONTROLLER = Controller(
    name="pvc-protection",
    kind=kinds.PERSISTENT_VOLUME_CLAIM,
    watches={kinds.POD: _of_pod},
    component="pvc-protection-controller",
    reconcile=reconcile_claim,
)
OF_VOLUMES = Controller(
    name="pv-protection",
    kind=kinds.PERSISTENT_VOLUME,
    component="pv-protection-controller",
    reconcile=reconcile_volume,
)
