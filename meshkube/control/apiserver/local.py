"""The in-process Client: the registry without HTTP and without JSON round trips."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from meshkube.api import errors, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.client.base import ObjectList, PatchType, Propagation, WatchEvent
from meshkube.control.apiserver import patching
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry

BOOKMARK_SECONDS = 60.0


class LocalClient:
    """`client.base.Client` over a registry in this process. What it returns is shared."""

    def __init__(self, registry: Registry, user: str = "system:apiserver") -> None:
        self._registry = registry
        self._user = user

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return (await self._registry.get(kind, name, namespace or "")).object

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
        items = [item.object for item in found.items]
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
        query = Query(
            kind, namespace, labels=labels, fields=fields, resource_version=resource_version
        )
        watcher = await self._registry.watch(query)
        try:
            while True:
                notices = await watcher.take(BOOKMARK_SECONDS if bookmarks else None)
                for notice in notices:
                    yield WatchEvent(notice.type, notice.cached.object)
                if watcher.ended:
                    return
                if not notices and bookmarks:
                    yield WatchEvent("BOOKMARK", bookmark(kind, self._registry.feed.revision))
        finally:
            watcher.close()

    async def create(
        self, kind: Kind, obj: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        namespace = namespace or meta.namespace(obj)
        if subresource == "binding":
            await self._registry.bind(obj, namespace, meta.name(obj), self._options())
            return obj
        if subresource == "eviction":
            delete = DeleteOptions.of(obj.get("deleteOptions") or {})
            await self._registry.delete(kind, meta.name(obj), namespace, delete)
            return obj
        if subresource:
            raise errors.method_not_allowed(f"{kind.resource}/{subresource} cannot be created")
        made = await self._registry.create(kind, meta.copy(obj), namespace, self._options())
        return made.object

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        done = await self._registry.update(
            kind,
            meta.copy(obj),
            meta.namespace(obj),
            meta.name(obj),
            self._options(),
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
        options = self._options(field_manager, force)
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
        options = DeleteOptions(
            propagation=propagation,
            grace_period=grace_period,
            uid=uid,
            resource_version=resource_version,
        )
        await self._registry.delete(kind, name, namespace or "", options)

    def _options(self, field_manager: str = "", force: bool = False) -> WriteOptions:
        manager = field_manager or self._user.rpartition(":")[2]
        return WriteOptions(field_manager=manager, force=force)


def bookmark(kind: Kind, revision: int) -> Object:
    """The object of a BOOKMARK event: it only says how far the watcher has come."""
    return {
        "kind": kind.kind,
        "apiVersion": kind.api_version,
        "metadata": {"resourceVersion": str(revision)},
    }
