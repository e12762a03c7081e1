"""Gets the claims of a placed pod their volumes, before the pod is bound to its node.

A volume there is gets the claim's name; for one that is to be made, the claim gets the node's name
and its provisioner does the rest. The binder completes both. Until then the pod waits here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.informer import Informers
from meshkube.control import volumes
from meshkube.control.scheduler.volumes import Grant, PodVolumes, names, of_pod


@dataclass(slots=True)
class Held:
    """A pod that waits for its volumes, to be bound to `node` then."""

    pod: Object
    node: str
    claims: list[str] = field(default_factory=list)


class VolumeBinding:
    """For one scheduler; `reset` at each term."""

    def __init__(self, client: Client, caches: Informers) -> None:
        self._client = client
        self._caches = caches
        self._claims = caches.of(kinds.PERSISTENT_VOLUME_CLAIM)
        self._volumes = caches.of(kinds.PERSISTENT_VOLUME)
        caches.of(kinds.STORAGE_CLASS)
        self.reset()

    def reset(self) -> None:
        self._taken: dict[str, str] = {}
        """Volumes given away that the cache shows as free still, and the uid of the pod."""
        self._held: dict[str, Held] = {}
        """By pod key."""

    def look(self, pod: Object) -> PodVolumes:
        """What the pod's claims ask of a node."""
        self._taken = {name: uid for name, uid in self._taken.items() if self._free(name)}
        return of_pod(pod, self._caches, self._taken)

    def _free(self, name: str) -> bool:
        volume = self._volumes.get(name)
        return volume is not None and not volumes.spec(volume).get("claimRef")

    def reserve(self, pod: Object, grants: Sequence[Grant]) -> None:
        """Nobody else gets these."""
        for name in names(grants):
            self._taken[name] = meta.uid(pod)

    def forget(self, pod: Object) -> None:
        """The pod is bound, gone, or to be placed anew."""
        self._held.pop(meta.key(pod), None)
        uid = meta.uid(pod)
        self._taken = {name: by for name, by in self._taken.items() if by != uid}

    async def grant(self, pod: Object, node: str, grants: Sequence[Grant]) -> bool:
        """Writes what each claim gets. True where all have their volumes already; else the pod is
        held. Raises `ApiError`."""
        claims = [meta.key(grant.claim) for grant in grants]
        self._held[meta.key(pod)] = Held(pod, node, claims)
        for claim, volume in grants:
            if volume is not None:
                new = volumes.reserved(volume, claim)
                await self._client.update(kinds.PERSISTENT_VOLUME, new)
            elif meta.annotations(claim).get(volumes.SELECTED_NODE) != node:
                mark = {"metadata": {"annotations": {volumes.SELECTED_NODE: node}}}
                await self._client.patch(
                    kinds.PERSISTENT_VOLUME_CLAIM, meta.name(claim), mark, meta.namespace(claim)
                )
        return self._complete(self._held.get(meta.key(pod)))

    def _complete(self, held: Held | None) -> bool:
        if held is None:
            return False
        return all(volumes.is_bound(self._claims.get(key) or {}) for key in held.claims)

    def completed(self, pods: Iterable[Object]) -> list[Held]:
        """Of these pods those that wait no longer: their volumes are theirs."""
        waiting = [self._held.get(meta.key(pod)) for pod in pods]
        done = [held for held in waiting if held is not None and self._complete(held)]
        for held in done:
            self._held.pop(meta.key(held.pod))
        return done

    def given_up(
        self, pods: Iterable[Object], old: Object | None, new: Object | None
    ) -> list[Held]:
        """Of these pods those whose claim went, or was given back by its provisioner."""
        had = volumes.SELECTED_NODE in meta.annotations(old or {})
        has = volumes.SELECTED_NODE in meta.annotations(new or {})
        if new is not None and (has or not had or volumes.is_bound(new)):
            return []
        found = [self._held.pop(meta.key(pod), None) for pod in pods]
        return [held for held in found if held is not None]
