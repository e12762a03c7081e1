"""A Client for a loop in another thread: every call runs on the loop where the real one lives."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine
from typing import Any, TypeVar, cast

from meshkube.api.kinds import Kind
from meshkube.client.base import Client, WatchEvent
from meshkube.client.forwarding import ForwardingClient

T = TypeVar("T")

AHEAD = 1000
"""Events a watch may be ahead of who reads them."""
PAUSE = 0.02


class AcrossClient(ForwardingClient):
    """`client.base.Client` over `client`, which lives on the loop `home`.

    The objects themselves are shared by both threads, which is safe because nobody changes one.
    """

    def __init__(self, client: Client, home: asyncio.AbstractEventLoop) -> None:
        super().__init__(client)
        self._home = home

    async def _done(self, call: Awaitable[T]) -> T:
        # Every call of a Client is a coroutine that has not begun.
        work = cast(Coroutine[Any, Any, T], call)
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._home))

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
        events = super().watch(
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
