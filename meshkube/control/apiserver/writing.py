"""Writes: a thin loop of read the cache, decide, write by compare, and wait for the cache."""

from __future__ import annotations

import contextlib
import random
import uuid
from collections.abc import Callable, Mapping, Sequence

from meshkube.api import errors, kinds, meta
from meshkube.api.custom import names
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.clock import Clock
from meshkube.control.apiserver import (
    admission,
    deletion,
    faults,
    rules,
    services,
    strategy,
    subresources,
)
from meshkube.control.apiserver.admitting import Admitting
from meshkube.control.apiserver.beside import Beside
from meshkube.control.apiserver.cache import Cached
from meshkube.control.apiserver.conversions import Conversions
from meshkube.control.apiserver.encoding import encode, object_key, stamp
from meshkube.control.apiserver.feed import Feed
from meshkube.control.apiserver.lookup import Lookup
from meshkube.control.apiserver.matching import Asked, Operation
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.turns import aside
from meshkube.control.auth.users import User
from meshkube.control.fence import Fence
from meshkube.store import Guard as Condition
from meshkube.store import (
    GuardFailed,
    KeyExists,
    KeyValue,
    RevisionMismatch,
    Store,
    StoreUnavailable,
    Write,
)

NAME_TRIES = 8
WRITE_TRIES = 50
LONG_BYTES = 64 * 1024
"""From here on an object takes longer to judge than others should wait."""
_NOT_SPEC = frozenset({"status", "binding", "finalize", "approval"})
_OFTEN_TOLD = frozenset({kinds.POD, kinds.NODE})
"""Kinds whose status, written by their thousands, has no defaults."""
_OWN_BODY = frozenset({"binding"})
"""Sub-resources of a body of their own, which is judged where it is read (`registry`)."""
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
        beside: Beside,
        admitting: Admitting,
        conversions: Conversions,
        clock: Clock,
        guard: Guard,
        away_seconds: int,
    ) -> None:
        self._store = store
        self._feed = feed
        self._lookup = lookup
        self._beside = beside
        self._clock = clock
        self._guard = guard
        self._away_seconds = away_seconds
        self._admitting = admitting
        self._conversions = conversions

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
        self._sign(kind, obj, options)
        self._guard(kind, obj, None, options.user, "")
        obj = await self._mutated_new(kind, obj, namespace, options)
        for left in reversed(range(tries)):
            try:
                return await self._made(kind, obj, options)
            except errors.ApiError as error:
                if error.reason != "AlreadyExists" or not left:
                    raise
                obj["metadata"]["name"] = meta.generated_name(base)
        raise AssertionError("unreachable")

    def _sign(self, kind: Kind, obj: Object, options: WriteOptions) -> None:
        if kind is kinds.CERTIFICATE_SIGNING_REQUEST:
            strategy.sign_request(obj, options.user)

    async def _mutated_new(
        self, kind: Kind, obj: Object, namespace: str, options: WriteOptions
    ) -> Object:
        """A new object as webhooks leave it; of one that they changed all is filled in again."""
        uid, made = meta.uid(obj), obj["metadata"]["creationTimestamp"]

        def settle(new: Object) -> Object:
            rules.shape(kind, new, WriteOptions())
            self._prepare(kind, new, namespace, uid, made)
            self._sign(kind, new, options)
            return new

        asked = _asked(kind, "CREATE", obj, None, options, "CreateOptions")
        new = await self._admitting.mutated(asked, settle, options.warnings, options.leave)
        if new is None or new is obj:
            return obj
        self._guard(kind, new, None, options.user, "")
        return new

    async def _made(self, kind: Kind, obj: Object, options: WriteOptions) -> Cached:
        """Again from the start where what lies beside it was changed by somebody else."""
        contested = self._beside.contested(kind, obj)
        stale: dict[str, int] = {}
        for _ in range(WRITE_TRIES):
            # Each try begins with what was sent.
            new = meta.copy(obj) if contested else {**obj, "metadata": {**obj["metadata"]}}
            try:
                with self._beside.allotted(kind, new, dry_run=options.dry_run):
                    await aside(options.long, rules.validate_create, kind, new)
                    asked = _asked(kind, "CREATE", new, None, options, "CreateOptions")
                    await self._admitting.judge(asked, options.warnings, options.leave)
                    self._settle(kind, new)
                    now = self._clock.now()
                    await aside(options.long, rules.record_manager, kind, new, None, options, now)
                    new = await self._conversions.kept(kind, new)
                    # Not before: who is asked above may write in this namespace too.
                    async with self._beside.turn(kind, new):
                        return await self._create(kind, new, options, stale)
            except (KeyExists, RevisionMismatch, GuardFailed) as error:
                await self._beside.settle(error, stale)
                admission.admit_place(kind, obj, self._lookup)
        raise errors.conflict(kind.group, kind.plural, meta.name(obj))

    def _prepare(
        self, kind: Kind, obj: Object, namespace: str, uid: str = "", made: str = ""
    ) -> None:
        """Once more with the `uid` and the creation time that it already has."""
        now = made or meta.timestamp(self._clock.now())
        strategy.prepare_create(kind, obj, namespace, now, uid or _new_uid())
        # Limit ranges look at what is left after the defaults.
        rules.defaults(kind, obj)
        admission.admit_create(kind, obj, namespace, self._lookup, self._away_seconds)
        if kind is kinds.SERVICE:
            services.prepare(obj, None)

    async def _create(
        self, kind: Kind, obj: Object, options: WriteOptions, stale: Mapping[str, int]
    ) -> Cached:
        name = meta.name(obj)
        key = object_key(kind, meta.namespace(obj), name)
        if key in self._feed.cache(kind).items:
            raise errors.already_exists(kind.group, kind.plural, name)
        others = [
            *self._beside.charges(kind, obj, None),
            *self._beside.follows(kind, None, obj, stale),
        ]
        value = encode(kind, obj)
        if options.dry_run:
            return Cached(kind, key, 0, value)
        try:
            written = await self._commit(
                [Write(key, value, 0), *others], options.fence, self._beside.place(kind, obj)
            )
        except KeyExists as error:
            if error.key != key:
                raise
            raise errors.already_exists(kind.group, kind.plural, name) from None
        return await self._seen(kind, written)

    async def modify(
        self, kind: Kind, namespace: str, name: str, make: Make, options: WriteOptions, *,
        subresource: str = "",
    ) -> Cached:  # fmt: skip
        """Makes the new object from the current one and writes it; again from the start when
        somebody else was faster, unless the new object names a resourceVersion."""
        await self._feed.fresh()
        stale: dict[str, int] = {}
        for _ in range(WRITE_TRIES):
            current = self.current(kind, namespace, name)
            current = await self._conversions.one(options.named or kind, current)
            long = options.long = options.long or len(current.raw) > LONG_BYTES
            made = await aside(long, make, current.object)
            new = self._changed(kind, current, made, subresource)
            new = await self._mutated(kind, current, new, options, subresource)
            try:
                # What a Service is allotted is part of what is validated.
                with self._beside.allotted(kind, new, dry_run=options.dry_run):
                    await self._judge(kind, new, current.object, options, subresource)
                    if _same(new, current.object):
                        return current
                    charged = subresource == "resize" or (
                        kind in _CHARGED_ON_UPDATE and subresource not in _NOT_SPEC
                    )
                    others = [
                        *(self._beside.charges(kind, new, current.object) if charged else ()),
                        *self._beside.follows(kind, current.object, new, stale),
                    ]
                    new = await self._conversions.kept(kind, new)
                    return await self._replace(kind, current, new, options, others)
            except (KeyExists, RevisionMismatch) as error:
                await self._beside.settle(error, stale)
        raise errors.conflict(kind.group, kind.plural, name)

    async def _mutated(
        self, kind: Kind, current: Cached, new: Object, options: WriteOptions, subresource: str
    ) -> Object:
        """A change as webhooks leave it."""

        def settle(patched: Object) -> Object:
            if subresource == "scale":
                whole = subresources.written(options.named or kind, patched, new, "scale")
            else:
                whole = patched
                rules.shape(kind, whole, WriteOptions())
            return self._changed(kind, current, whole, subresource)

        if subresource in _OWN_BODY:
            return new
        asked = _asked(kind, "UPDATE", new, current.object, options, "UpdateOptions", subresource)
        if subresource != "scale":
            found = await self._admitting.mutated(asked, settle, options.warnings, options.leave)
            return new if found is None else found
        return await self._scaled(kind, asked, new, settle, options)

    async def _scaled(
        self, kind: Kind, asked: Asked, new: Object, settle: Make, options: WriteOptions
    ) -> Object:
        """Webhooks of `scale` see a Scale, not the object."""
        shown = _scale(options.named or kind, asked)
        found = await self._admitting.mutated(shown, dict, options.warnings, options.leave)
        return new if found is None or found is shown.obj else settle(found)

    def current(self, kind: Kind, namespace: str, name: str) -> Cached:
        """Raises `ApiError` 404."""
        found = self._feed.cache(kind).items.get(object_key(kind, namespace, name))
        if found is None:
            raise errors.not_found(kind.group, kind.plural, name)
        return found

    def _changed(self, kind: Kind, current: Cached, new: Object, subresource: str) -> Object:
        old = current.object
        pinned = meta.resource_version(new)
        if pinned == meta.NO_VERSION:
            new = {**new, "metadata": {**new["metadata"]}}
            del new["metadata"]["resourceVersion"]
        elif pinned and pinned != str(current.revision):
            raise errors.conflict(kind.group, kind.plural, meta.name(old))
        if subresource not in _NOT_SPEC or (subresource == "status" and kind not in _OFTEN_TOLD):
            # Before the generation is decided: leaving a default out changes nothing.
            rules.defaults(kind, new)
        strategy.prepare_update(kind, new, old, subresource)
        if kind is kinds.CERTIFICATE_SIGNING_REQUEST and subresource:
            strategy.date_conditions(new, old, meta.timestamp(self._clock.now()))
        if kind is kinds.SERVICE and subresource not in _NOT_SPEC:
            services.prepare(new, old)
        return new

    async def _judge(
        self, kind: Kind, new: Object, old: Object, options: WriteOptions, subresource: str
    ) -> None:
        self._guard(kind, new, old, options.user, subresource)
        if subresource == "status":
            await aside(options.long, rules.validate_status, kind, new, old)
        elif subresource == "ephemeralcontainers":
            rules.validate_ephemeral(kind, new, old)
        elif subresource == "resize":
            rules.validate_resize(kind, new, old)
            admission.admit_resize(new, self._lookup)
        elif subresource == "approval":
            rules.validate_approval(kind, new, old)
        elif subresource not in _NOT_SPEC:
            await aside(options.long, rules.validate_update, kind, new, old)
            admission.admit_update(kind, new, old, self._lookup)
            self._settle(kind, new)
        if subresource not in _OWN_BODY:
            asked = _asked(kind, "UPDATE", new, old, options, "UpdateOptions", subresource)
            if subresource == "scale":
                asked = _scale(options.named or kind, asked)
            await self._admitting.judge(asked, options.warnings, options.leave)
        now = self._clock.now()
        await aside(options.long, rules.record_manager, kind, new, old, options, now, subresource)

    def _settle(self, kind: Kind, obj: Object) -> None:
        """Grants a definition its names at once: who made it may use it in the next breath."""
        if kind is kinds.CUSTOM_RESOURCE_DEFINITION:
            names.settle(obj, self._feed.definitions.others(obj), self._clock.now())

    async def _replace(
        self,
        kind: Kind,
        current: Cached,
        new: Object,
        options: WriteOptions,
        others: Sequence[Write],
    ) -> Cached:
        if options.dry_run:
            raw = stamp(encode(kind, new), current.revision)
            return Cached(kind, current.key, current.revision, raw)
        if deletion.finished(kind, new):
            return await self._remove(current, options.fence)
        main = Write(current.key, encode(kind, new), current.revision)
        written = await self._commit([main, *others], options.fence)
        return await self._seen(kind, written)

    async def delete(
        self, kind: Kind, namespace: str, name: str, options: DeleteOptions
    ) -> tuple[Cached, bool]:
        """The object as it is left, and whether it is gone."""
        await self._feed.fresh()
        admission.admit_delete(kind, name)
        for _ in range(WRITE_TRIES):
            current = self.current(kind, namespace, name)
            current = await self._conversions.one(kind, current)
            self._guard(kind, None, current.object, options.user, "")
            seen = await self._conversions.one(options.named or kind, current)
            await self._ask_delete(kind, seen.object, options)
            plan = deletion.plan(kind, current.object, options, self._clock.now())
            if options.dry_run:
                return current, plan.remove
            try:
                if plan.remove:
                    return await self._remove(current, options.fence), True
                if plan.marked is None:
                    return current, False
                marked = Write(current.key, encode(kind, plan.marked), current.revision)
                written = await self._commit([marked], options.fence)
                return await self._seen(kind, written), False
            except RevisionMismatch as error:
                await self._feed.caught_up(error.current)
        raise errors.conflict(kind.group, kind.plural, name)

    async def _ask_delete(self, kind: Kind, old: Object, options: DeleteOptions) -> None:
        """Raises `ApiError`."""
        asked = Asked(
            options.named or kind, "DELETE", None, old, options.user,
            dry_run=options.dry_run, options=options.shown(),
        )  # fmt: skip
        await self._admitting.mutated(asked, dict, options.warnings, options.leave)
        await self._admitting.judge(asked, options.warnings, options.leave)

    async def _commit(
        self, writes: Sequence[Write], fence: Fence | None, place: Sequence[Condition] = ()
    ) -> KeyValue:
        """Raises `ApiError`, and what the caller settles: `KeyExists`, `RevisionMismatch`, and
        `GuardFailed` of `place`."""
        term = [fence.guard] if fence is not None else []
        try:
            with faults.told():
                done = await self._store.transact(writes, [*term, *place])
        except GuardFailed as error:
            if any(error.key == guard.key for guard in place):
                raise
            raise errors.unavailable("another server leads now: nothing was written") from error
        except errors.ApiError as error:
            if isinstance(error.__cause__, StoreUnavailable):
                self._feed.health.write_failed(error.__cause__)
            raise
        self._feed.health.wrote()
        return done

    async def _remove(self, current: Cached, fence: Fence | None) -> Cached:
        others = self._beside.follows(current.kind, current.object, None, {})
        removed = await self._commit([Write(current.key, None, current.revision), *others], fence)
        await self._shown(removed)
        return Cached(current.kind, current.key, removed.mod_revision, _stamped(removed))

    async def _seen(self, kind: Kind, written: KeyValue) -> Cached:
        """Waits for the cache: after a write its writer reads what it wrote."""
        await self._shown(written)
        found = self._feed.cache(kind).items.get(written.key)
        if found is not None and found.revision == written.mod_revision:
            return found
        return Cached(kind, written.key, written.mod_revision, _stamped(written))

    async def _shown(self, written: KeyValue) -> None:
        """Waits for the cache, though not for ever: what is written is written."""
        with contextlib.suppress(errors.ApiError):
            await self._feed.reach(written.mod_revision)


