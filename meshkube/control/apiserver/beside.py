"""What a write changes beside its object, in the same transaction: the quotas it is charged to, the
claims on a Service's addresses and ports, the term of a Lease."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from weakref import WeakValueDictionary

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.control import fence
from meshkube.control.apiserver import charging, claims
from meshkube.control.apiserver.encoding import encode, object_key
from meshkube.control.apiserver.feed import Feed
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.services import ServiceAllocator
from meshkube.store import Guard, GuardFailed, KeyExists, RevisionMismatch, Write

_QUOTA = kinds.RESOURCE_QUOTA
COUNT_SECONDS = 2.0
"""So long a write waits for a quota that has not been counted."""


class Beside:
    """Shared by all writes of a server. It keeps nothing that the store does not keep: locks that
    spare the writes of this server tries in vain, and the allocator that proposes addresses."""

    def __init__(
        self, feed: Feed, lookup: Lookup, services: ServiceAllocator, clock: Clock
    ) -> None:
        self._feed = feed
        self._lookup = lookup
        self._services = services
        self._clock = clock
        self._charging: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def contested(self, kind: Kind, obj: Object) -> bool:
        """Whether a create may have to be tried again for what lies beside it."""
        return kind is kinds.SERVICE or bool(self._quotas(kind, obj))

    def _quotas(self, kind: Kind, obj: Object) -> list[Object]:
        if not kind.namespaced:
            return []
        return list(self._lookup.inside(_QUOTA, meta.namespace(obj)))

    @contextlib.asynccontextmanager
    async def turn(self, kind: Kind, obj: Object) -> AsyncIterator[None]:
        """One charge at a time in a namespace with quotas: the next one starts from its result."""
        if not self._quotas(kind, obj):
            yield
            return
        await self._counted(kind, obj)
        lock = self._charging.setdefault(meta.namespace(obj), asyncio.Lock())
        async with lock:
            yield

    async def _counted(self, kind: Kind, obj: Object) -> None:
        """Leaves the controller a moment for a new quota: who applies one and the pods that it is
        for at once means the pods to be made."""
        until = self._clock.monotonic() + COUNT_SECONDS
        while charging.uncounted(kind, obj, self._quotas(kind, obj)):
            if self._clock.monotonic() >= until:
                return
            await self._clock.sleep(COUNT_SECONDS / 20)

    @contextlib.contextmanager
    def allotted(self, kind: Kind, new: Object, *, dry_run: bool) -> Iterator[None]:
        """Fills in a Service's addresses and ports; kept for others where the write succeeds.
        Raises `ApiError` 422."""
        if kind is not kinds.SERVICE:
            yield
            return
        claim = self._services.claim(new)
        done = False
        try:
            yield
            done = not dry_run
        finally:
            if not done:
                self._services.undo(claim)

    def charges(self, kind: Kind, new: Object, old: Object | None) -> list[Write]:
        """What the object uses, added to the quotas of its namespace. Raises `ApiError` 403."""
        writes = []
        for found in charging.concerned(kind, new, self._quotas(kind, new)):
            charged = charging.charged(kind, new, found, self._clock.now(), old)
            if charged is not None:
                key = object_key(_QUOTA, meta.namespace(found), meta.name(found))
                version = int(meta.resource_version(found))
                writes.append(Write(key, encode(_QUOTA, charged), version))
        return writes

    def follows(
        self, kind: Kind, old: Object | None, new: Object | None, stale: Mapping[str, int]
    ) -> list[Write]:
        """What goes with a create (`old` None), a change or a removal (`new` None). `stale`: see
        `settle`."""
        if kind is kinds.SERVICE:
            return claims.writes(old, new, stale)
        obj = new or old or {}
        if not fence.fenced(kind, obj):
            return []
        key = fence.key_of(meta.namespace(obj), meta.name(obj))
        if new is None:
            return [Write(key, None, None)]
        if old is not None and fence.term_of(old) == fence.term_of(new):
            return []
        return [Write(key, fence.term_of(new), None)]

    def place(self, kind: Kind, obj: Object) -> list[Guard]:
        """A new object's namespace is as it was found: nothing is made in one that meanwhile is
        being deleted, where nobody would ever clean it up."""
        space = meta.namespace(obj)
        found = self._lookup.find(kinds.NAMESPACE, space) if kind.namespaced else None
        if found is None:
            return []
        version = int(meta.resource_version(found))
        return [Guard(object_key(kinds.NAMESPACE, "", space), revision=version)]

    async def settle(
        self, error: KeyExists | RevisionMismatch | GuardFailed, stale: dict[str, int]
    ) -> None:
        """Another server was faster: waits until the caches show that. A claim that nobody holds
        who is alive goes into `stale`, with its revision: the next try takes it over."""
        current = error.current
        await self._feed.caught_up(current)
        if not error.key.startswith(claims.ROOT):
            return
        stale.pop(error.key, None)
        if current is None:
            return
        namespace, name = claims.owner_of(current.value)
        service = self._lookup.find(kinds.SERVICE, name, namespace)
        if claims.keys_of(service).get(error.key) == current.value:
            # So that the next try proposes another one, or refuses what was asked for.
            self._services.changed(None, service)
        else:
            stale[error.key] = current.mod_revision
