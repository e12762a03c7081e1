"""The store on etcd, for several servers: each write is one transaction of etcd's.

See docs/store.md for the reasons. Revisions are etcd's own. The store keeps nothing in memory but
the watches of its callers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from pathlib import Path

from meshkube.store import etcd_options, limits
from meshkube.store import etcd_wire as wire
from meshkube.store.base import (
    Compacted,
    Guard,
    GuardFailed,
    KeyValue,
    RangeResult,
    StoreError,
    StoreFull,
    StoreUnavailable,
    WatchBatch,
    Write,
    judge,
)
from meshkube.store.etcd_client import EtcdClient, Outdated
from meshkube.store.etcd_compaction import Compactor, compact
from meshkube.store.etcd_options import EtcdOptions
from meshkube.store.etcd_watch import EtcdWatch, oldest_revision
from meshkube.store.etcd_wire import Answer, Head, Layout
from meshkube.store.telemetry import COMMIT_SECONDS, WRITES

log = logging.getLogger(__name__)

# A page of a long range is to be about this large as JSON.
PAGE_BYTES = 4 * 1024 * 1024
FIRST_PAGE = 500
LARGEST_PAGE = 4000


class EtcdStore:
    """`store.base.Store` on an etcd cluster. Use it on the event loop that opened it."""

    def __init__(self, options: EtcdOptions, client: EtcdClient) -> None:
        """Use `open`."""
        self._name = options.name
        self._client = client
        self._layout = Layout(options.prefix)
        self._compactor = Compactor(client, self._layout, options.keep_seconds)
        self._closed = False
        self._accepted = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._asking: asyncio.Task[int | StoreError] | None = None
        self._next: asyncio.Task[int | StoreError] | None = None
        self._started = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        # Owns every other task of the store; `aclose` ends it.
        self._main = asyncio.get_running_loop().create_task(self._run(), name="etcd-store")

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        ca: Path | None = None,
        cert: Path | None = None,
        key: Path | None = None,
        user: str = "",
        password: str = "",
        keep_seconds: float = 300.0,
    ) -> EtcdStore:
        """The store at `etcd://host:port,host:port[/prefix]` (see `etcd_options`). An etcd that
        does not answer yet is no error; raises `StoreError` with one line for what will not get
        better: a bad URL, TLS files that cannot be read, a user that etcd refuses."""
        try:
            options = etcd_options.parse(
                url,
                ca=ca,
                cert=cert,
                key=key,
                user=user,
                password=password,
                keep_seconds=keep_seconds,
            )
        except ValueError as error:
            raise StoreError(str(error)) from None
        client = EtcdClient(options, await asyncio.to_thread(options.ssl_context))
        store = cls(options, client)
        await store._started.wait()
        try:
            await store.revision()
        except StoreUnavailable as error:
            log.warning("the store does not answer yet", extra={"reason": str(error)})
        except BaseException:
            await store.aclose()
            raise
        return store

    async def revision(self) -> int:
        """Linearizable: all that was acknowledged before the call counts, whoever wrote it."""
        with self._accept():
            found = await asyncio.shield(self._ask())
        if isinstance(found, StoreError):
            raise found
        return found

    async def get(self, key: str) -> KeyValue | None:
        with self._accept():
            return self._layout.read_get(await self._client.read(wire.RANGE, self._layout.get(key)))

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        with self._accept():
            try:
                return await self._range(prefix, start_after, limit, revision)
            except Outdated:
                oldest = await oldest_revision(self._client, self._layout)
                raise Compacted(revision, oldest) from None

    async def create(self, key: str, value: bytes) -> KeyValue:
        return await self.transact([Write(key, value, 0)])

    async def update(self, key: str, value: bytes, revision: int) -> KeyValue:
        return await self.transact([Write(key, value, revision or -1)])

    async def delete(self, key: str, revision: int) -> KeyValue:
        return await self.transact([Write(key, None, revision)])

    async def transact(self, writes: Sequence[Write], guards: Sequence[Guard] = ()) -> KeyValue:
        limits.check(writes, guards)
        try:
            answer = await self._write(self._layout.transact(writes, guards))
        except StoreFull:
            # A full etcd still deletes, though it puts no head; other servers see it a bit later.
            if any(write.value is not None for write in writes):
                raise
            answer = await self._write(self._layout.transact(writes, guards, head=False))
        if answer.get("succeeded"):
            return self._layout.read_first(writes[0], answer)
        found = self._layout.read_refused(answer)
        for write, current in zip(writes, found, strict=False):
            judge(write, current)
        for guard, held in zip(guards, found[len(writes) :], strict=True):
            if not guard.holds(held):
                raise GuardFailed(guard.key, held)
        raise StoreUnavailable(f"{self._name}: refused a transaction for no reason")

    async def watch(self, prefix: str, after: int) -> AsyncGenerator[WatchBatch, None]:
        """`Store.watch`. Close it (`contextlib.aclosing`) when done. It outlives the loss of
        members and of quorum: `StoreUnavailable` means that the store was closed."""
        self._check_open()
        watch = EtcdWatch(
            self._client,
            self._layout,
            prefix,
            after,
            head=self._head,
            closed=lambda: self._closed,
        )
        async with contextlib.aclosing(watch.batches()) as batches:
            async for batch in batches:
                yield batch

    async def compact(self, revision: int) -> None:
        """`Store.compact`, of the whole etcd cluster; a revision not reached yet means the
        current one."""
        with self._accept():
            head = await self._head()
            revision = min(revision, head.cluster)
            if revision > 0:
                await compact(self._client, revision)

    async def aclose(self) -> None:
        self._closed = True
        await self._idle.wait()
        self._main.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._main
        await self._client.aclose()

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._started.set()
            await self._compactor.run()

    async def _head(self) -> Head:
        answer = await self._client.read(wire.RANGE, self._layout.head())
        return self._layout.read_head(answer)

    def _ask(self) -> asyncio.Task[int | StoreError]:
        """The read of the revision to wait for. One that has begun may have looked too early for
        who comes now; all of those share the next one."""
        if self._next is not None:
            return self._next
        assert self._group is not None
        if self._asking is not None and not self._asking.done():
            self._next = self._group.create_task(self._read_revision(self._asking))
            return self._next
        self._asking = self._group.create_task(self._read_revision(None))
        return self._asking

    async def _read_revision(
        self, before: asyncio.Task[int | StoreError] | None
    ) -> int | StoreError:
        if before is not None:
            await asyncio.wait([before])
            self._asking, self._next = self._next, None
        try:
            return (await self._head()).revision
        except StoreError as error:
            return error

    async def _range(self, prefix: str, start_after: str, limit: int, revision: int) -> RangeResult:
        """In pages, all as of the first one's moment."""
        kvs: list[KeyValue] = []
        size = FIRST_PAGE
        found = 0
        pinned = revision
        while True:
            bite = min(size, limit - len(kvs)) if limit else size
            body = self._layout.range(prefix, start_after, bite, pinned)
            answer, length = await self._client.read_sized(wire.TXN, body)
            page, head = self._layout.read_range(answer)
            if revision > head.cluster:
                raise StoreError(
                    f"revision {revision} is not reached yet; the newest is {head.revision}"
                )
            if not pinned:
                found, pinned = head.revision, head.cluster
            kvs += page.kvs
            if not page.remaining or len(kvs) == limit:
                return RangeResult(tuple(kvs), revision or found, page.remaining)
            start_after = kvs[-1].key
            size = min(LARGEST_PAGE, max(1, bite * PAGE_BYTES // max(1, length)))

    async def _write(self, body: bytes) -> Answer:
        with self._accept():
            started = time.perf_counter()
            answer = await self._client.write(wire.TXN, body)
            if answer.get("succeeded"):
                COMMIT_SECONDS.observe(time.perf_counter() - started)
                WRITES.inc()
            return answer

    @contextlib.contextmanager
    def _accept(self) -> Iterator[None]:
        """What is inside is finished before the store closes."""
        self._check_open()
        self._accepted += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._accepted -= 1
            if not self._accepted:
                self._idle.set()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self._name}: the store is closed")