def _asked(
    kind: Kind, operation: Operation, obj: Object, old: Object | None, options: WriteOptions,
    kind_of_options: str, subresource: str = "",
) -> Asked:  # fmt: skip
    return Asked(
        options.named or kind, operation, obj, old, options.user, subresource, options.dry_run,
        options=options.shown(kind_of_options),
    )  # fmt: skip


def _scale(kind: Kind, asked: Asked) -> Asked:
    """The same request with its objects as the `scale` of them."""
    obj, old = (one and subresources.scale_of(kind, one) for one in (asked.obj, asked.old))
    return asked._replace(obj=obj, old=old, body=("autoscaling/v1", "Scale"))


def _new_uid() -> str:
    """Random, and without a system call: a uid has to be unique, not secret."""
    return str(uuid.UUID(int=random.getrandbits(128), version=4))


def _stamped(kv: KeyValue) -> bytes:
    return stamp(kv.value, kv.mod_revision)


def _same(new: Object, old: Object) -> bool:
    """True where nothing but the times of managers differs: such a write is none at all."""
    if new.get("apiVersion") != old.get("apiVersion"):
        # Another version of one custom kind: that alone is no change.
        new = {**new, "apiVersion": old.get("apiVersion")}
    if new == old:
        return True
    managers, before = (obj["metadata"].get("managedFields") or [] for obj in (new, old))
    if managers == before or [_timeless(m) for m in managers] != [_timeless(m) for m in before]:
        return False
    return {**new, "metadata": {**new["metadata"], "managedFields": before}} == old


def _timeless(manager: Object) -> Object:
    return {key: value for key, value in manager.items() if key != "time"}
