"""Read your own writes: a controller acts on a key only once its caches show what it wrote for it.

This is what keeps a ReplicaSet from making its pods twice on a cache that lags. client-go counts
expected creations per controller; here every write is remembered by its revision, for them all.
"""

from __future__ import annotations

from collections.abc import Callable

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.forwarding import ForwardingClient

Lookup = Callable[[Kind, str], Object | None]
"""The cached object of a kind by its key."""
Version = Callable[[Kind], str]
"""The resourceVersion up to which the cache of a kind has followed the API."""


class Freshness:
    """What the writes for each key still wait to see in the caches of `kinds`."""

    def __init__(self, kinds: frozenset[Kind], lookup: Lookup, version: Version) -> None:
        self._kinds = kinds
        self._lookup = lookup
        self._version = version
        self._seen: dict[Kind, int] = {}
        self._owed: dict[str, dict[Kind, int]] = {}
        self._deleted: dict[str, dict[tuple[Kind, str], str]] = {}

    def observe(self, kind: Kind, old: Object | None, new: Object | None) -> None:
        """A cache changed. Watches are in revision order, so what came before has been seen."""
        obj = new if new is not None else old
        self._seen[kind] = max(self._seen.get(kind, 0), _revision(meta.resource_version(obj or {})))

    def wrote(self, key: str, kind: Kind, obj: Object) -> None:
        """The work on `key` got `obj` back from a create, update or patch."""
        if kind in self._kinds:
            owed = self._owed.setdefault(key, {})
            owed[kind] = max(owed.get(kind, 0), _revision(meta.resource_version(obj)))

    def deleted(self, key: str, kind: Kind, object_key: str, uid: str) -> None:
        """The work on `key` deleted an object."""
        if kind in self._kinds:
            self._deleted.setdefault(key, {})[(kind, object_key)] = uid

    def stale(self, key: str) -> bool:
        """True while a cache does not yet show the writes for the key."""
        owed = self._owed.get(key)
        if owed:
            for kind in [k for k, revision in owed.items() if self._shown(k) >= revision]:
                del owed[kind]
        gone = self._deleted.get(key)
        if gone:
            for target in [t for t, uid in gone.items() if self._shows_deletion(*t, uid)]:
                del gone[target]
        if owed or gone:
            return True
        self.forget(key)
        return False

    async def drop_lost(self, key: str, client: Client) -> None:
        """Forgets those writes for the key that the API itself does not show: its store went back,
        and no cache will ever show them. Raises what the client raises."""
        owed = self._owed.get(key) or {}
        for kind, revision in list(owed.items()):
            newest = (await client.list(kind, limit=1)).resource_version
            if _revision(newest) < revision:
                owed.pop(kind, None)
        gone = self._deleted.get(key) or {}
        for target, uid in list(gone.items()):
            if not _deletion_in(await _stored(client, *target), uid):
                gone.pop(target, None)

    def forget(self, key: str) -> None:
        self._owed.pop(key, None)
        self._deleted.pop(key, None)

    def _shown(self, kind: Kind) -> int:
        return max(self._seen.get(kind, 0), _revision(self._version(kind)))

    def _shows_deletion(self, kind: Kind, object_key: str, uid: str) -> bool:
        return _deletion_in(self._lookup(kind, object_key), uid)


def _deletion_in(found: Object | None, uid: str) -> bool:
    """Whether what is found under an object's key shows that it was deleted."""
    if found is None or meta.deleting(found):
        return True
    return bool(uid) and meta.uid(found) != uid


async def _stored(client: Client, kind: Kind, object_key: str) -> Object | None:
    namespace, _, name = object_key.rpartition("/")
    try:
        return await client.get(kind, name, namespace or None)
    except ApiError as error:
        if error.code != 404:
            raise
        return None


def _revision(version: str) -> int:
    return int(version) if version.isdigit() else 0


class RecordingClient(ForwardingClient):
    """A Client that tells a Freshness what was written while working on `key`."""

    def __init__(self, client: Client, freshness: Freshness, key: str) -> None:
        super().__init__(client)
        self.freshness = freshness
        self.key = key

    def _wrote(self, kind: Kind, stored: Object) -> None:
        self.freshness.wrote(self.key, kind, stored)

    def _deleted(self, kind: Kind, name: str, namespace: str | None, uid: str) -> None:
        object_key = f"{namespace}/{name}" if namespace else name
        self.freshness.deleted(self.key, kind, object_key, uid)
