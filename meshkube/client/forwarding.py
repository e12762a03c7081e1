"""A Client in front of another one: the base of those that add something to every call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from typing import TypeVar

from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.client.base import Client, ObjectList, PatchType, Propagation, WatchEvent

T = TypeVar("T")


class ForwardingClient:
    """`client.base.Client` that hands every call on to `client`. What a subclass adds goes into
    `_done`, `_wrote` and `_deleted`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def _done(self, call: Awaitable[T]) -> T:
        """How a call of the client is waited for."""
        return await call

    def _wrote(self, kind: Kind, stored: Object) -> None:
        """An object was created, updated or patched; not where a sub-resource was created."""

    def _deleted(self, kind: Kind, name: str, namespace: str | None, uid: str) -> None:
        """An object was deleted."""

    async def get(
        self, kind: Kind, name: str, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        call = self._client.get(kind, name, namespace, subresource=subresource)
        return await self._done(call)

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
        return await self._done(
            self._client.list(
                kind,
                namespace,
                labels=labels,
                fields=fields,
                limit=limit,
                continue_token=continue_token,
                resource_version=resource_version,
            )
        )

    def watch(
        self,
        kind: Kind,
        namespace: str | None = None,
        *,
        labels: str = "",
        fields: str = "",
        resource_version: str = "",
        bookmarks: bool = True,
    ) -> AsyncIterator[WatchEvent]:
        return self._client.watch(
            kind,
            namespace,
            labels=labels,
            fields=fields,
            resource_version=resource_version,
            bookmarks=bookmarks,
        )

    async def create(
        self, kind: Kind, obj: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        made = await self._done(self._client.create(kind, obj, namespace, subresource=subresource))
        if not subresource:
            self._wrote(kind, made)
        return made

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        stored = await self._done(self._client.update(kind, obj, subresource=subresource))
        self._wrote(kind, stored)
        return stored

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
        stored = await self._done(
            self._client.patch(
                kind,
                name,
                patch,
                namespace,
                type=type,
                subresource=subresource,
                field_manager=field_manager,
                force=force,
            )
        )
        self._wrote(kind, stored)
        return stored

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
        await self._done(
            self._client.delete(
                kind,
                name,
                namespace,
                propagation=propagation,
                grace_period=grace_period,
                uid=uid,
                resource_version=resource_version,
            )
        )
        self._deleted(kind, name, namespace, uid)
