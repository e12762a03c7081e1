"""Fan-out of new events to the watchers of this process. Everything here runs on the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from meshkube.store.base import Event, StoreError

# Events that wait for one slow consumer. Above that they are dropped, and it reads the log instead.
LONGEST_QUEUE = 4096
# A watcher with nothing to see learns of the newest revision this many seconds late at most.
PROGRESS_SECONDS = 0.1


class Watcher:
    """One consumer's queue of the events under its prefix."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._events: list[Event] = []
        self._revision = 0
        self._told = 0
        self._overrun = False
        self._error: StoreError | None = None
        self._waiter: asyncio.Future[None] | None = None

    def restart(self) -> None:
        """Empties the queue; from now on it collects again."""
        self._events.clear()
        self._overrun = False

    async def take(self) -> tuple[list[Event], int] | None:
        """Waits for news: events, and the revision up to which they are complete. None when some
        had to be dropped: read the log from where you are. Raises what `fail` was given."""
        while True:
            if self._error is not None:
                raise self._error
            if self._overrun:
                return None
            if self._events or self._revision > self._told:
                events, self._events = self._events, []
                self._told = self._revision
                return events, self._revision
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def offer(self, events: Sequence[Event], revision: int) -> bool:
        """Queues what is under the prefix; True when that was something."""
        prefix = self._prefix
        matching = [event for event in events if event.kv.key.startswith(prefix)]
        self._revision = revision
        if not matching or self._overrun:
            return False
        if len(self._events) + len(matching) > LONGEST_QUEUE:
            self.overrun()
        else:
            self._events += matching
            self.wake()
        return True

    def overrun(self) -> None:
        """Drops the queue: the consumer must read the log."""
        self._events.clear()
        self._overrun = True
        self.wake()

    def fail(self, error: StoreError) -> None:
        """Ends the watch with an error."""
        self._error = error
        self.wake()

    def wake(self) -> None:
        """Lets a waiting `take` look again."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Broadcaster:
    """All watchers of one store."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watchers: set[Watcher] = set()
        self._progress: asyncio.TimerHandle | None = None

    def add(self, prefix: str) -> Watcher:
        """A new watcher, which sees what is sent from now on."""
        watcher = Watcher(prefix)
        self._watchers.add(watcher)
        return watcher

    def remove(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)

    def send(self, events: Sequence[Event], revision: int) -> None:
        """Offers new events to every watcher; those with nothing to see hear of `revision` soon."""
        idle = False
        for watcher in self._watchers:
            idle = not watcher.offer(events, revision) or idle
        if idle and self._progress is None:
            self._progress = self._loop.call_later(PROGRESS_SECONDS, self._tell_progress)

    def overrun(self) -> None:
        """Sends every watcher to the log: events may be there that were never sent."""
        for watcher in self._watchers:
            watcher.overrun()

    def close(self, error: StoreError) -> None:
        """Ends every watch with `error`."""
        if self._progress is not None:
            self._progress.cancel()
        for watcher in self._watchers:
            watcher.fail(error)

    def _tell_progress(self) -> None:
        self._progress = None
        for watcher in self._watchers:
            watcher.wake()
