"""Moves the watch caches: one watch over the whole store, every change to the cache it is for."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections.abc import Awaitable, Callable, Iterable

from meshkube.api import errors, kinds
from meshkube.api.kinds import Kind
from meshkube.clock import Clock
from meshkube.control.apiserver import faults
from meshkube.control.apiserver.cache import ResourceCache
from meshkube.control.apiserver.catalog import Catalog
from meshkube.control.apiserver.definitions import Definitions
from meshkube.control.apiserver.encoding import ROOT, prefix_of, resource_prefix
from meshkube.control.apiserver.store_health import StoreHealth
from meshkube.control.apiserver.turns import in_turns
from meshkube.store import (
    Compacted,
    Event,
    KeyValue,
    Store,
    StoreError,
    StoreUnavailable,
    WatchBatch,
)

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds a reader waits for the caches to reach a revision (as kube-apiserver does)."""
PROBE_SECONDS = 2.0
"""How often the store is asked what is newest while nobody else asks."""


class Feed:
    """The caches of all kinds, and the revision up to which they hold everything.

    `catalog` follows the definitions among them, and the caches of custom kinds follow it."""

    def __init__(self, store: Store, catalog: Catalog, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.health = StoreHealth(clock)
        self.catalog = catalog
        self.definitions = Definitions(catalog)
        self._caches = {resource_prefix(kind): ResourceCache(kind) for kind in kinds.STORED}
        self._fixed = frozenset(self._caches)
        self._unserved: dict[str, dict[str, KeyValue]] = {}
        """What is stored and not served, by resource: a definition may come (back) for it."""
        self.revision = 0
        self.synced = asyncio.Event()
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []

    def cache(self, kind: Kind) -> ResourceCache:
        """Raises `ApiError` 404 for a custom kind that is no longer defined."""
        found = self._caches.get(resource_prefix(kind))
        if found is None:
            raise errors.not_served()
        return found

    @property
    def caches(self) -> Iterable[ResourceCache]:
        return self._caches.values()

    async def run(self, loaded: Callable[[], Awaitable[None]]) -> None:
        """Loads the caches and keeps them moving. Raises what the store raises."""
        try:
            await self._load()
            await loaded()
            self.synced.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._probe())
                await self._follow()
        except* Compacted as error:
            raise RuntimeError("the watch cache fell behind the store") from error
        finally:
            self.synced.clear()
            for cache in self._caches.values():
                cache.end()

    async def _follow(self) -> None:
        watch = self._store.watch(ROOT, self.revision)
        try:
            async for batch in watch:
                self._apply(batch)
        finally:
            await watch.aclose()  # type: ignore[attr-defined]

    async def _probe(self) -> None:
        """So that an outage is known before somebody has to wait for it, and its end at once."""
        while True:
            if self.health.away or self.health.age >= PROBE_SECONDS:
                with contextlib.suppress(StoreError):
                    await self._newest()
            await self._clock.sleep(PROBE_SECONDS / 2)

    async def _newest(self) -> int:
        try:
            revision = await self._store.revision()
        except StoreUnavailable as error:
            if not self.health.away:
                log.warning("the store does not answer", extra={"reason": str(error)})
            self.health.read_failed(error)
            raise
        if self.health.away:
            log.info("the store answers again", extra={"revision": revision})
        self.health.read()
        return revision

    async def _load(self) -> None:
        result = await self._store.range(ROOT)
        for prefix in self._fixed:
            self._caches[prefix].start_over(result.revision)
        unserved: dict[str, dict[str, KeyValue]] = {}
        async for some in in_turns(result.kvs):
            for kv in some:
                prefix = prefix_of(kv.key)
                if prefix in self._fixed:
                    self._caches[prefix].hold((kv,))
                else:
                    unserved.setdefault(prefix, {})[kv.key] = kv
        self._unserved = unserved
        self._follow_definitions(result.revision)
        self._reach(result.revision)

    def _follow_definitions(self, revision: int) -> None:
        """Before any other change is taken, so that every object meets its kind."""
        for prefix in self._caches.keys() - self._fixed:
            del self._caches[prefix]
        cache = self.cache(kinds.CUSTOM_RESOURCE_DEFINITION)
        cache.watchers[id(self.definitions)] = self.definitions
        self.revision = revision
        self.definitions.load(list(cache.items.values()))
        self.serve()

    def serve(self) -> None:
        """Makes the caches of custom kinds those that the catalog names."""
        wanted = {resource_prefix(kind): kind for kind in self.catalog.custom}
        for prefix in self._caches.keys() - self._fixed - wanted.keys():
            cache = self._caches.pop(prefix)
            self._unserved[prefix] = cache.stored()
            cache.end()
        for prefix, kind in wanted.items():
            held = self._caches.get(prefix)
            if held is None:
                made = self._caches[prefix] = ResourceCache(kind)
                kvs = self._unserved.pop(prefix, {})
                made.load([kvs[key] for key in sorted(kvs)], self.revision)
            elif held.kind is not kind:
                held.adopt(kind)

    def _apply(self, batch: WatchBatch) -> None:
        for event in batch.events:
            prefix = prefix_of(event.kv.key)
            cache = self._caches.get(prefix)
            if cache is None:
                self._pass_by(prefix, event)
                continue
            cache.apply(event)
            if cache.kind is kinds.CUSTOM_RESOURCE_DEFINITION:
                self.serve()
        self._reach(batch.revision)

    def _pass_by(self, prefix: str, event: Event) -> None:
        kvs = self._unserved.setdefault(prefix, {})
        if event.deleted:
            kvs.pop(event.kv.key, None)
        else:
            kvs[event.kv.key] = event.kv

    def _reach(self, revision: int) -> None:
        self.revision = revision
        while self._waiters and self._waiters[0][0] <= revision:
            future = heapq.heappop(self._waiters)[2]
            if not future.done():
                future.set_result(None)

    async def fresh(self) -> None:
        """Waits until the caches hold everything that was in the store when asked. Raises
        `ApiError` 503 where the store cannot say, at once where that is known, and 504 where the
        caches stay behind."""
        await self.loaded()
        with faults.told():
            if self.health.away:
                raise StoreUnavailable(self.health.reason)
            revision = await self._newest()
        if self.revision < revision:
            await self.reach(revision)

    async def caught_up(self, current: KeyValue | None) -> None:
        """Waits until the caches show what a write met: None where that was gone."""
        if current is not None:
            await self.reach(current.mod_revision)
        else:
            await self.fresh()

    async def loaded(self) -> None:
        """Waits until the caches were filled. Raises `ApiError` 503 when that takes too long."""
        if self.synced.is_set():
            return
        try:
            async with asyncio.timeout(PATIENCE):
                await self.synced.wait()
        except TimeoutError:
            raise errors.unavailable("the API server's caches are not loaded yet") from None

    async def reach(self, revision: int) -> None:
        """Waits until the caches hold a revision. Raises `ApiError` 504 when it stays away."""
        if self.revision >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiters, (revision, next(self._order), future))
        try:
            async with asyncio.timeout(PATIENCE):
                await future
        except TimeoutError:
            raise _too_large(revision, self.revision) from None


def _too_large(asked: int, current: int) -> errors.ApiError:
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details = {"retryAfterSeconds": 1, "causes": [cause]}
    return errors.ApiError(504, "Timeout", message, details)
