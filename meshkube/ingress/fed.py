"""Caches that are fed from outside: in a worker they stand for the informers of a whole ingress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from meshkube.api.kinds import Kind
from meshkube.api.types import Object

Handler = Callable[[Object | None, Object | None], None]


class FedCache:
    """The objects of one kind."""

    def __init__(self, synced: asyncio.Event) -> None:
        self._objects: dict[str, Object] = {}
        self._handlers: list[Handler] = []
        self._synced = synced

    def get(self, key: str) -> Object | None:
        return self._objects.get(key)

    def subscribe(self, handler: Handler) -> None:
        """The handler is told of what is there, and of each change."""
        self._handlers.append(handler)
        for each in self._objects.values():
            handler(None, each)

    async def wait_synced(self) -> None:
        await self._synced.wait()

    def take(self, key: str, new: Object | None) -> None:
        """An object is as told, or (None) gone."""
        old = self._objects.pop(key, None)
        if new is not None:
            self._objects[key] = new
        if old is not None or new is not None:
            for handler in self._handlers:
                handler(old, new)


class FedInformers:
    """A cache for each kind that is asked for, all synced at once."""

    def __init__(self) -> None:
        self.synced = asyncio.Event()
        self._caches: dict[str, FedCache] = {}

    def of(self, kind: Kind, **_: Any) -> FedCache:
        return self._cache(kind.plural)

    def take(self, message: Mapping[str, Any]) -> None:
        """One `object` message. What comes before anybody asks for it is kept."""
        self._cache(message["kind"]).take(message["key"], message["object"])

    def _cache(self, plural: str) -> FedCache:
        return self._caches.setdefault(plural, FedCache(self.synced))
