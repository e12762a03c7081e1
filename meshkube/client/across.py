"""A Client for a loop in another thread: every call runs on the loop where the real one lives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from typing import Any, TypeVar

from meshkube.api.kinds import Kind
from meshkube.api.types import JSON, Object
from meshkube.client.base import Client, ObjectList, PatchType, Propagation, WatchEvent

T = TypeVar("T")

AHEAD = 1000
"""Events a watch may be ahead of who reads them."""
PAUSE = 0.02


class AcrossClient:
    """`client.base.Client` over `client`, which lives on the loop `home`.

    The objects themselves are shared by both threads, which is safe because nobody changes one.
    """

    def __init__(self, client: Client, home: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._home = home

    async def _there(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._home))

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        return await self._there(self._client.get(kind, name, namespace))

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
        return await self._there(
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
        events = self._client.watch(
            kind,
            namespace,
            labels=labels,
            fields=fields,
            resource_version=resource_version,
            bookmarks=bookmarks,
        )
        crossing = _Crossing(asyncio.get_running_loop())
        pump = asyncio.run_coroutine_threadsafe(crossing.pump(events), self._home)
        try:
            while True:
                for event in await crossing.take():
                    yield event
                if crossing.over:
                    if crossing.failure is not None:
                        raise crossing.failure
                    return
        finally:
            pump.cancel()

    async def create(
        self, kind: Kind, obj: Object, namespace: str | None = None, *, subresource: str = ""
    ) -> Object:
        return await self._there(self._client.create(kind, obj, namespace, subresource=subresource))

    async def update(self, kind: Kind, obj: Object, *, subresource: str = "") -> Object:
        return await self._there(self._client.update(kind, obj, subresource=subresource))

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
        return await self._there(
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
        await self._there(
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


class _Crossing:
    """The events of one watch on their way to the other loop; a burst of them is one wake-up."""

    def __init__(self, reader: asyncio.AbstractEventLoop) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._events: list[WatchEvent] = []
        self._told = False
        self._some = asyncio.Event()
        self._ended = False
        self.failure: Exception | None = None

    @property
    def over(self) -> bool:
        """The watch has ended and every event of it was taken."""
        return self._ended and not self._events

    async def pump(self, events: AsyncIterator[WatchEvent]) -> None:
        """On the loop of the client: moves every event over, and how the watch ended."""
        try:
            async for event in events:
                with self._lock:
                    self._events.append(event)
                self._tell()
                # The reader is in another thread: an Event of this loop is not for it to set.
                while len(self._events) >= AHEAD:  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE)
        except Exception as error:
            self.failure = error
        finally:
            close = getattr(events, "aclose", None)
            if close is not None:
                await close()
            self._ended = True
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            told, self._told = self._told, True
        if not told:
            # The reader's loop may have closed: nobody reads then.
            with contextlib.suppress(RuntimeError):
                self._reader.call_soon_threadsafe(self._some.set)

    async def take(self) -> list[WatchEvent]:
        """On the reader's loop: what has come, in order; maybe nothing."""
        await self._some.wait()
        self._some.clear()
        with self._lock:
            taken, self._events, self._told = self._events, [], False
        return taken
