"""A store, and beside it a plain list of changes: all operations must do the same to both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from meshkube.store.base import (
    Compacted,
    Event,
    KeyExists,
    KeyValue,
    RevisionMismatch,
    Store,
)

T = TypeVar("T")

KEYS = st.sampled_from(["/a", "/a/", "/a/1", "/a/2", "/a0", "/b", "/\ud7ff", "/\ue000"])
PREFIXES = st.sampled_from(["", "/", "/a", "/a/", "/b", "/\ud7ff", "/zz"])
VALUES = st.binary(max_size=3)


@dataclass
class Model:
    """Every change ever made, in order: the first one has the revision after `base`."""

    base: int = 0
    changes: list[Event] = field(default_factory=list)
    compacted: int = 0

    @property
    def head(self) -> int:
        return self.base + len(self.changes)

    def at(self, revision: int) -> dict[str, KeyValue]:
        state: dict[str, KeyValue] = {}
        for event in self.changes[: revision - self.base]:
            if event.deleted:
                del state[event.kv.key]
            else:
                state[event.kv.key] = event.kv
        return state

    def get(self, key: str) -> KeyValue | None:
        return self.at(self.head).get(key)

    def put(self, key: str, value: bytes) -> KeyValue:
        previous = self.get(key)
        revision = self.head + 1
        created = previous.create_revision if previous else revision
        kv = KeyValue(key, value, created, revision)
        self.changes.append(Event(kv, False, previous))
        return kv

    def delete(self, key: str) -> KeyValue:
        previous = self.get(key)
        assert previous is not None
        kv = KeyValue(key, previous.value, previous.create_revision, self.head + 1)
        self.changes.append(Event(kv, True, previous))
        return kv

    def after(self, revision: int, prefix: str) -> list[Event]:
        return [
            event
            for event in self.changes[revision - self.base :]
            if event.kv.key.startswith(prefix)
        ]


class StoreMachine(RuleBasedStateMachine):
    """The store, and beside it the model."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.model = Model(self.base())
        self.store: Store = self.run(self.open())

    def base(self) -> int:
        """The revision before the first change."""
        return 0

    async def open(self) -> Store:
        """The same store each time."""
        raise NotImplementedError

    def run(self, work: Awaitable[T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(60):
                return await work

        return self.runner.run(bounded())

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.runner.close()

    def expect(self, error: type[Exception], work: Awaitable[object]) -> Exception:
        with pytest.raises(error) as raised:
            self.run(work)
        return raised.value

    @rule(key=KEYS, value=VALUES)
    def create(self, key: str, value: bytes) -> None:
        if self.model.get(key) is not None:
            self.expect(KeyExists, self.store.create(key, value))
        else:
            assert self.run(self.store.create(key, value)) == self.model.put(key, value)

    @rule(key=KEYS, value=VALUES, stale=st.integers(0, 3))
    def update(self, key: str, value: bytes, stale: int) -> None:
        current = self.model.get(key)
        revision = max(0, (current.mod_revision if current else 0) - stale)
        if current is None or (stale and revision != current.mod_revision):
            error = self.expect(RevisionMismatch, self.store.update(key, value, revision))
            assert isinstance(error, RevisionMismatch)
            assert error.current == current
        else:
            assert self.run(self.store.update(key, value, revision)) == self.model.put(key, value)

    @rule(key=KEYS, stale=st.booleans())
    def delete(self, key: str, stale: bool) -> None:
        current = self.model.get(key)
        revision = (current.mod_revision if current else 0) + stale
        if current is None or stale:
            error = self.expect(RevisionMismatch, self.store.delete(key, revision))
            assert isinstance(error, RevisionMismatch)
            assert error.current == current
        else:
            assert self.run(self.store.delete(key, revision)) == self.model.delete(key)

    @rule(keys=st.lists(KEYS, unique=True, max_size=4), value=VALUES)
    def write_at_once(self, keys: list[str], value: bytes) -> None:
        async def write() -> list[KeyValue]:
            jobs: list[Awaitable[KeyValue]] = []
            for key in keys:
                current = self.model.get(key)
                if current is None:
                    jobs.append(self.store.create(key, value))
                else:
                    jobs.append(self.store.update(key, value, current.mod_revision))
            return list(await asyncio.gather(*jobs))

        # Which of them comes first is the store's to decide.
        for kv in sorted(self.run(write()), key=lambda kv: kv.mod_revision):
            assert self.model.put(kv.key, value) == kv

    @rule(prefix=PREFIXES, limit=st.integers(0, 3), after=st.one_of(st.just(""), KEYS))
    def range_now(self, prefix: str, limit: int, after: str) -> None:
        self.check_range(prefix, limit, after, 0)

    @precondition(lambda self: self.model.changes)
    @rule(
        prefix=PREFIXES,
        limit=st.integers(0, 3),
        after=st.one_of(st.just(""), KEYS),
        back=st.integers(0, 10),
    )
    def range_then(self, prefix: str, limit: int, after: str, back: int) -> None:
        revision = max(self.model.base + 1, self.model.head - back)
        if revision < self.model.compacted:
            error = self.expect(Compacted, self.store.range(prefix, revision=revision))
            assert isinstance(error, Compacted)
            assert error.oldest == self.model.compacted
        else:
            self.check_range(prefix, limit, after, revision)

    def check_range(self, prefix: str, limit: int, after: str, revision: int) -> None:
        state = self.model.at(revision or self.model.head)
        expected = [
            kv for key, kv in sorted(state.items()) if key.startswith(prefix) and key > after
        ]
        result = self.run(
            self.store.range(prefix, start_after=after, limit=limit, revision=revision)
        )
        page = expected[:limit] if limit else expected
        assert list(result.kvs) == page
        assert result.remaining == len(expected) - len(page)
        assert result.revision == (revision or self.newest)

    @rule(prefix=PREFIXES, back=st.integers(0, 10))
    def watch(self, prefix: str, back: int) -> None:
        after = max(self.model.base, self.model.head - back)
        if after < self.model.compacted:
            self.expect(Compacted, self.seen(prefix, after))
        else:
            assert self.run(self.seen(prefix, after)) == self.model.after(after, prefix)

    async def seen(self, prefix: str, after: int) -> list[Event]:
        found: list[Event] = []
        async with contextlib.aclosing(self.store.watch(prefix, after)) as watch:
            async for batch in watch:
                found += batch.events
                if batch.revision >= self.model.head:
                    break
        return found

    @rule(back=st.integers(0, 6))
    def compact(self, back: int) -> None:
        revision = max(self.model.base, self.model.head - back)
        self.run(self.store.compact(revision))
        self.model.compacted = max(self.model.compacted, revision)

    @rule()
    def reopen(self) -> None:
        self.run(self.store.aclose())
        self.store = self.run(self.open())

    @property
    def newest(self) -> int:
        return self.model.head if self.model.changes else 0

    @invariant()
    def agrees(self) -> None:
        assert self.run(self.store.revision()) == self.newest
        for key, kv in self.model.at(self.model.head).items():
            assert self.run(self.store.get(key)) == kv


def bounds(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
