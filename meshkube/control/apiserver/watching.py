"""A watcher: what one client has yet to be told, bounded, with one wait for more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from meshkube.control.apiserver.cache import Cached, Change, Notice, ResourceCache, Selection
from meshkube.control.apiserver.turns import in_turns

BACKLOG = 16_384
BACKLOG_BYTES = 64 * 1024 * 1024
"""What may wait for a slow watcher beside what it started with. Beyond it is cut off: it resumes
from where it was, or lists again."""

View = Callable[[Cached], Cached]


class Watcher:
    """Collects notices from a cache from its creation until `close`."""

    def __init__(
        self, cache: ResourceCache, selection: Selection, view: View | None = None
    ) -> None:
        self._cache = cache
        self._selection = selection
        self._view = view
        self._backlog: list[Notice] = []
        self._bytes = 0
        self._room = BACKLOG
        self._waiter: asyncio.Future[None] | None = None
        self.ended = False
        self.on_overrun: Callable[[], None] | None = None
        """Called when the watcher is cut off for being too slow."""
        self.on_news: Callable[[], None] | None = None
        """Called when something waits again after nothing did, unless somebody is in `take`."""
        cache.add(self, selection.topic)

    async def start_with(self, first: Sequence[Notice]) -> None:
        """What comes before all that was collected so far. Before anything is taken."""
        if self._view is not None:
            seen: list[Notice] = []
            async for some in in_turns(first):
                seen += map(self._seen, some)
            first = seen
        self._room += len(first)
        self._backlog[:0] = first

    def tell(self, change: Change) -> None:
        notice = self._selection.notice(change)
        if notice is None:
            return
        self._add(notice)
        if len(self._backlog) > self._room or self._bytes > BACKLOG_BYTES:
            self._overrun()

    def _overrun(self) -> None:
        self.end()
        if self.on_overrun is not None:
            self.on_overrun()

    def _add(self, notice: Notice) -> None:
        notice = self._seen(notice)
        self._backlog.append(notice)
        self._bytes += len(notice.cached.raw)
        self._cache.told += 1
        if len(self._backlog) == 1:
            self._wake()

    def _seen(self, notice: Notice) -> Notice:
        if self._view is None:
            return notice
        return Notice(notice.type, self._view(notice.cached))

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
        elif self.on_news is not None:
            self.on_news()

    @property
    def waiting(self) -> int:
        """Notices not yet taken."""
        return len(self._backlog)

    @property
    def size(self) -> int:
        """Bytes of what waits, but for what was there from the start."""
        return self._bytes

    async def take(self, timeout: float | None = None) -> list[Notice]:
        """Everything waiting; else waits for it up to `timeout` seconds. Empty after that, and
        once the watch has ended."""
        if not self._backlog and not self.ended:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = loop.call_later(timeout, self._wake) if timeout is not None else None
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        return self.taken()

    def taken(self) -> list[Notice]:
        """Everything waiting."""
        taken, self._backlog = self._backlog, []
        self._bytes, self._room = 0, BACKLOG
        return taken

    def end(self) -> None:
        """No more notices: what waits may still be taken."""
        self.ended = True
        self._cache.remove(self, self._selection.topic)
        self._wake()

    def close(self) -> None:
        """Ends, and forgets what waits."""
        self.end()
        self._backlog = []
