"""The store's Protocol: a key-value space in which every change gets the next global revision.

The model is etcd's (its v3 API documentation): one counter for the whole store, each write moves
it by one, a range can be read as it was at any kept revision, and a watch sends every change after
a revision, in order and without gaps, or says that it cannot.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class KeyValue:
    """One key as it stood at `mod_revision`."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change. For a deletion `kv` holds the last value, with the deletion's own revision as
    `mod_revision`."""

    kv: KeyValue
    deleted: bool
    previous: KeyValue | None
    """What the key held before: None when this event created it."""


@dataclass(frozen=True, slots=True)
class WatchBatch:
    """Events in revision order, and the revision up to which the watcher has now seen everything.

    A batch without events is progress: nothing under the prefix changed up to `revision`.
    """

    events: tuple[Event, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class RangeResult:
    """One page of a range, all of it as of `revision`."""

    kvs: tuple[KeyValue, ...]
    revision: int
    remaining: int
    """Keys of the range after this page: 0 on the last one."""


@dataclass(frozen=True, slots=True)
class Write:
    """One key of a transaction. `value` None deletes it. It must be at `revision`: 0 means absent,
    and None, which only a deletion may say, whatever it is at, also absent."""

    key: str
    value: bytes | None
    revision: int | None


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold for a transaction besides its own keys: this key has this value, or (None) is
    at this revision. A leader names its term so: what it sends too late is refused."""

    key: str
    value: bytes | None = None
    revision: int = 0

    def holds(self, found: KeyValue | None) -> bool:
        """Whether that is what the key holds."""
        if found is None:
            return False
        if self.value is not None:
            return found.value == self.value
        return found.mod_revision == self.revision


class StoreError(Exception):
    """Any failure of the store."""


class StoreUnavailable(StoreError):
    """The store cannot answer now (no quorum, disk failed, closed). `unknown`: whether the write
    took effect is not known; else it certainly did not."""

    def __init__(self, message: str, *, unknown: bool = False) -> None:
        super().__init__(message)
        self.unknown = unknown


class StoreFull(StoreUnavailable):
    """No space is left: nothing was written, and reads go on."""


class TooLarge(StoreError):
    """More than a store takes in one write: nothing was written."""


class _Differs(StoreError):
    """A key is not at the expected revision: `current` is what it holds, None when absent."""

    def __init__(self, key: str, current: KeyValue | None) -> None:
        super().__init__(f"{key} is at revision {current.mod_revision if current else 0}")
        self.key = key
        self.current = current


class KeyExists(_Differs):
    """A key that had to be absent is there."""


class RevisionMismatch(_Differs):
    """A key that had to be at a revision is absent or at another one."""


class GuardFailed(_Differs):
    """A guard does not hold: its key is another one, or absent."""


class Compacted(StoreError):
    """The revision asked for is older than what is kept: `oldest` is the first one that is."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"revision {asked} is compacted; the oldest kept is {oldest}")
        self.oldest = oldest


def judge(write: Write, found: KeyValue | None) -> None:
    """Raises `KeyExists` and `RevisionMismatch` where the key is not at the write's revision."""
    if write.revision is None:
        return
    if not write.revision and write.value is not None:
        if found is not None:
            raise KeyExists(write.key, found)
    elif found is None or found.mod_revision != write.revision:
        raise RevisionMismatch(write.key, found)


class Store(Protocol):
    """What every backend does. A write's coroutine returns only once it is durable."""

    async def revision(self) -> int:
        """The store's current revision; 0 when nothing was ever written."""
        ...

    async def get(self, key: str) -> KeyValue | None:
        """The key's current value."""
        ...

    async def range(
        self, prefix: str, *, start_after: str = "", limit: int = 0, revision: int = 0
    ) -> RangeResult:
        """Keys that begin with `prefix`, in order, after the key `start_after`, at most `limit`
        (0: all), as of `revision` (0: now). Raises `Compacted`."""
        ...

    async def create(self, key: str, value: bytes) -> KeyValue:
        """Writes a key that must not exist. Raises `KeyExists`."""
        ...

    async def update(self, key: str, value: bytes, revision: int) -> KeyValue:
        """Replaces the value of a key that must be at `revision`. Raises `RevisionMismatch`."""
        ...

    async def delete(self, key: str, revision: int) -> KeyValue:
        """Deletes a key that must be at `revision`; returns its last value with the deletion's
        revision as `mod_revision`. Raises `RevisionMismatch`."""
        ...

    async def transact(self, writes: Sequence[Write], guards: Sequence[Guard] = ()) -> KeyValue:
        """Makes all of these writes, or none: each key once, at most `limits.MOST_WRITES`. Returns
        what became of the first one, which names a revision (as `create`, `update` or `delete`
        would). Readers see all or none; watchers are told of each key. Raises `KeyExists`,
        `RevisionMismatch` or `GuardFailed`, in this order, for the first that does not hold."""
        ...

    def watch(self, prefix: str, after: int) -> AsyncIterator[WatchBatch]:
        """Every change under `prefix` with a revision above `after`, then as they come, until the
        iterator is closed. Raises `Compacted` where `after` is too old, also later, to a consumer
        that has fallen too far behind; `StoreUnavailable` when the backend is lost."""
        ...

    async def compact(self, revision: int) -> None:
        """Forgets what is only needed to read or watch from before `revision`."""
        ...

    async def aclose(self) -> None:
        """Finishes what was accepted and releases everything; safe to call twice."""
        ...
