"""Writes: a thin loop of read the cache, decide, write by compare, and wait for the cache."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Callable, Iterator

from meshkube.api import errors, kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.control.apiserver import admission, charging, deletion, rules, services, strategy
from meshkube.control.apiserver.cache import Cached
from meshkube.control.apiserver.encoding import encode, object_key, stamp
from meshkube.control.apiserver.feed import Feed
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.services import ServiceAllocator
from meshkube.control.auth.users import User
from meshkube.store import KeyExists, KeyValue, RevisionMismatch, Store, StoreUnavailable

NAME_TRIES = 8
WRITE_TRIES = 50
_NOT_SPEC = frozenset({"status", "binding", "finalize", "approval"})
_CHARGED_ON_UPDATE = frozenset({kinds.SERVICE, kinds.PERSISTENT_VOLUME_CLAIM})

Guard = Callable[[Kind, Object | None, Object | None, User | None, str], None]
"""Refuses what a user may not do although it has the verb: `access.Access.guard`."""
Make = Callable[[Object], Object]
"""From the object as it stands (shared), a private one as the client wants it."""


class Writer:
    """Creates, changes and deletes stored objects. Kinds here are stored kinds."""

    def __init__(
        self,
        store: Store,
        feed: Feed,
        lookup: Lookup,
        addresses: ServiceAllocator,
        clock: Clock,
        guard: Guard,
    ) -> None:
        self._store = store
        self._feed = feed
        self._lookup = lookup
        self._services = addresses
        self._clock = clock
        self._guard = guard

    async def create(
        self, kind: Kind, obj: Object, namespace: str, options: WriteOptions
    ) -> Cached:
        """`obj` is private. Raises `ApiError`."""
        await self._feed.fresh()
        base = obj["metadata"].get("generateName")
        tries = NAME_TRIES if base and not obj["metadata"].get("name") else 1
        if tries > 1:
            obj["metadata"]["name"] = meta.generated_name(base)
        self._prepare(kind, obj, namespace)
        if kind is kinds.CERTIFICATE_SIGNING_REQUEST:
            strategy.sign_request(obj, options.user)
        self._guard(kind, obj, None, options.user, "")
        for left in reversed(range(tries)):
            try:
                with self._claimed(kind, obj, options):
                    rules.validate_create(kind, obj)
                    rules.record_manager(kind, obj, None, options, self._clock.now())
                    await self._charge(kind, obj, None, options)
                    return await self._create(kind, obj, options)
            except errors.ApiError as error:
                if error.reason != "AlreadyExists" or not left:
                    raise
                obj["metadata"]["name"] = meta.generated_name(base)
        raise AssertionError("unreachable")

    def _prepare(self, kind: Kind, obj: Object, namespace: str) -> None:
        now = meta.timestamp(self._clock.now())
        strategy.prepare_create(kind, obj, namespace, now, _new_uid())
        # Limit ranges look at what is left after the defaults.
        rules.defaults(kind, obj)
        admission.admit_create(kind, obj, namespace, self._lookup)
        if kind is kinds.SERVICE:
            services.prepare(obj, None)

    async def _create(self, kind: Kind, obj: Object, options: WriteOptions) -> Cached:
        name = meta.name(obj)
        key = object_key(kind, meta.namespace(obj), name)
        value = encode(kind, obj)
        if options.dry_run:
            if key in self._feed.cache(kind).items:
                raise errors.already_exists(kind.group, kind.plural, name)
            return Cached(kind, key, 0, value)
        try:
            written = await self._store.create(key, value)
        except KeyExists:
            raise errors.already_exists(kind.group, kind.plural, name) from None
        except StoreUnavailable as error:
            raise errors.unavailable(str(error)) from error
        return await self._seen(kind, written)

    async def modify(
        self, kind: Kind, namespace: str, name: str, make: Make, options: WriteOptions, *,
        subresource: str = "",
    ) -> Cached:  # fmt: skip
        """Makes the new object from the current one and writes it; again from the start when
        somebody else was faster, unless the new object names a resourceVersion."""
        await self._feed.fresh()
        for _ in range(WRITE_TRIES):
            current = self.current(kind, namespace, name)
            new = self._changed(kind, current, make(current.object), subresource)
            try:
                # What a Service is allotted is part of what is validated.
                with self._claimed(kind, new, options):
                    self._judge(kind, new, current.object, options, subresource)
                    if _same(new, current.object):
                        return current
                    if kind in _CHARGED_ON_UPDATE and subresource not in _NOT_SPEC:
                        await self._charge(kind, new, current.object, options)
                    return await self._replace(kind, current, new, options)
            except RevisionMismatch as error:
                await self._catch_up(error)
        raise errors.conflict(kind.group, kind.plural, name)

    def current(self, kind: Kind, namespace: str, name: str) -> Cached:
        """Raises `ApiError` 404."""
        found = self._feed.cache(kind).items.get(object_key(kind, namespace, name))
        if found is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return found

    def _changed(self, kind: Kind, current: Cached, new: Object, subresource: str) -> Object:
        old = current.object
        pinned = meta.resource_version(new)
        if pinned and pinned != str(current.revision):
            raise errors.conflict(kind.group, kind.plural, meta.name(old))
        if subresource not in _NOT_SPEC:
            # Before the generation is decided: leaving a default out changes nothing.
            rules.defaults(kind, new)
        strategy.prepare_update(kind, new, old, subresource)
        if kind is kinds.SERVICE and subresource not in _NOT_SPEC:
            services.prepare(new, old)
        return new

    def _judge(
        self, kind: Kind, new: Object, old: Object, options: WriteOptions, subresource: str
    ) -> None:
        self._guard(kind, new, old, options.user, subresource)
        if subresource == "status":
            rules.validate_status(kind, new, old)
        elif subresource == "ephemeralcontainers":
            rules.validate_ephemeral(kind, new, old)
        elif subresource not in _NOT_SPEC:
            rules.validate_update(kind, new, old)
        rules.record_manager(kind, new, old, options, self._clock.now(), subresource)

    async def _replace(
        self, kind: Kind, current: Cached, new: Object, options: WriteOptions
    ) -> Cached:
        if options.dry_run:
            raw = stamp(encode(kind, new), current.revision)
            return Cached(kind, current.key, current.revision, raw)
        if deletion.finished(kind, new):
            return await self._remove(current)
        written = await self._update(current, encode(kind, new))
        return await self._seen(kind, written)

    async def delete(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Cached, bool]:
        """The object as it is left, and whether it is gone."""
        await self._feed.fresh()
        admission.admit_delete(kind, name)
        for _ in range(WRITE_TRIES):
            current = self.current(kind, namespace, name)
            self._guard(kind, None, current.object, options.user, "")
            plan = deletion.plan(kind, current.object, options, self._clock.now())
            if options.dry_run:
                return current, plan.remove
            try:
                if plan.remove:
                    return await self._remove(current), True
                if plan.marked is None:
                    return current, False
                written = await self._update(current, encode(kind, plan.marked))
                return await self._seen(kind, written), False
            except RevisionMismatch as error:
                await self._catch_up(error)
        raise errors.conflict(kind.group, kind.plural, name)

    async def _charge(
        self, kind: Kind, obj: Object, old: Object | None, options: WriteOptions
    ) -> None:
        """Adds what is asked for to the quotas of the namespace. Raises `ApiError` 403."""
        if not kind.namespaced:
            return
        space = meta.namespace(obj)
        quotas = self._lookup.inside(kinds.RESOURCE_QUOTA, space)
        for found in charging.concerned(kind, obj, quotas):
            await self._charge_one(kind, obj, old, meta.name(found), options)

    async def _charge_one(
        self, kind: Kind, obj: Object, old: Object | None, name: str, options: WriteOptions
    ) -> None:
        quota = kinds.RESOURCE_QUOTA
        for _ in range(WRITE_TRIES):
            current = self.current(quota, meta.namespace(obj), name)
            new = charging.charged(kind, obj, current.object, self._clock.now(), old)
            if new is None or options.dry_run:
                return
            try:
                written = await self._update(current, encode(quota, new))
            except RevisionMismatch as error:
                await self._catch_up(error)
                continue
            await self._seen(quota, written)
            return
        raise errors.conflict(quota.group, quota.plural, name)

    async def _update(self, current: Cached, value: bytes) -> KeyValue:
        try:
            return await self._store.update(current.key, value, current.revision)
        except StoreUnavailable as error:
            raise errors.unavailable(str(error)) from error

    async def _remove(self, current: Cached) -> Cached:
        try:
            removed = await self._store.delete(current.key, current.revision)
        except StoreUnavailable as error:
            raise errors.unavailable(str(error)) from error
        await self._feed.reach(removed.mod_revision)
        return Cached(current.kind, current.key, removed.mod_revision, _stamped(removed))

    async def _seen(self, kind: Kind, written: KeyValue) -> Cached:
        """Waits for the cache: after a write its writer reads what it wrote."""
        await self._feed.reach(written.mod_revision)
        found = self._feed.cache(kind).items.get(written.key)
        if found is not None and found.revision == written.mod_revision:
            return found
        return Cached(kind, written.key, written.mod_revision, _stamped(written))

    async def _catch_up(self, error: RevisionMismatch) -> None:
        if error.current is not None:
            await self._feed.reach(error.current.mod_revision)
        else:
            await self._feed.fresh()

    @contextlib.contextmanager
    def _claimed(self, kind: Kind, new: Object, options: WriteOptions) -> Iterator[None]:
        """What a Service is allotted, for the length of one write; kept where that succeeds."""
        if kind is not kinds.SERVICE:
            yield
            return
        claim = self._services.claim(new)
        done = False
        try:
            yield
            done = not options.dry_run
        finally:
            if not done:
                self._services.undo(claim)


def _new_uid() -> str:
    """Random, and without a system call: a uid has to be unique, not secret."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _stamped(kv: KeyValue) -> bytes:
    return stamp(kv.value, kv.mod_revision)


def _same(new: Object, old: Object) -> bool:
    """True where nothing but the times of managers differs: such a write is none at all."""
    if new == old:
        return True
    managers, before = (obj["metadata"].get("managedFields") or [] for obj in (new, old))
    if managers == before or [_timeless(m) for m in managers] != [_timeless(m) for m in before]:
        return False
    return {**new, "metadata": {**new["metadata"], "managedFields": before}} == old


def _timeless(manager: Object) -> Object:
    return {key: value for key, value in manager.items() if key != "time"}
