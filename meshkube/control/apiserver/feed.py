"""Moves the watch caches: one watch over the whole store, every change to the cache it is for."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
from collections.abc import Callable, Iterable

from meshkube.api import errors
from meshkube.api.kinds import Kind
from meshkube.clock import Clock
from meshkube.control.apiserver import faults
from meshkube.control.apiserver.cache import ResourceCache
from meshkube.control.apiserver.encoding import ROOT, prefix_of, resource_prefix
from meshkube.control.apiserver.store_health import StoreHealth
from meshkube.store import Compacted, KeyValue, Store, StoreError, StoreUnavailable, WatchBatch

log = logging.getLogger(__name__)

PATIENCE = 3.0
"""Seconds a reader waits for the caches to reach a revision (as kube-apiserver does)."""
PROBE_SECONDS = 2.0
"""How often the store is asked what is newest while nobody else asks."""


class Feed:
    """The caches of all kinds, and the revision up to which they hold everything."""

    def __init__(self, store: Store, kinds: Iterable[Kind], clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self.health = StoreHealth(clock)
        self._caches = {resource_prefix(kind): ResourceCache(kind) for kind in kinds}
        self.revision = 0
        self.synced = asyncio.Event()
        self._order = itertools.count()
        self._waiters: list[tuple[int, int, asyncio.Future[None]]] = []

    def cache(self, kind: Kind) -> ResourceCache:
        return self._caches[resource_prefix(kind)]

    @property
    def caches(self) -> Iterable[ResourceCache]:
        return self._caches.values()

    async def run(self, loaded: Callable[[], None]) -> None:
        """Loads the caches and keeps them moving. Raises what the store raises."""
        try:
            await self._load()
            loaded()
            self.synced.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._probe())
                await self._follow()
        except* Compacted as error:
            raise RuntimeError("the watch cache fell behind the store") from error
        finally:
            self.synced.clear()
            for cache in self._caches.values():
                for watcher in tuple(cache.watchers.values()):
                    watcher.end()

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
        found: dict[str, list[KeyValue]] = {prefix: [] for prefix in self._caches}
        for kv in result.kvs:
            kvs = found.get(prefix_of(kv.key))
            if kvs is not None:
                kvs.append(kv)
        for prefix, kvs in found.items():
            self._caches[prefix].load(kvs, result.revision)
        self._reach(result.revision)

    def _apply(self, batch: WatchBatch) -> None:
        for event in batch.events:
            cache = self._caches.get(prefix_of(event.kv.key))
            if cache is not None:
                cache.apply(event)
        self._reach(batch.revision)

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
