"""From one store to another, or to a snapshot and back: every key, as of one revision."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from meshkube.store import snapshot
from meshkube.store.base import RangeResult, Store, StoreError

PAGE = 500


@dataclass(frozen=True, slots=True)
class Copied:
    """What was copied, and from and to which revision."""

    keys: int
    bytes: int
    source_revision: int
    target_revision: int = 0


class Source(Protocol):
    """What can be read at a revision: any store."""

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """See `Store.range`."""
        ...


async def copy(source: Source, target: Store) -> Copied:
    """Raises `StoreError`; `target` must be empty."""
    await _require_empty(target)
    keys = size = revision = 0
    async for page in _pages(source):
        revision = page.revision
        await _write(target, ((kv.key, kv.value) for kv in page.kvs))
        keys += len(page.kvs)
        size += sum(len(kv.value) for kv in page.kvs)
    await _require_count(target, keys)
    newest = (await source.range("", limit=1)).revision
    if newest != revision:
        raise StoreError(
            f"what is copied was written to meanwhile (revision {revision} is copied, {newest} is"
            f" the newest): stop its servers, empty the target and copy again"
        )
    return Copied(keys, size, revision, await target.revision())


async def save(source: Source, file: Path) -> Copied:
    """Writes a snapshot. Raises `StoreError`."""
    size = 0
    async with contextlib.aclosing(_pages(source)) as pages:
        page: RangeResult | None = await anext(pages)
        assert page is not None
        revision = page.revision
        try:
            with snapshot.SnapshotWriter(file, revision) as writer:
                while page is not None:
                    for kv in page.kvs:
                        writer.add(kv)
                        size += len(kv.value)
                    page = await anext(pages, None)
        except OSError as error:
            raise StoreError(f"{file}: {error.strerror}") from None
    return Copied(writer.keys, size, revision)


async def load(file: Path, target: Store) -> Copied:
    """Fills an empty store from a snapshot. Raises `StoreError`."""
    await _require_empty(target)
    found = snapshot.check(file)
    size = 0
    pairs = snapshot.read(file)
    while page := list(islice(pairs, PAGE)):
        await _write(target, page)
        size += sum(len(value) for _, value in page)
    await _require_count(target, found.keys)
    return Copied(found.keys, size, found.revision, await target.revision())


async def _pages(source: Source) -> AsyncGenerator[RangeResult, None]:
    page = await source.range("", limit=PAGE)
    yield page
    while page.remaining:
        page = await source.range(
            "", start_after=page.kvs[-1].key, limit=PAGE, revision=page.revision
        )
        yield page


async def _write(target: Store, pairs: Iterable[tuple[str, bytes]]) -> None:
    """Side by side."""
    creates = (target.create(key, value) for key, value in pairs)
    for outcome in await asyncio.gather(*creates, return_exceptions=True):
        if isinstance(outcome, StoreError):
            raise StoreError(f"{outcome}; the target holds a part: empty it before the next try")
        if isinstance(outcome, BaseException):
            raise outcome


async def _require_empty(target: Store) -> None:
    found = await target.range("", limit=1)
    if found.kvs:
        raise StoreError(
            f"the target is not empty: it holds {1 + found.remaining} keys, and nothing was written"
        )


async def _require_count(target: Store, keys: int) -> None:
    found = await target.range("", limit=1)
    held = len(found.kvs) + found.remaining
    if held != keys:
        raise StoreError(f"the target holds {held} keys instead of {keys}: who else writes to it?")
