"""The volumes of a pod, as far as placing it goes: which nodes reach what it has claimed, and which
volumes its waiting claims get there. Pure.

Source: Kubernetes documentation, "Storage Classes", "Volume binding mode"; the reasons are the
scheduler's own words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control import indexes, pods, volumes

UNBOUND_IMMEDIATE = "pod has unbound immediate PersistentVolumeClaims"
ONE_POD_ONLY = (
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"
)


class Cache(Protocol):
    """What is read of an informer."""

    def get(self, key: str) -> Object | None: ...

    def by_index(self, index: str, value: str) -> Sequence[Object]: ...


class Caches(Protocol):
    def of(self, kind: Kind) -> Cache: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """A claim that gets its volume once the pod's node is known."""

    claim: Object
    candidates: tuple[Object, ...]
    """Free volumes that suit it, the smallest first; each is on some nodes only."""
    provisioner: str
    """Empty where its class makes no volumes."""
    topologies: tuple[Object, ...]
    """`allowedTopologies` of its class; empty: everywhere."""
    node: str
    """Where the scheduler has already asked for it."""


@dataclass(frozen=True, slots=True)
class PodVolumes:
    """Terms of the volumes that are bound, and the claims that wait. With `problem` no node will
    do."""

    problem: str = ""
    bound: tuple[tuple[Object, ...], ...] = ()
    waiting: tuple[Waiting, ...] = ()


class Grant(NamedTuple):
    """What a waiting claim gets: a volume there is, or (None) one that is to be made."""

    claim: Object
    volume: Object | None


NONE = PodVolumes()


def of_pod(pod: Object, caches: Caches, taken: Collection[str]) -> PodVolumes:
    """Reads the pod's claims; volumes named in `taken` are given away already."""
    bound: list[tuple[Object, ...]] = []
    waiting: list[Waiting] = []
    for use in volumes.claims_of(pod):
        claim = caches.of(kinds.PERSISTENT_VOLUME_CLAIM).get(f"{meta.namespace(pod)}/{use.claim}")
        problem = _problem(pod, use, claim) or _shared(pod, claim or {}, caches)
        if claim is None or problem:
            return PodVolumes(problem)
        if volumes.is_bound(claim):
            name = claim["spec"]["volumeName"]
            volume = caches.of(kinds.PERSISTENT_VOLUME).get(name)
            if volume is None:
                return PodVolumes(_lost(use.claim, name))
            terms = volumes.node_terms(volume)
            if terms is not None:
                bound.append(terms)
            continue
        class_ = caches.of(kinds.STORAGE_CLASS).get(volumes.class_of(claim))
        named = volumes.spec(claim).get("volumeName")
        if class_ is None or named or not volumes.waits_for_consumer(class_):
            return PodVolumes(UNBOUND_IMMEDIATE)
        waiting.append(_waiting(claim, class_, caches, taken))
    return PodVolumes("", tuple(bound), tuple(waiting)) if bound or waiting else NONE


def _problem(pod: Object, use: volumes.ClaimUse, claim: Object | None) -> str:
    if claim is None:
        if use.ephemeral:
            what = f'persistentvolumeclaim "{use.claim}"'
            return f"waiting for ephemeral volume controller to create the {what}"
        return f'persistentvolumeclaim "{use.claim}" not found'
    if use.ephemeral and (meta.controller_of(claim) or {}).get("uid") != meta.uid(pod):
        return f'PVC "{meta.key(claim)}" was not created for pod "{meta.key(pod)}"'
    if meta.deleting(claim):
        return f'persistentvolumeclaim "{use.claim}" is being deleted'
    if volumes.phase(claim) == "Lost":
        return _lost(use.claim, volumes.spec(claim).get("volumeName"))
    return ""


def _lost(claim: str, volume: Any) -> str:
    return f'persistentvolumeclaim "{claim}" bound to non-existent persistentvolume "{volume}"'


def _shared(pod: Object, claim: Object, caches: Caches) -> str:
    """A claim for one pod only is in use by another one."""
    if "ReadWriteOncePod" not in (volumes.spec(claim).get("accessModes") or ()):
        return ""
    for other in caches.of(kinds.POD).by_index(indexes.CLAIM, meta.key(claim)):
        if meta.uid(other) != meta.uid(pod) and pods.node_name(other) and not pods.finished(other):
            return ONE_POD_ONLY
    return ""


def _waiting(claim: Object, class_: Object, caches: Caches, taken: Collection[str]) -> Waiting:
    cache = caches.of(kinds.PERSISTENT_VOLUME)
    free = [v for v in cache.by_index(indexes.UNCLAIMED, meta.name(class_)) if _free(v, taken)]
    candidates: list[Object] = []
    while (found := volumes.best(claim, free)) is not None:
        candidates.append(found)
        free.remove(found)
    by = str(class_.get("provisioner") or "")
    return Waiting(
        claim,
        tuple(candidates),
        "" if by == volumes.NO_PROVISIONER else by,
        tuple(class_.get("allowedTopologies") or ()),
        meta.annotations(claim).get(volumes.SELECTED_NODE, ""),
    )


def _free(volume: Object, taken: Collection[str]) -> bool:
    return meta.name(volume) not in taken


def names(grants: Iterable[Grant]) -> list[str]:
    """The volumes that are given away."""
    return [meta.name(grant.volume) for grant in grants if grant.volume is not None]
