"""The Client Protocol: the one seam between the API and everything that acts on it.

On a server the daemon hands out the in-process form (`control.apiserver`), elsewhere the HTTP one
(`client.http`): the rooms cannot tell. Every failure is an `api.errors.ApiError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object

PatchType = Literal["json", "merge", "strategic", "apply"]
Propagation = Literal["Background", "Foreground", "Orphan"]
EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class ObjectList:
    """A page of objects, all as of `resource_version`."""

    items: list[Object]
    resource_version: str
    continue_token: str = ""
    """Pass it back for the next page; empty on the last one."""


class WatchEvent(NamedTuple):
    """One change, or a BOOKMARK whose object holds only a resourceVersion."""

    type: EventType
    object: Object


class Client(Protocol):
    """CRUD and watch over any kind.

    Objects that come back are shared with caches: copy before changing one. `namespace=None`
    means all namespaces (list, watch) or a cluster-scoped kind. `labels` and `fields` are selectors
    in the API's own syntax (`app=web,tier in (a,b)`; `spec.nodeName=n1`).
    """

    async def get(
        self, kind: Kind, name: str, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """Raises `ApiError` 404 where it does not exist."""
        ...

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
    ) -> ObjectList: ...

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
        """Changes after `resource_version`, as they come. Ends when the server ends it; raises
        `ApiError` 410 where the version is too old (list again)."""
        ...

    async def create(
        self, kind: Kind, obj: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        """`namespace` defaults to the object's own. With a sub-resource (`binding`, `eviction`),
        the object's name says whose."""
        ...

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        """Replaces; raises `ApiError` 409 where the object's resourceVersion is not the current."""
        ...

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
    ) -> Object: ...

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
        """`uid` and `resource_version` are preconditions: `ApiError` 409 where they do not hold."""
        ...
