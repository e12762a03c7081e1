"""What becomes of definitions after they were written: those being deleted are emptied and let go,
those without their names get them once they are free.

Every server of a store does this, as every kube-apiserver does; all of it is safe to do twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from meshkube.api import kinds, meta
from meshkube.api.custom import names
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions

if TYPE_CHECKING:
    from meshkube.control.apiserver.registry import Registry

log = logging.getLogger(__name__)

LOOK_AGAIN = 0.25
"""Seconds between two looks at a definition whose objects are going."""
LOOK_ANYWAY = 30.0
CRD = kinds.CUSTOM_RESOURCE_DEFINITION
_OWN = WriteOptions(field_manager="kube-apiserver")


async def keep_definitions(registry: Registry) -> None:
    """Looks after them, for ever."""
    changed = asyncio.Event()
    unfollow = registry.feed.definitions.follow(changed.set)
    changed.set()
    try:
        await _keep(registry, changed)
    finally:
        unfollow()


async def _keep(registry: Registry, changed: asyncio.Event) -> None:
    while True:
        try:
            async with asyncio.timeout(LOOK_ANYWAY):
                await changed.wait()
        except TimeoutError:
            pass
        changed.clear()
        if await _look(registry):
            await registry.clock.sleep(LOOK_AGAIN)
            changed.set()


async def _look(registry: Registry) -> bool:
    """Whether something waits for another look."""
    again = False
    for crd in registry.feed.definitions.outlines():
        try:
            if meta.deleting(crd):
                again |= await _empty(registry, crd)
            elif not names.holds(crd, "NamesAccepted"):
                await _settle(registry, crd)
        except ApiError as error:
            if error.code not in (404, 409):
                about = {"definition": meta.name(crd), "reason": error.message}
                log.warning("a definition is not settled yet", extra=about)
            again = again or error.code != 404
    return again


async def _settle(registry: Registry, crd: Object) -> None:
    """Asks for its names again, where what is in its way has gone."""
    _, reason, _ = names.granted(crd, registry.feed.definitions.others(crd))
    if reason:
        return

    def grant(current: Object) -> Object:
        changed = meta.copy(current)
        names.settle(changed, registry.feed.definitions.others(crd), registry.clock.now())
        return changed

    await registry.patch(CRD, meta.name(crd), "", grant, _OWN, "status")


async def _empty(registry: Registry, crd: Mapping[str, Any]) -> bool:
    """Deletes the objects of a definition, and lets it go without any; whether some are left."""
    if names.FINALIZER not in (crd["metadata"].get("finalizers") or ()):
        return False
    definition = registry.catalog.definition(meta.name(crd))
    if definition is not None and await _left(registry, definition.stored):
        return True

    def freed(current: Object) -> Object:
        changed = meta.copy(current)
        kept = [
            one for one in current["metadata"].get("finalizers") or () if one != names.FINALIZER
        ]
        changed["metadata"]["finalizers"] = kept
        return changed

    await registry.patch(CRD, meta.name(crd), "", freed, _OWN)
    return False


async def _left(registry: Registry, kind: Kind) -> bool:
    """Asks every object to go; True while one is there."""
    await registry.feed.fresh()
    for item in list(registry.feed.cache(kind).items.values()):
        if meta.deleting(item.object):
            continue
        place = meta.name(item.object), meta.namespace(item.object)
        try:
            await registry.delete(kind, *place, DeleteOptions(propagation="Background"))
        except ApiError as error:
            if error.code != 404:
                raise
    return bool(registry.feed.cache(kind).items)
