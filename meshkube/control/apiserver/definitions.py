"""Follows the stored CustomResourceDefinitions: each change changes what is served, at once, on
every server of the store."""

from __future__ import annotations

import logging
from collections.abc import Callable

import orjson

from meshkube.api import meta
from meshkube.api.custom import names
from meshkube.api.custom.definition import Definition
from meshkube.api.types import Object
from meshkube.control.apiserver.cache import Cached, Change
from meshkube.control.apiserver.catalog import Catalog

log = logging.getLogger(__name__)

_IDENTITY = ("name", "uid", "creationTimestamp", "deletionTimestamp", "finalizers")


class Definitions:
    """A `cache.Sink` on the cache of definitions. What it makes of one holds its bytes alone: the
    schema is read when an object needs it."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._followers: list[Callable[[], None]] = []
        self._named: dict[str, Object] = {}
        """Of every definition, served or not, what it is called."""

    def load(self, items: list[Cached]) -> None:
        """Starts over from all there are."""
        self._named = {_name(item): _outline(item) for item in items}
        found = [made for item in items if (made := _made(item)) is not None]
        self._catalog.replace({one.name: one for one in found})
        self._told()

    def follow(self, follower: Callable[[], None]) -> Callable[[], None]:
        """Calls it after every change of a definition, until what is returned is called. It must
        not block."""
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def _told(self) -> None:
        for follower in tuple(self._followers):
            follower()

    def outlines(self) -> list[Object]:
        """Every definition there is, without its schemas: metadata, names and conditions."""
        return list(self._named.values())

    def others(self, crd: Object) -> list[Object]:
        """Outlines of all definitions but this one: group, names, accepted names."""
        return [one for name, one in self._named.items() if name != meta.name(crd)]

    def tell(self, change: Change) -> None:
        self._take(change)
        self._told()

    def _take(self, change: Change) -> None:
        name = _name(change.plain.cached)
        if change.new is None:
            self._named.pop(name, None)
            self._catalog.remove(name)
            return
        old, new = change.old, change.new
        self._named[name] = _outline(new)
        made = _made(new)
        if made is None:
            self._catalog.remove(name)
        elif old is None or self._catalog.definition(name) is None or _differs(old, new):
            self._catalog.put(made)

    def end(self) -> None:
        """The next load starts over."""


def _name(item: Cached) -> str:
    return item.key.rpartition("/")[2]


def _outline(item: Cached) -> Object:
    crd = orjson.loads(item.raw)
    metadata = {key: value for key, value in crd["metadata"].items() if key in _IDENTITY}
    names_of = {"group": crd["spec"]["group"], "names": crd["spec"]["names"]}
    return {"metadata": metadata, "spec": names_of, "status": crd.get("status") or {}}


def _differs(old: Cached, new: Cached) -> bool:
    """Whether a change is more than one of conditions."""
    return _served(old) != _served(new)


def _served(item: Cached) -> object:
    crd = orjson.loads(item.raw)
    status = crd.get("status") or {}
    return crd["spec"], status.get("acceptedNames"), crd["metadata"].get("deletionTimestamp")


def _made(item: Cached) -> Definition | None:
    """None for one that is not established: nothing of it is served."""
    raw = item.raw
    crd = orjson.loads(raw)
    if not names.holds(crd, "Established"):
        return None
    try:
        return Definition(crd, lambda: orjson.loads(raw))
    except (KeyError, TypeError, ValueError, StopIteration):
        log.exception("a definition cannot be served", extra={"key": item.key})
        return None
