"""Informers over a real API, and over one that fails."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import errors, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import CONFIG_MAP, NAMESPACE, SECRET, Kind
from meshkube.api.types import Object
from meshkube.client.base import Client, ObjectList, WatchEvent
from meshkube.client.informer import Informer, Informers
from meshkube.clock import SystemClock
from tests.support.api import running_api

PATIENCE = 60.0


class Unsteady:
    """A client over another one, whose lists and watches can be made to fail, or to end."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cuts: set[asyncio.Event] = set()
        self.failure: ApiError | None = None
        self.watch_failure: ApiError | None = None
        self.lists = 0
        self.versions: list[str] = []

    def cut(self) -> None:
        for cut in self._cuts:
            cut.set()

    async def list(self, kind: Kind, namespace: str | None = None, **more: Any) -> ObjectList:
        if self.failure:
            raise self.failure
        self.lists += 1
        return await self._client.list(kind, namespace, **more)

    async def watch(
        self, kind: Kind, namespace: str | None = None, *, resource_version: str = "", **more: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        self.versions.append(resource_version)
        if self.failure or self.watch_failure:
            raise self.failure or self.watch_failure  # type: ignore[misc]
        cut = asyncio.Event()
        self._cuts.add(cut)
        events = self._client.watch(kind, namespace, resource_version=resource_version, **more)
        over = asyncio.ensure_future(cut.wait())
        try:
            while True:
                coming = asyncio.ensure_future(anext(events))  # type: ignore[arg-type]
                await asyncio.wait([coming, over], return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    return
                yield coming.result()
        finally:
            self._cuts.discard(cut)
            over.cancel()
            coming.cancel()
            await asyncio.wait([coming])
            await events.aclose()  # type: ignore[attr-defined]


class QuickClock(SystemClock):
    """Waits a hundredth of what it is asked to, and notes it."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return super().now()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(seconds / 100)


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    async with running_api(tmp_path) as client:
        yield client


@contextlib.asynccontextmanager
async def running(informer: Informer | Informers) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(informer.run())
        try:
            async with asyncio.timeout(PATIENCE):
                await informer.wait_synced()
            yield
        finally:
            task.cancel()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


def config_map(name: str, namespace: str = "default", **labels: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def changed(obj: Object, value: str) -> Object:
    return {**obj, "data": {"a": value}}


async def test_it_lists_and_then_follows(client: Client) -> None:
    first = await client.create(CONFIG_MAP, config_map("first"))
    informer = Informer(client, CONFIG_MAP)
    assert not informer.synced
    async with running(informer):
        assert informer.synced
        assert informer.get("default/first") == first
        second = await client.create(CONFIG_MAP, config_map("second"))
        await until(lambda: informer.get("default/second"))
        newer = await client.update(CONFIG_MAP, changed(second, "2"))
        await until(lambda: informer.get("default/second") == newer)
        await client.delete(CONFIG_MAP, "first", "default")
        await until(lambda: informer.get("default/first") is None)
        assert informer.list("default") == [newer]


async def test_it_shares_the_objects_of_an_in_process_client(client: Client) -> None:
    informer = Informer(client, CONFIG_MAP)
    async with running(informer):
        await client.create(CONFIG_MAP, config_map("web"))
        await until(lambda: informer.get("default/web"))
        assert informer.get("default/web") is await client.get(CONFIG_MAP, "web", "default")


async def test_it_keeps_to_its_namespace_and_selectors(client: Client) -> None:
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}}
    await client.create(NAMESPACE, namespace)
    informer = Informer(client, CONFIG_MAP, namespace="other", labels="app=web")
    async with running(informer):
        await client.create(CONFIG_MAP, config_map("a", app="web"))
        await client.create(CONFIG_MAP, config_map("b", "other", app="db"))
        web = await client.create(CONFIG_MAP, config_map("c", "other", app="web"))
        await until(lambda: len(informer))
        assert informer.list() == [web]
        moved = meta.copy(web)
        moved["metadata"]["labels"] = {"app": "db"}
        await client.update(CONFIG_MAP, moved)
        await until(lambda: not len(informer))


async def test_indexes_are_kept(client: Client) -> None:
    informer = Informer(client, CONFIG_MAP, indexes={"app": lambda obj: meta.labels(obj).values()})
    await client.create(CONFIG_MAP, config_map("a", app="web"))
    async with running(informer):
        assert [meta.name(obj) for obj in informer.by_index("app", "web")] == ["a"]
        await client.create(CONFIG_MAP, config_map("b", app="web"))
        await until(lambda: len(informer.by_index("app", "web")) == 2)


async def test_a_watch_that_ends_is_resumed_without_a_new_list(client: Client) -> None:
    unsteady = Unsteady(client)
    informer = Informer(unsteady, CONFIG_MAP, clock=QuickClock())  # type: ignore[arg-type]
    heard: list[str] = []
    informer.subscribe(lambda old, new: heard.append(meta.name(new or old or {})))
    async with running(informer):
        await client.create(CONFIG_MAP, config_map("a"))
        await until(lambda: informer.get("default/a"))
        unsteady.cut()
        await client.create(CONFIG_MAP, config_map("b"))
        await until(lambda: informer.get("default/b"))
    assert unsteady.lists == 1
    assert len(unsteady.versions) == 2
    assert [name for name in heard if name in "ab"] == ["a", "b"]


async def test_the_cache_outlives_the_api_and_catches_up(client: Client) -> None:
    unsteady, clock = Unsteady(client), QuickClock()
    await client.create(CONFIG_MAP, config_map("a"))
    informer = Informer(unsteady, CONFIG_MAP, clock=clock)  # type: ignore[arg-type]
    async with running(informer):
        unsteady.failure = errors.unavailable("away")
        unsteady.cut()
        await until(lambda: len(clock.slept) >= 6)
        assert informer.get("default/a") is not None
        assert informer.synced
        await client.create(CONFIG_MAP, config_map("b"))
        unsteady.failure = None
        await until(lambda: informer.get("default/b"))
    assert unsteady.lists == 1
    assert clock.slept[5] > clock.slept[0]
    assert max(clock.slept) <= 15 * 1.5


async def test_a_version_that_is_too_old_leads_to_a_list_that_is_compared(client: Client) -> None:
    unsteady, clock = Unsteady(client), QuickClock()
    for name in ("same", "gone", "changed"):
        await client.create(CONFIG_MAP, config_map(name))
    informer = Informer(unsteady, CONFIG_MAP, namespace="default", clock=clock)  # type: ignore[arg-type]
    async with running(informer):
        heard: list[tuple[str, bool, bool]] = []
        informer.subscribe(
            lambda old, new: heard.append((meta.name(new or old or {}), bool(old), bool(new)))
        )
        heard.clear()
        unsteady.failure = errors.unavailable("away")
        unsteady.cut()
        await until(lambda: clock.slept)
        await client.delete(CONFIG_MAP, "gone", "default")
        old = await client.get(CONFIG_MAP, "changed", "default")
        await client.update(CONFIG_MAP, changed(old, "2"))
        await client.create(CONFIG_MAP, config_map("new"))
        unsteady.watch_failure, unsteady.failure = errors.gone("too old"), None
        await until(lambda: unsteady.lists >= 2)
        unsteady.watch_failure = None
        await until(lambda: informer.get("default/new"))
    assert sorted(heard) == [
        ("changed", True, True),
        ("gone", True, False),
        ("new", False, True),
    ]


async def test_a_server_that_always_says_gone_is_not_stormed(client: Client) -> None:
    unsteady, clock = Unsteady(client), QuickClock()
    unsteady.watch_failure = errors.gone("too old")
    informer = Informer(unsteady, CONFIG_MAP, clock=clock)  # type: ignore[arg-type]
    async with running(informer):
        await until(lambda: len(clock.slept) >= 3)
    assert unsteady.lists <= len(clock.slept) + 3


async def test_a_watch_that_ends_at_once_is_not_stormed(client: Client) -> None:
    class Ending(Unsteady):
        async def watch(self, *_: Any, **more: Any) -> AsyncGenerator[WatchEvent, None]:
            self.versions.append("")
            for event in ():
                yield event

    ending, clock = Ending(client), QuickClock()
    informer = Informer(ending, CONFIG_MAP, clock=clock)  # type: ignore[arg-type]
    async with running(informer):
        await until(lambda: len(clock.slept) >= 3)
    assert len(ending.versions) <= len(clock.slept) + 1


async def test_bookmarks_move_the_version(client: Client) -> None:
    class Bookmarking(Unsteady):
        async def watch(
            self, kind: Kind, namespace: str | None = None, **more: Any
        ) -> AsyncGenerator[WatchEvent, None]:
            self.versions.append(more["resource_version"])
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": "12345"}})
            if len(self.versions) > 1:
                await asyncio.Event().wait()

    unsteady = Bookmarking(client)
    informer = Informer(unsteady, SECRET)  # type: ignore[arg-type]
    async with running(informer):
        await until(lambda: len(unsteady.versions) == 2)
        assert informer.resource_version == "12345"
    assert unsteady.versions[1] == "12345"
    assert informer.list() == []


class Flooding(Unsteady):
    """A thousand events at once."""

    async def watch(self, *_: Any, **more: Any) -> AsyncGenerator[WatchEvent, None]:
        for number in range(1000):
            obj = config_map(f"m{number}")
            obj["metadata"]["resourceVersion"] = str(10_000 + number)
            yield WatchEvent("ADDED", obj)
        await asyncio.Event().wait()


async def test_a_flood_of_events_leaves_others_their_turn(client: Client) -> None:
    informer = Informer(Flooding(client), CONFIG_MAP)  # type: ignore[arg-type]
    informer.subscribe(lambda old, new: time.sleep(0.0005))
    async with running(informer):
        sizes = set()
        while informer.get("default/m999") is None:
            sizes.add(len(informer))
            await asyncio.sleep(0)
    assert len(sizes) > 10


async def test_it_keeps_up_where_the_turns_of_others_are_long(client: Client) -> None:
    informer = Informer(Flooding(client), CONFIG_MAP)  # type: ignore[arg-type]
    informer.subscribe(lambda old, new: time.sleep(0.0005))
    turns = 0
    async with running(informer):
        while informer.get("default/m999") is None:
            turns += 1
            await _long_turn()
    assert turns < 200, "a fixed millisecond for each turn takes 500"


async def _long_turn() -> None:
    asyncio.get_running_loop().call_soon(time.sleep, 0.02)
    await asyncio.sleep(0)


async def test_an_unexpected_error_is_logged_and_survived(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(Unsteady):
        async def list(self, kind: Kind, namespace: str | None = None, **more: Any) -> ObjectList:
            self.lists += 1
            if self.lists == 1:
                raise RuntimeError("bug")
            return await self._client.list(kind, namespace, **more)

    informer = Informer(Broken(client), CONFIG_MAP, clock=QuickClock())  # type: ignore[arg-type]
    with caplog.at_level(logging.ERROR):
        async with running(informer):
            assert informer.synced
    assert "bug" in caplog.text


async def test_it_can_run_again_after_it_was_cancelled(client: Client) -> None:
    informer = Informer(client, CONFIG_MAP)
    async with running(informer):
        await client.create(CONFIG_MAP, config_map("a"))
        await until(lambda: informer.get("default/a"))
    await client.create(CONFIG_MAP, config_map("b"))
    async with running(informer):
        await until(lambda: informer.get("default/b"))


async def test_informers_are_shared(client: Client) -> None:
    informers = Informers(client)
    maps = informers.of(CONFIG_MAP)
    assert informers.of(CONFIG_MAP) is maps
    assert informers.of(CONFIG_MAP, namespace="default") is not maps
    async with running(informers):
        assert maps.synced
        late = informers.of(SECRET)
        await informers.wait_synced()
        assert late.synced
        await client.create(CONFIG_MAP, config_map("a"))
        await until(lambda: maps.get("default/a"))
