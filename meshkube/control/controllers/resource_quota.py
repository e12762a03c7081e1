"""Counts what each ResourceQuota's namespace uses; the API server adds what is made meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.informer import Informers
from meshkube.control import indexes, quota
from meshkube.control.loop import Context, Controller, MapFn

_COUNTED: Final[tuple[Kind, ...]] = tuple(kind for kind in indexes.OWNED if kind.namespaced)
RECOUNT: Final = 300.0
"""Seconds between counts, whatever happens: a charge whose object was never made is given back."""


async def reconcile(context: Context, key: str) -> float | None:
    found = context.caches.of(kinds.RESOURCE_QUOTA).get(key)
    if found is None or meta.deleting(found):
        return None
    hard = (found.get("spec") or {}).get("hard") or {}
    status = {"hard": hard, "used": quota.total(hard, _uses(context, found, hard))}
    if (found.get("status") or {}) != status:
        new = {**found, "status": status}
        try:
            await context.client.update(kinds.RESOURCE_QUOTA, new, subresource="status")
        except ApiError as error:
            if error.code not in (404, 409):
                raise
            return 0.1  # the server has charged it meanwhile: count again
    return RECOUNT


def _uses(context: Context, found: Object, hard: Object) -> Iterable[dict[str, str]]:
    now = context.clock.now()
    custom = (kind for kind in context.caches.kinds if kind.definition and kind.namespaced)
    for kind in (*_COUNTED, *custom):
        if not quota.limits(kind, hard):
            continue
        for obj in context.caches.of(kind).list(meta.namespace(found)):
            if quota.matches(found, kind, obj):
                yield quota.usage(kind, obj, now)


def _of_namespace(kind: Kind) -> MapFn:
    """The quotas that a change of such an object may touch."""

    def wakes(caches: Informers, old: Object | None, new: Object | None) -> Iterable[str]:
        obj = new if new is not None else old or {}
        for found in caches.of(kinds.RESOURCE_QUOTA).list(meta.namespace(obj)):
            if quota.limits(kind, (found.get("spec") or {}).get("hard") or {}):
                yield meta.key(found)

    return wakes


CONTROLLER = Controller(
    name="resourcequota",
    kind=kinds.RESOURCE_QUOTA,
    watches={kind: _of_namespace(kind) for kind in _COUNTED if kind is not kinds.RESOURCE_QUOTA},
    custom=_of_namespace,
    component="resourcequota-controller",
    reconcile=reconcile,
)
