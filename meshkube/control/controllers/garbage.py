"""Garbage collection: what is left of its owners goes with them.

Source: the "Garbage Collection" and "Owners and Dependents" concept pages. Owners and dependents
are looked up in the caches of every kind, by uid; nothing is deleted on a cache's word alone: that
an owner is gone is asked of the API first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Propagation
from meshkube.client.informer import Informers
from meshkube.control import indexes
from meshkube.control.loop import Context, Controller, MapFn

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"
LOOK_AGAIN = 2.0

OwnerState = Literal["solid", "waiting", "absent"]
"""It stands; it waits for its dependents to go first (foreground); it is gone."""


@dataclass(slots=True)
class Verdict:
    """What becomes of a dependent: deleted, or freed from the references to `drop` (uids)."""

    delete: bool = False
    drop: set[str] = field(default_factory=set)


def judge(obj: Object, state: Callable[[Mapping[str, Any]], OwnerState]) -> Verdict:
    """One owner that stands is enough to keep an object."""
    states = {owner["uid"]: state(owner) for owner in _owners(obj)}
    gone = {uid for uid, held in states.items() if held != "solid"}
    if not gone:
        return Verdict()
    if len(gone) < len(states):
        return Verdict(drop=gone)
    return Verdict(delete=True)


def propagation(obj: Object, has_dependents: bool, owner_waits: bool) -> Propagation:
    """How a dependent is deleted: as it was asked for before, and before its waiting owner."""
    finalizers = meta.metadata(obj).get("finalizers") or ()
    if ORPHAN in finalizers:
        return "Orphan"
    if FOREGROUND in finalizers or (owner_waits and has_dependents):
        return "Foreground"
    return "Background"


def blocks(dependent: Object, owner_uid: str) -> bool:
    """True where a foreground deletion of the owner waits for this dependent."""
    return any(o["uid"] == owner_uid and o.get("blockOwnerDeletion") for o in _owners(dependent))


def waiting(obj: Object) -> bool:
    """Whether it is deleted once its dependents are."""
    return meta.deleting(obj) and FOREGROUND in (meta.metadata(obj).get("finalizers") or ())


def without_owners(obj: Object, uids: set[str]) -> Object:
    """The patch that frees an object of owners; it holds for the object as it was seen."""
    return _patch(obj, "ownerReferences", [o for o in _owners(obj) if o["uid"] not in uids])


def unblocking(obj: Object) -> Object:
    """The patch after which no owner waits for an object; for the object as it was seen."""
    return _patch(obj, "ownerReferences", [o | {"blockOwnerDeletion": False} for o in _owners(obj)])


def without_finalizer(obj: Object, name: str) -> Object:
    """The patch that takes a finalizer away; it holds for the object as it was seen."""
    return _patch(obj, "finalizers", [f for f in obj["metadata"]["finalizers"] if f != name])


def _patch(obj: Object, field: str, values: list[Any]) -> Object:
    # A patch, as the caches hold no more of a custom object than its metadata.
    return {"metadata": {field: values, "resourceVersion": meta.resource_version(obj)}}


async def _write(context: Context, kind: Kind, obj: Object, patch: Object) -> None:
    await context.client.patch(kind, meta.name(obj), patch, meta.namespace(obj) or None)


def _owners(obj: Mapping[str, Any]) -> Sequence[Object]:
    return meta.metadata(obj).get("ownerReferences") or ()


def key_of(kind: Kind, obj: Object) -> str:
    return f"{kind.resource} {meta.key(obj)}"


def owner_kind(caches: Informers, owner: Mapping[str, Any]) -> Kind | None:
    """The kind an owner reference names, in whatever version; None where none such is served."""
    group = str(owner.get("apiVersion") or "").rpartition("/")[0]
    return next(
        (k for k in indexes.owned(caches) if k.group == group and k.kind == owner.get("kind")),
        None,
    )


def dependents(caches: Informers, uid: str) -> list[tuple[Kind, Object]]:
    """Everything that names `uid` as an owner."""
    return [
        (kind, obj)
        for kind in indexes.owned(caches)
        for obj in caches.of(kind).by_index(indexes.OWNER, uid)
    ]


async def reconcile(context: Context, key: str) -> float | None:
    resource, _, object_key = key.partition(" ")
    kind = next((k for k in indexes.owned(context.caches) if k.resource == resource), None)
    if kind is None:
        return None
    obj = context.caches.of(kind).get(object_key)
    if obj is None:
        return None
    finalizers = meta.metadata(obj).get("finalizers") or ()
    if waiting(obj):
        return await _foreground(context, kind, obj)
    if meta.deleting(obj) and ORPHAN in finalizers:
        return await _orphan(context, kind, obj)
    if not meta.deleting(obj) and _owners(obj):
        await _collect(context, kind, obj)
    return None


async def _foreground(context: Context, kind: Kind, owner: Object) -> float | None:
    left = dependents(context.caches, meta.uid(owner))
    if any(blocks(obj, meta.uid(owner)) for _, obj in left):
        for dependent_kind, obj in left:
            if not meta.deleting(obj):
                await _collect(context, dependent_kind, obj)
        return LOOK_AGAIN
    await _write(context, kind, owner, without_finalizer(owner, FOREGROUND))
    return None


async def _orphan(context: Context, kind: Kind, owner: Object) -> float | None:
    for dependent_kind, obj in dependents(context.caches, meta.uid(owner)):
        freed = without_owners(obj, {meta.uid(owner)})
        try:
            await _write(context, dependent_kind, obj, freed)
        except ApiError as error:
            if error.code != 404:
                raise
    await _write(context, kind, owner, without_finalizer(owner, ORPHAN))
    return None


async def _collect(context: Context, kind: Kind, obj: Object) -> None:
    states = {owner["uid"]: await _owner_state(context, kind, obj, owner) for owner in _owners(obj)}
    verdict = judge(obj, lambda owner: states[owner["uid"]])
    try:
        if verdict.drop:
            await _write(context, kind, obj, without_owners(obj, verdict.drop))
        elif verdict.delete:
            waits = "waiting" in states.values()
            held = dependents(context.caches, meta.uid(obj))
            if waits and any(waiting(below) for _, below in held):
                # A circle of owners, each of which waits for the next.
                await _write(context, kind, obj, unblocking(obj))
            await context.client.delete(
                kind,
                meta.name(obj),
                meta.namespace(obj) or None,
                propagation=propagation(obj, bool(held), waits),
                uid=meta.uid(obj),
            )
    except ApiError as error:
        if error.code != 404:
            raise


async def _owner_state(
    context: Context, kind: Kind, obj: Object, owner: Mapping[str, Any]
) -> OwnerState:
    found = owner_kind(context.caches, owner)
    if found is None or (found.namespaced and not kind.namespaced):
        # Not to be resolved: no reason to delete anything.
        return "solid"
    space = meta.namespace(obj) if found.namespaced else ""
    name = str(owner["name"])
    cached = context.caches.of(found).get(f"{space}/{name}" if space else name)
    if cached is None or meta.uid(cached) != owner["uid"]:
        cached = await _live(context, found, name, space)
    if cached is None or meta.uid(cached) != owner["uid"]:
        return "absent"
    return "waiting" if waiting(cached) else "solid"


async def _live(context: Context, kind: Kind, name: str, namespace: str) -> Object | None:
    try:
        return await context.client.get(kind, name, namespace or None)
    except ApiError as error:
        if error.code == 404:
            return None
        raise


def _wakes(kind: Kind) -> MapFn:
    def changed(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
        if new is None or (old is not None and meta.uid(old) != meta.uid(new)):
            assert old is not None
            yield from (key_of(k, obj) for k, obj in dependents(caches, meta.uid(old)))
            yield from _waiting_owners(caches, old)
        if new is not None and _matters(old, new):
            yield key_of(kind, new)

    return changed


def _waiting_owners(caches: Informers, obj: Object) -> Iterable[str]:
    """An owner's foreground deletion may have waited for this one."""
    for owner in _owners(obj):
        kind = owner_kind(caches, owner)
        if kind is not None and owner.get("blockOwnerDeletion"):
            space = f"{meta.namespace(obj)}/" if kind.namespaced else ""
            yield f"{kind.resource} {space}{owner['name']}"


def _matters(old: Object | None, new: Object) -> bool:
    if meta.deleting(new):
        return bool(meta.metadata(new).get("finalizers"))
    return bool(_owners(new)) and (old is None or _owners(old) != _owners(new))


def _all(caches: Informers) -> Iterable[str]:
    for kind in indexes.owned(caches):
        yield from (key_of(kind, obj) for obj in caches.of(kind).list() if _matters(None, obj))


CONTROLLER = Controller(
    name="garbage-collector",
    keys=_all,
    watches={kind: _wakes(kind) for kind in indexes.OWNED if kind is not kinds.LEASE},
    custom=_wakes,
    reads=(kinds.LEASE,),
    component="garbage-collector-controller",
    workers=8,
    resync=300.0,
    reconcile=reconcile,
)
