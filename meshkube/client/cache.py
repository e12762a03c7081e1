"""An informer's cache, without the watching: objects by key, indexes that follow each change."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from meshkube.api import meta
from meshkube.api.types import Object

log = logging.getLogger(__name__)

IndexFunction = Callable[[Object], Iterable[str]]
Objects: TypeAlias = list[Object]
Handler = Callable[[Object | None, Object | None], None]
"""Gets `(old, new)`: `(None, new)` for an addition, `(old, None)` for a deletion."""


class _Index:
    """Objects by the values that a function finds in them."""

    def __init__(self, function: IndexFunction) -> None:
        self.function = function
        self._entries: dict[str, dict[str, Object]] = {}

    def find(self, value: str) -> Iterable[Object]:
        entries = self._entries.get(value)
        return entries.values() if entries else ()

    def change(self, key: str, old: Object | None, new: Object | None) -> None:
        before = self._values(old)
        after = self._values(new)
        for value in before:
            if value not in after:
                entries = self._entries[value]
                del entries[key]
                if not entries:
                    del self._entries[value]
        if new is not None:
            for value in after:
                self._entries.setdefault(value, {})[key] = new

    def _values(self, obj: Object | None) -> set[str]:
        if obj is None:
            return set()
        try:
            return set(self.function(obj))
        except Exception:
            log.exception("an index failed", extra={"object": meta.key(obj)})
            return set()


class Cache:
    """Objects of one kind. Handlers are called after each change is in the cache and indexes."""

    def __init__(self) -> None:
        self._objects: dict[str, Object] = {}
        self._by_namespace = _Index(_namespace)
        self._indexes: dict[str, _Index] = {}
        self._handlers: tuple[Handler, ...] = ()

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: str) -> Object | None:
        return self._objects.get(key)

    def list(self, namespace: str | None = None) -> Objects:
        if namespace is None:
            return list(self._objects.values())
        return list(self._by_namespace.find(namespace))

    def by_index(self, index: str, value: str) -> Objects:
        return list(self._indexes[index].find(value))

    def add_index(self, name: str, function: IndexFunction) -> None:
        known = self._indexes.get(name)
        if known is not None:
            if known.function is not function:
                raise ValueError(f"index {name!r} is taken by another function")
            return
        index = self._indexes[name] = _Index(function)
        for key, obj in self._objects.items():
            index.change(key, None, obj)

    def subscribe(self, handler: Handler) -> None:
        self._handlers += (handler,)
        for obj in list(self._objects.values()):
            _call(handler, None, obj)

    def put(self, obj: Object) -> None:
        """Adds or replaces; the version it already has changes nothing."""
        key = meta.key(obj)
        old = self._objects.get(key)
        if old is not None and meta.resource_version(old) == meta.resource_version(obj):
            return
        self._objects[key] = obj
        self._changed(key, old, obj)

    def remove(self, key: str) -> None:
        """Removes what is there; its handlers get the last object the cache knew."""
        old = self._objects.pop(key, None)
        if old is not None:
            self._changed(key, old, None)

    def replace(self, objects: Iterable[Object]) -> None:
        """Makes the cache hold exactly these; tells only of what differs."""
        for _ in self.replacing(objects):
            pass

    def replacing(self, objects: Iterable[Object]) -> Iterator[None]:
        """`replace` in steps of one object: there may be so many that others need a turn."""
        listed: dict[str, Object] = {}
        for obj in objects:
            listed[meta.key(obj)] = obj
            yield
        for key in [key for key in self._objects if key not in listed]:
            self.remove(key)
            yield
        for obj in listed.values():
            self.put(obj)
            yield

    def _changed(self, key: str, old: Object | None, new: Object | None) -> None:
        self._by_namespace.change(key, old, new)
        for index in self._indexes.values():
            index.change(key, old, new)
        for handler in self._handlers:
            _call(handler, old, new)


def with_indexes(indexes: Mapping[str, IndexFunction]) -> Cache:
    """An empty cache with these indexes."""
    cache = Cache()
    for name, function in indexes.items():
        cache.add_index(name, function)
    return cache


def _namespace(obj: Object) -> Iterable[str]:
    return (meta.namespace(obj),)


def _call(handler: Handler, old: Object | None, new: Object | None) -> None:
    try:
        handler(old, new)
    except Exception:
        known = new if new is not None else old or {}
        log.exception("a handler failed", extra={"object": meta.key(known)})
