"""Clients that hop between servers, and what none of them may ever see.

A write that was acknowledged before a read began is in what the read gives, whichever servers were
asked; no client sees a revision go back; a watch that goes on at another server misses nothing and
repeats nothing; pages from different servers are of one moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry

KIND = kinds.CONFIG_MAP
SPACE = "default"
PASSING = (409, 503, 504)
"""Answers of a server that cannot serve now: no answer is never a stale one."""


@dataclass
class Known:
    """What was acknowledged: of each key its number, and the newest revision."""

    numbers: dict[str, int] = field(default_factory=dict)
    revision: int = 0

    def copy(self) -> Known:
        return Known(dict(self.numbers), self.revision)


class Hopping:
    """Writers, readers and watchers over these servers, with a seed."""

    def __init__(self, registries: Sequence[Registry], seed: int, keys: int = 6) -> None:
        self.registries = registries
        self.clients = [LocalClient(registry) for registry in registries]
        self.known = Known()
        self.keys = [f"key-{number}" for number in range(keys)]
        self.reads = self.refused = self.pages = self.resumed = 0
        self.events: list[int] = []
        self._chance = random.Random(seed)
        self._writing = True

    async def run(self, seconds: float, readers: int = 6) -> None:
        """Raises `AssertionError`."""
        first = await self.clients[0].list(KIND, SPACE)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._write(key)) for key in self.keys]
            tasks += [group.create_task(self._read()) for _ in range(readers)]
            tasks.append(group.create_task(self._page()))
            watching = group.create_task(self._watch(first.resource_version))
            await asyncio.sleep(seconds)
            self._writing = False
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            async with asyncio.timeout(30):
                while not self.events or self.events[-1] < self.known.revision:
                    await asyncio.sleep(0.02)
            watching.cancel()

    async def _write(self, key: str) -> None:
        number = 0
        while self._writing:
            client = self._chance.choice(self.clients)
            number += 1
            obj = {"metadata": {"name": key, "namespace": SPACE}, "data": {"n": str(number)}}
            try:
                if key in self.known.numbers:
                    done = await client.patch(KIND, key, {"data": {"n": str(number)}}, SPACE)
                else:
                    done = await client.create(KIND, obj)
            except ApiError as error:
                _passes(error)
                # Made or not: what comes next is larger.
                if error.reason == "AlreadyExists":
                    self.known.numbers.setdefault(key, 0)
                await asyncio.sleep(0.02)
                continue
            self.known.numbers[key] = number
            self.known.revision = max(self.known.revision, int(meta.resource_version(done)))
            await asyncio.sleep(self._chance.uniform(0, 0.004))

    async def _read(self) -> None:
        """One client: it knows what others told it, and what it saw."""
        seen = 0
        while True:
            client = self._chance.choice(self.clients)
            before = self.known.copy()
            try:
                if self._chance.random() < 0.5:
                    seen = await self._get(client, before, seen)
                else:
                    seen = await self._list(client, before, seen)
                self.reads += 1
            except ApiError as error:
                _passes(error)
                self.refused += 1
            await asyncio.sleep(self._chance.uniform(0, 0.004))

    async def _get(self, client: LocalClient, before: Known, seen: int) -> int:
        if not before.numbers:
            return seen
        key = self._chance.choice(list(before.numbers))
        found = await client.get(KIND, key, SPACE)
        assert _number(found) >= before.numbers[key], "a get is older than an acknowledged write"
        return seen

    async def _list(self, client: LocalClient, before: Known, seen: int) -> int:
        pinned = self._chance.random() < 0.3
        asked = str(seen) if pinned and seen else ""
        listed = await client.list(KIND, SPACE, resource_version=asked)
        revision = int(listed.resource_version)
        assert revision >= seen, "a revision went back"
        if not asked:
            assert revision >= before.revision, "a list is older than an acknowledged write"
            found = {meta.name(item): _number(item) for item in listed.items}
            for key, number in before.numbers.items():
                assert found.get(key, -1) >= number, "a list misses an acknowledged write"
        for item in listed.items:
            assert int(meta.resource_version(item)) <= revision
        return revision

    async def _page(self) -> None:
        """Two at a time, each page from another server, against the whole of that moment."""
        while True:
            with contextlib.suppress(ApiError):
                listed = await self._chance.choice(self.clients).list(KIND, SPACE, limit=2)
                revision, items = listed.resource_version, list(listed.items)
                while listed.continue_token:
                    listed = await self._chance.choice(self.clients).list(
                        KIND, SPACE, limit=2, continue_token=listed.continue_token
                    )
                    assert listed.resource_version == revision
                    items += listed.items
                registry = self._chance.choice(self.registries)
                whole = await registry.list(
                    Query(KIND, SPACE, resource_version=revision, match="Exact")
                )
                assert [item.object for item in whole.items] == items
                self.pages += 1
            await asyncio.sleep(0.01)

    async def _watch(self, version: str) -> None:
        while True:
            client = self._chance.choice(self.clients)
            ends = self._chance.randrange(1, 30)
            try:
                watch = client.watch(KIND, SPACE, resource_version=version)
                async with contextlib.aclosing(watch) as events:
                    async for event in events:
                        version = meta.resource_version(event.object)
                        if event.type != "BOOKMARK":
                            self.events.append(int(version))
                            ends -= 1
                        if not ends:
                            break
            except ApiError as error:
                _passes(error)
                await asyncio.sleep(0.02)
            self.resumed += 1


def _passes(error: ApiError) -> None:
    assert error.code in PASSING, error.message


def _number(found: Object) -> int:
    return int((found.get("data") or {}).get("n", -1))
