"""A watch on etcd that lives on: through the end of its member, silence, and compactions meanwhile.

It covers all the data of the store and drops here what is not under its prefix, so every change
tells how far it has seen. What waits for a slow consumer waits in etcd: we read no faster.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable

from meshkube.store import etcd_wire as wire
from meshkube.store.base import (
    Compacted,
    Event,
    StoreError,
    StoreUnavailable,
    WatchBatch,
)
from meshkube.store.etcd_client import Broken, EtcdClient, Stream, Unreachable
from meshkube.store.etcd_faults import EtcdError, Fault
from meshkube.store.etcd_wire import Answer, Head, Layout

log = logging.getLogger(__name__)

# A stream that is silent for this long is compared with what the store says its revision is.
SILENCE = 1.0
LONGEST_SILENCE = 30.0
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 2.0
# Streams that fail in a row before somebody is told: one may well end with its member.
LOSSES_TO_TELL = 3


class _TooOld(Exception):
    """etcd no longer has the revision to begin with."""

    def __init__(self, oldest: int) -> None:
        super().__init__(f"compacted up to {oldest}")
        self.oldest = oldest


class EtcdWatch:
    """One call of `Store.watch`. `closed` tells whether the store was closed in the meantime;
    `head` reads what the store is at."""

    def __init__(
        self,
        client: EtcdClient,
        layout: Layout,
        prefix: str,
        after: int,
        *,
        head: Callable[[], Awaitable[Head]],
        closed: Callable[[], bool],
    ) -> None:
        self._client = client
        self._layout = layout
        self._prefix = prefix
        self._after = after
        self._seen = after
        """Everything up to here was delivered."""
        self._start = max(after, 1)
        """Where etcd is to begin: one before what is new, since a deletion at the very revision
        of a compaction is lost, and 0 would mean now."""
        self._head = head
        self._closed = closed
        self._silence = SILENCE
        self._held: list[Event] = []
        self._losses = 0

    async def batches(self) -> AsyncGenerator[WatchBatch, None]:
        """`Store.watch`."""
        yield WatchBatch((), self._seen)
        while True:
            try:
                async with self._client.stream(
                    wire.WATCH, self._layout.watch(self._start)
                ) as stream:
                    while (answers := await self._read(stream)) is not None:
                        for answer in answers:
                            if batch := self._take(answer):
                                yield batch
            except _TooOld as error:
                await self._skip(error.oldest)
            except (EtcdError, Unreachable, Broken) as error:
                self._check_open()
                self._lost(error)
                pause = min(FIRST_PAUSE * 2**self._losses, LONGEST_PAUSE)
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            self._held.clear()
            self._start = max(self._start, self._seen)

    async def _read(self, stream: Stream) -> list[Answer] | None:
        """The next answers; None where this stream is to be left for another one."""
        expected = self._seen
        while True:
            try:
                async with asyncio.timeout(self._silence):
                    return await stream.read()
            except TimeoutError:
                self._check_open()
            # It has lived for a while.
            self._losses = 0
            if self._client.member != stream.member:
                return None
            if expected > self._seen:
                # Its member has no news of what others have long known.
                self._silence = min(self._silence * 2, LONGEST_SILENCE)
                self._client.failed(stream.member, "its watch lags behind")
                return None
            try:
                head = await self._head()
            except StoreUnavailable:
                # Nobody knows better: the cluster has no quorum.
                expected = self._seen
                continue
            if head.cluster < self._seen:
                # It was restored from a backup: what we have seen is no longer its history.
                raise Compacted(self._seen, head.cluster)
            expected = head.revision

    def _take(self, answer: Answer) -> WatchBatch | None:
        if answer.get("canceled"):
            raise _cancelled(answer)
        if not answer.get("events"):
            return None
        events = self._held
        for one in answer["events"]:
            event = self._layout.read_event(one)
            revision = int(one["kv"]["mod_revision"])
            if revision <= self._seen:
                continue
            if event is None:
                raise Compacted(self._seen, revision)
            events.append(event)
        self._held = []
        if answer.get("fragment") and events:
            # The next fragment may begin with more of the same revision.
            last = events[-1].kv.mod_revision
            self._held = [event for event in events if event.kv.mod_revision == last]
            events = [event for event in events if event.kv.mod_revision < last]
        if not events:
            return None
        self._silence = SILENCE
        self._losses = 0
        self._seen = events[-1].kv.mod_revision
        prefix = self._prefix
        matching = tuple(event for event in events if event.kv.key.startswith(prefix))
        return WatchBatch(matching, self._seen)

    async def _skip(self, oldest: int) -> None:
        """Goes on behind a compaction where it cost us nothing. Raises `Compacted`."""
        while True:
            try:
                head = await self._head()
                break
            except StoreUnavailable as error:
                self._check_open()
                self._lost(error)
        if head.revision <= self._seen:
            # The revision was moved by others: nothing of ours has changed since.
            self._start = head.cluster + 1
        elif self._seen < head.created - 1 >= oldest:
            # Nothing of ours is older than that.
            self._start = head.created - 1
        else:
            raise Compacted(self._seen, oldest)

    def _lost(self, error: Exception) -> None:
        if isinstance(error, EtcdError) and error.fault in (Fault.TOKEN, Fault.REFUSED):
            self._client.forget_token()
        self._losses = min(self._losses + 1, 16)
        if self._losses == LOSSES_TO_TELL:
            log.warning(
                "a watch of the store is interrupted",
                extra={"reason": str(error), "revision": self._seen},
            )

    def _check_open(self) -> None:
        if self._closed():
            raise StoreUnavailable("the store is closed")


def _cancelled(answer: Answer) -> Exception:
    oldest = int(answer.get("compact_revision", 0))
    if oldest:
        return _TooOld(oldest)
    reason = str(answer.get("cancel_reason") or "etcd cancelled the watch")
    if "permission denied" in reason:
        return EtcdError(Fault.REFUSED, reason)
    return EtcdError(Fault.UNKNOWN, reason)


async def oldest_revision(client: EtcdClient, layout: Layout) -> int:
    """The oldest revision that etcd can still read; 0 when nothing was compacted. A watch from the
    beginning is refused with it, and no other answer holds it."""
    for _ in range(5):
        try:
            async with client.stream(wire.WATCH, layout.watch(1)) as stream, asyncio.timeout(2.0):
                while True:
                    for answer in await stream.read():
                        if answer.get("canceled"):
                            return int(answer.get("compact_revision", 0))
                        if answer.get("events"):
                            return 0
        except (EtcdError, Unreachable, Broken) as error:
            client.failed(client.member, str(error))
            await asyncio.sleep(FIRST_PAUSE)
        except TimeoutError:
            return 0
    raise StoreError("etcd does not say which revision is the oldest")
