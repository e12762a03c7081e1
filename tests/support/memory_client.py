"""A Client that holds objects in memory: list, watch and create, for parts that do little else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

from meshkube.api import meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client, EventType, ObjectList, WatchEvent


class MemoryClient:
    """Put and delete objects; every watch hears of it in the same turn of the loop."""

    def __init__(self) -> None:
        self._objects: dict[Kind, dict[str, Object]] = {}
        self._watchers: dict[Kind, list[asyncio.Queue[WatchEvent]]] = {}
        self._revision = 0

    def as_client(self) -> Client:
        return cast(Client, self)

    def put(self, kind: Kind, *objects: Object) -> None:
        for obj in objects:
            self._revision += 1
            obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self._revision)}}
            known = self._objects.setdefault(kind, {})
            self._tell(kind, "MODIFIED" if meta.key(obj) in known else "ADDED", obj)
            known[meta.key(obj)] = obj

    def delete(self, kind: Kind, key: str) -> None:
        self._revision += 1
        self._tell(kind, "DELETED", self._objects[kind].pop(key))

    def held(self, kind: Kind) -> Sequence[Object]:
        """All objects of a kind that are there now."""
        return list(self._objects.get(kind, {}).values())

    async def create(self, kind: Kind, obj: Object, *_: Any, **__: Any) -> Object:
        """What a part records, such as its Events."""
        self.put(kind, obj)
        return obj

    async def patch(self, kind: Kind, name: str, patch: Object, *place: Any, **_: Any) -> Any:
        """Top-level fields, as a recorder counts its Events up."""
        key = "/".join([*place, name])
        self.put(kind, {**self._objects[kind][key], **patch})

    async def list(self, kind: Kind, namespace: str | None = None, **_: Any) -> ObjectList:
        return ObjectList(list(self._objects.get(kind, {}).values()), str(self._revision))

    async def watch(
        self, kind: Kind, namespace: str | None = None, **_: Any
    ) -> AsyncIterator[WatchEvent]:
        queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self._watchers.setdefault(kind, []).append(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._watchers[kind].remove(queue)

    def _tell(self, kind: Kind, type: EventType, obj: Object) -> None:
        for queue in self._watchers.get(kind, ()):
            queue.put_nowait(WatchEvent(type, obj))
