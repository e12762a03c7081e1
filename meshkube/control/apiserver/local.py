"""The in-process Client: the registry without HTTP and without JSON round trips."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

from meshkube.api import errors, meta
from meshkube.api.kinds import REVIEWS, Kind
from meshkube.api.types import JSON, Object
from meshkube.client.base import ObjectList, PatchType, Propagation, WatchEvent
from meshkube.control.apiserver import patching, reviews, token_requests
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.telemetry import TELEMETRY
from meshkube.control.apiserver.turns import in_turns
from meshkube.control.auth import attributes
from meshkube.control.auth.users import AUTHENTICATED, MASTERS, User, component
from meshkube.control.fence import Fence

SERVER = "system:apiserver"
_ITSELF = User(SERVER, (MASTERS, AUTHENTICATED))
BOOKMARK_SECONDS = 60.0


class LocalClient:
    """`client.base.Client` over a registry in this process. What it returns is shared.

    It may do what its user may: `system:apiserver`, the server itself, everything. With a `fence`,
    its writes are made only in the term that the fence holds.
    """

    def __init__(
        self, registry: Registry, user: str = SERVER, *, fence: Fence | None = None
    ) -> None:
        self._registry = registry
        self._fence = fence
        self._manager = user.rpartition(":")[2]
        self._user = None if user == SERVER else component(user)
        self._allowed: set[tuple[str, ...]] = set()
        """Verbs on resources that were allowed whatever the name, as of `_generation`."""
        self._generation = -1

    async def _check(
        self, verb: str, kind: Kind, namespace: str | None, name: str = "", subresource: str = "",
        fields: str = "", labels: str = "",
    ) -> None:  # fmt: skip
        """Raises `ApiError` 403."""
        if self._user is None:
            return
        authorizer = self._registry.access.authorizer
        if self._generation != authorizer.rbac.generation:
            await self._registry.access.opened()
            self._allowed.clear()
            self._generation = authorizer.rbac.generation
        key = (verb, kind.group, kind.plural, namespace or "", subresource)
        if key in self._allowed:
            return
        asked = attributes.of_kind(
            self._user, verb, kind, namespace or "", name, subresource, fields, labels
        )
        authorizer.check(asked)
        if authorizer.allows(replace(asked, name="", fields="", labels="")):
            self._allowed.add(key)

    async def get(
        self, kind: Kind, name: str, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        await self._check("get", kind, namespace, name, subresource)
        return (await self._registry.get(kind, name, namespace or "", subresource)).object

    async def list(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ObjectList:
        await self._check("list", kind, namespace, fields=fields, labels=labels)
        query = Query(
            kind,
            namespace,
            labels=labels,
            fields=fields,
            limit=limit,
            continue_token=continue_token,
            resource_version=resource_version,
        )
        found = await self._registry.list(query)
        items: list[Object] = []
        async for some in in_turns(found.items):
            items += [item.object for item in some]
        return ObjectList(items, str(found.revision), found.continue_token)

    async def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
    ) -> AsyncGenerator[WatchEvent, None]:
        await self._check("watch", kind, namespace, fields=fields, labels=labels)
        query = Query(
            kind, namespace, labels=labels, fields=fields, resource_version=resource_version
        )
        watcher = await self._registry.watch(query)
        lag = TELEMETRY.follower(kind.resource)
        try:
            while True:
                notices = await watcher.take(BOOKMARK_SECONDS if bookmarks else None)
                lag.took()
                for notice in notices:
                    yield WatchEvent(notice.type, notice.cached.object)
                lag.done()
                if watcher.ended:
                    return
                if not notices and bookmarks:
                    yield WatchEvent("BOOKMARK", bookmark(kind, self._registry.feed.revision))
        finally:
            watcher.close()
            lag.close()

    async def create(
        self, kind: Kind, obj: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        namespace = namespace or meta.namespace(obj)
        await self._check("create", kind, namespace, meta.name(obj), subresource)
        if subresource == "token":
            access = self._registry.access
            return token_requests.answer(obj, namespace, meta.name(obj), self._user, access)
        if kind in REVIEWS and not subresource:
            access = self._registry.access
            return reviews.answer(kind.kind, obj, self._user or _ITSELF, access, namespace)
        async with self._writing(kind) as options:
            if subresource == "binding":
                await self._registry.bind(obj, namespace, meta.name(obj), options)
                return obj
            if subresource == "eviction":
                await self._registry.evict(obj, namespace, meta.name(obj), options)
                return obj
            if subresource:
                raise errors.method_not_allowed(f"{kind.resource}/{subresource} cannot be created")
            return (await self._registry.create(kind, meta.copy(obj), namespace, options)).object

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        await self._check("update", kind, meta.namespace(obj), meta.name(obj), subresource)
        async with self._writing(kind) as options:
            done = await self._registry.update(
                kind,
                meta.copy(obj),
                meta.namespace(obj),
                meta.name(obj),
                options,
                subresource,
            )
        return done.object

    async def patch(
        self,
        kind: Kind,
        name: str,
        patch: JSON,
        namespace: str | None = None,
        *,
        type: PatchType = "merge",
        subresource: str = "",
        field_manager: str = "",
        force: bool = False,
    ) -> Object:
        await self._check("patch", kind, namespace, name, subresource)
        async with self._writing(kind, field_manager, force) as options:
            done, _ = await patching.run(
                self._registry, kind, name, namespace or "", type, patch, options, subresource
            )
        return done.object

    async def delete(
        self,
        kind: Kind,
        name: str,
        namespace: str | None = None,
        *,
        propagation: Propagation | None = None,
        grace_period: int | None = None,
        uid: str = "",
        resource_version: str = "",
    ) -> None:
        await self._check("delete", kind, namespace, name)
        leave = await self._registry.levels.enter(kind, self._user, inside=True)
        options = DeleteOptions(
            leave=leave,
            user=self._user,
            fence=self._fence,
            propagation=propagation,
            grace_period=grace_period,
            uid=uid,
            resource_version=resource_version,
        )
        try:
            await self._registry.delete(kind, name, namespace or "", options)
        finally:
            leave()

    @contextlib.asynccontextmanager
    async def _writing(
        self, kind: Kind, field_manager: str = "", force: bool = False
    ) -> AsyncIterator[WriteOptions]:
        """A place among the writes under way."""
        leave = await self._registry.levels.enter(kind, self._user, inside=True)
        try:
            yield WriteOptions(
                field_manager=field_manager or self._manager,
                force=force,
                user=self._user,
                fence=self._fence,
                leave=leave,
            )
        finally:
            leave()


def bookmark(kind: Kind, revision: int) -> Object:
    """The object of a BOOKMARK event: it only says how far the watcher has come."""
    return {
        "kind": kind.kind,
        "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": str(revision)},
    }
