"""Writers and watchers that go on while etcd members end, and what they have to agree on."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

from meshkube.store.base import Event, KeyValue, RevisionMismatch, Store, StoreUnavailable


@dataclass
class Load:
    """Keys that are written over and over, and all that was acknowledged, by revision."""

    store: Store
    acknowledged: dict[int, tuple[str, bytes | None]] = field(default_factory=dict)
    refused: int = 0

    async def write(self, key: str) -> None:
        """Counts up in `key`, and now and then deletes it, until cancelled."""
        current: KeyValue | None = None
        number = 0
        while True:
            number += 1
            value = b"%d" % number
            try:
                if current is None:
                    current = await self.store.create(key, value)
                    self._note(current.mod_revision, key, value)
                elif number % 7 == 0:
                    gone = await self.store.delete(key, current.mod_revision)
                    self._note(gone.mod_revision, key, None)
                    current = None
                else:
                    current = await self.store.update(key, value, current.mod_revision)
                    self._note(current.mod_revision, key, value)
            except StoreUnavailable:
                # Nobody knows whether it was done: look.
                self.refused += 1
                current = await self._look(key)
            except RevisionMismatch as error:
                raise AssertionError(f"somebody else wrote {key}") from error

    def _note(self, revision: int, key: str, value: bytes | None) -> None:
        assert revision not in self.acknowledged, "one revision was given twice"
        self.acknowledged[revision] = (key, value)

    async def _look(self, key: str) -> KeyValue | None:
        while True:
            try:
                # A write whose outcome is unknown may still come: whatever comes next must be
                # later than that, and a write of our own is.
                found = await self.store.get(key)
                if found is None:
                    return await self._settle_absent(key)
                settled = await self.store.update(key, b"settled", found.mod_revision)
            except (StoreUnavailable, RevisionMismatch):
                await asyncio.sleep(0.05)
            else:
                self._note(settled.mod_revision, key, b"settled")
                return settled

    async def _settle_absent(self, key: str) -> KeyValue | None:
        try:
            created = await self.store.create(key, b"settled")
        except Exception:
            raise RevisionMismatch(key, None) from None
        self._note(created.mod_revision, key, b"settled")
        return created


@dataclass
class Follower:
    """Everything one watch was told."""

    events: list[Event] = field(default_factory=list)
    revision: int = 0

    async def follow(self, store: Store, after: int) -> None:
        async with contextlib.aclosing(store.watch("/", after)) as watch:  # type: ignore[type-var]
            async for batch in watch:
                for event in batch.events:
                    assert event.kv.mod_revision > self.revision, "an event came twice"
                    self.revision = event.kv.mod_revision
                    self.events.append(event)
                self.revision = max(self.revision, batch.revision)

    async def reach(self, revision: int) -> None:
        async with asyncio.timeout(60):
            while self.revision < revision:
                await asyncio.sleep(0.01)


async def check(load: Load, followers: list[Follower]) -> None:
    """Every acknowledged write is there and in order, and every watch saw the same history, which
    adds up to what is stored."""
    # Writes whose writers were stopped may still come: they are later than this.
    revision = await load.store.revision()
    for follower in followers:
        await follower.reach(revision)
    history, *others = (
        [event for event in follower.events if event.kv.mod_revision <= revision]
        for follower in followers
    )
    for other in others:
        assert other == history
    seen = {e.kv.mod_revision: (e.kv.key, None if e.deleted else e.kv.value) for e in history}
    missing = {r: w for r, w in load.acknowledged.items() if seen.get(r) != w}
    assert not missing
    state: dict[str, KeyValue] = {}
    for event in history:
        assert event.previous == state.get(event.kv.key), "an event between was missed"
        if event.deleted:
            del state[event.kv.key]
        else:
            state[event.kv.key] = event.kv
    stored = await load.store.range("/", revision=revision)
    assert {kv.key: kv for kv in stored.kvs} == state
