"""Informers: one kind's objects, listed once and then watched, in a cache that always answers.

The pattern is client-go's reflector and shared informer. The API being away leaves the cache as it
is; when it is back the watch goes on where it stopped, or a new list is compared with the cache.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.backoff import Backoff
from meshkube.client.base import Client, WatchEvent
from meshkube.client.cache import Handler, IndexFunction, Objects, with_indexes
from meshkube.client.share import Share
from meshkube.clock import Clock, SystemClock

log = logging.getLogger(__name__)

# A watch that ended sooner than this, without an event, is not resumed at once.
SHORT_WATCH = 1.0
# After these errors a watch may go on where it stopped; after any other the cache is listed anew.
_PASSING = frozenset({429, 503})
_CLOCK = SystemClock()

Project = Callable[[Object], Object]
"""The part of an object that is kept."""


class Informer:
    """The objects of one kind (and namespace and selectors) in this process.

    The objects are shared: never change one. `old`, `new` and what the methods return are the very
    dicts that the client delivered.
    """

    def __init__(
        self,
        client: Client,
        kind: Kind,
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
        indexes: Mapping[str, IndexFunction] = {},
        clock: Clock = _CLOCK,
        project: Project | None = None,
    ) -> None:
        self.kind = kind
        self._project = project
        self.synced = False
        """The first list is in the cache, and every handler has seen it."""
        self._client = client
        self._namespace = namespace
        self._labels = labels
        self._fields = fields
        self._clock = clock
        self._cache = with_indexes(indexes)
        self._first_list = asyncio.Event()
        self._version = ""
        self._backoff = Backoff()
        self._expired = False

    @property
    def whole(self) -> bool:
        """It follows every object of its kind."""
        return self._namespace is None and not self._labels and not self._fields

    def __len__(self) -> int:
        return len(self._cache)

    @property
    def resource_version(self) -> str:
        """How far the cache has followed the API; empty before the first list."""
        return self._version

    def get(self, key: str) -> Object | None:
        """By `api.meta.key`: `namespace/name`, or `name`."""
        return self._cache.get(key)

    def list(self, namespace: str | None = None) -> Objects:
        """All objects, or those of one namespace. A new list each time: see `by_index` for what
        is looked up often."""
        return self._cache.list(namespace)

    def by_index(self, index: str, value: str) -> Objects:
        """The objects for which the index's function gives `value`. Raises `KeyError` for an
        index that does not exist."""
        return self._cache.by_index(index, value)

    def add_index(self, name: str, function: IndexFunction) -> None:
        """Adds an index. Adding the same one again does nothing; raises `ValueError` where the
        name is another function's."""
        self._cache.add_index(name, function)

    def subscribe(self, handler: Handler) -> None:
        """Calls `handler(old, new)` after each change, and now, as additions, for what is already
        there. A handler must not block; what it raises is logged."""
        self._cache.subscribe(handler)

    async def wait_synced(self) -> None:
        """Waits for the first list."""
        await self._first_list.wait()

    async def run(self) -> None:
        """Lists and watches until cancelled; raises nothing else. May be run again."""
        while True:
            try:
                if not self._version:
                    await self._list()
                if not await self._watch():
                    await self._pause("the watch ended at once")
            except ApiError as error:
                await self._recover(error)
            except Exception:
                log.exception("the watch failed", extra={"kind": self.kind.resource})
                self._version = ""
                await self._pause("unexpected error")

    async def _recover(self, error: ApiError) -> None:
        watching = bool(self._version)
        if error.code not in _PASSING:
            self._version = ""
        if error.code == 410 and watching and not self._expired:
            # The usual end of a long absence, not a fault; twice in a row it is one.
            self._expired = True
            log.info("version is too old: lists anew", extra={"kind": self.kind.resource})
            return
        await self._pause(str(error))

    async def _pause(self, reason: str) -> None:
        delay = self._backoff.next()
        log.warning(
            "not in touch with the API: tries again",
            extra={"kind": self.kind.resource, "reason": reason, "in_seconds": round(delay, 2)},
        )
        await self._clock.sleep(delay)

    async def _list(self) -> None:
        found = await self._client.list(
            self.kind, self._namespace, labels=self._labels, fields=self._fields
        )
        items = found.items
        share = Share()
        share.begin()
        for _ in self._cache.replacing(map(self._project, items) if self._project else items):
            if share.over:
                await share.others()
            share.begin()
        self._version = found.resource_version
        self.synced = True
        self._first_list.set()

    async def _watch(self) -> bool:
        """Follows one watch to its end; False where it ended at once, with no event."""
        started = self._clock.monotonic()
        events = self._client.watch(
            self.kind,
            self._namespace,
            labels=self._labels,
            fields=self._fields,
            resource_version=self._version,
        )
        heard, share = 0, Share()
        try:
            async for type, obj in events:
                if not heard:
                    self._expired = False
                    self._backoff.reset()
                heard += 1
                share.begin()
                self._take(type, obj)
                if share.over:
                    await share.others()
        finally:
            await _close(events)
        return heard > 0 or self._clock.monotonic() - started >= SHORT_WATCH

    def _take(self, type: str, obj: Object) -> None:
        if type == "DELETED":
            self._cache.remove(meta.key(obj))
        elif type != "BOOKMARK":
            self._cache.put(self._project(obj) if self._project else obj)
        self._version = meta.resource_version(obj) or self._version


async def _close(events: AsyncIterator[WatchEvent]) -> None:
    """Never raises: it must not take the place of the error, or the cancellation, that led here."""
    close = getattr(events, "aclose", None)
    if close is None:
        return
    try:
        await close()
    except Exception:
        log.exception("a watch did not close cleanly")


class Informers:
    """Informers shared within a process: one for each kind, namespace and selectors."""

    def __init__(
        self, client: Client, project: Callable[[Kind], Project | None] = lambda kind: None
    ) -> None:
        self._client = client
        self._project = project
        """What is kept of the objects of a kind; None: all."""
        self._tasks: dict[Kind, asyncio.Task[None]] = {}
        self._informers: dict[tuple[Kind, str | None, str, str], Informer] = {}
        self._group: asyncio.TaskGroup | None = None

    def of(
        self, kind: Kind, *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> Informer:
        """The informer for these; a new one starts with `run`, or at once where that runs."""
        key = (kind, namespace, labels, fields)
        informer = self._informers.get(key)
        if informer is None:
            informer = Informer(
                self._client,
                kind,
                namespace=namespace,
                labels=labels,
                fields=fields,
                project=self._project(kind),
            )
            self._informers[key] = informer
            self._start(informer)
        return informer

    @property
    def kinds(self) -> list[Kind]:
        """Those of which all objects are followed."""
        return [kind for kind, *rest in self._informers if rest == [None, "", ""]]

    def drop(self, kind: Kind) -> None:
        """Ends the informer of a kind that is no longer served."""
        self._informers.pop((kind, None, "", ""), None)
        task = self._tasks.pop(kind, None)
        if task is not None:
            task.cancel()

    async def run(self) -> None:
        """Runs every informer until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                for informer in list(self._informers.values()):
                    self._start(informer)
                # Those asked for later join the group: it must not end when it is empty.
                await asyncio.Event().wait()
        finally:
            self._group = None

    async def wait_synced(self) -> None:
        """Waits for the first list of every informer there is."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()

    def _start(self, informer: Informer) -> None:
        if self._group is not None:
            task = self._group.create_task(
                informer.run(), name=f"informer {informer.kind.resource}"
            )
            if informer.whole:
                self._tasks[informer.kind] = task
