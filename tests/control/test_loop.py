"""The reconcile loop on the real API: wakes, retries, waits for its own writes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client, WatchEvent
from meshkube.client.forwarding import ForwardingClient
from meshkube.clock import SystemClock
from meshkube.control.controllers import replicaset
from meshkube.control.freshness import Freshness
from meshkube.control.loop import Context, Controller
from tests.support.cluster import cluster, template


def config(name: str, **data: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


async def test_it_never_acts_on_a_cache_without_its_own_writes(tmp_path: Path) -> None:
    """A controller that wants one child per owner and finds it by listing the cache."""
    behind = 0

    async def reconcile(context: Context, key: str) -> float | None:
        nonlocal behind
        cached = context.caches.of(kinds.CONFIG_MAP).list("default")
        live = (await context.client.list(kinds.CONFIG_MAP, "default")).items
        children = [c for c in cached if meta.name(c).startswith("child-of-web")]
        behind += len(children) != sum(meta.name(c).startswith("child-of-web") for c in live)
        if key == "default/web" and len(children) < 30:
            child = config("")
            child["metadata"] = {"generateName": "child-of-web-", "namespace": "default"}
            await context.client.create(kinds.CONFIG_MAP, child)
            return 0.0
        return None

    controller = Controller(name="t", kind=kinds.CONFIG_MAP, reconcile=reconcile, workers=3)
    async with cluster(tmp_path, [controller]) as running:
        await running.create(config("web"))
        children = lambda: [  # noqa: E731
            c for c in running.list(kinds.CONFIG_MAP) if meta.name(c).startswith("child-of-web")
        ]
        await running.until(lambda: len(children()) >= 30)
        await asyncio.sleep(0.1)
        assert len(children()) == 30


class Hasty(SystemClock):
    """A hundred times as fast as it is."""

    def monotonic(self) -> float:
        return super().monotonic() * 100


class Held(ForwardingClient):
    """Tells of pods only once it may."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.open = asyncio.Event()

    async def watch(  # type: ignore[override]
        self, kind: Kind, namespace: str | None = None, **more: Any
    ) -> AsyncGenerator[WatchEvent, None]:
        watch = super().watch(kind, namespace, **more)
        async with contextlib.aclosing(watch) as events:  # type: ignore[type-var]
            async for event in events:
                if kind is kinds.POD:
                    await self.open.wait()
                yield event


async def test_nothing_is_made_twice_however_long_the_cache_is_behind(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    held: list[Held] = []

    def hold(client: Client) -> Client:
        held.append(Held(client))
        return held[0]

    clock = Hasty()
    controllers = [replicaset.CONTROLLER]
    async with cluster(
        tmp_path, controllers, clock=clock, seen_by_caches=hold, kubelets=False
    ) as running:
        labels = {"matchLabels": {"app": "web"}}
        await running.create(
            {
                "apiVersion": "apps/v1",
                "kind": "ReplicaSet",
                "metadata": {"name": "web", "namespace": "default"},
                "spec": {"replicas": 10, "selector": labels, "template": template("web")},
            }
        )
        waits = "the cache is behind: the key waits on"
        await running.until(lambda: waits in [record.message for record in caplog.records])
        assert len((await running.client.list(kinds.POD)).items) == 10
        held[0].open.set()
        await running.until(lambda: len(running.list(kinds.POD)) == 10)

        async def told() -> bool:
            stored = await running.client.get(kinds.REPLICA_SET, "web", "default")
            return bool((stored.get("status") or {}).get("replicas") == 10)

        while not await told():
            await asyncio.sleep(0.01)
        assert len((await running.client.list(kinds.POD)).items) == 10


async def test_writes_that_the_api_itself_does_not_show_are_not_waited_for(tmp_path: Path) -> None:
    """As after a backup was put back: its revisions are older."""
    async with cluster(tmp_path) as running:
        fresh = Freshness(frozenset({kinds.CONFIG_MAP}), lambda kind, key: None, lambda kind: "1")
        stored = await running.create(config("web"))
        fresh.wrote("k", kinds.CONFIG_MAP, stored)
        await fresh.drop_lost("k", running.client)
        assert fresh.stale("k"), "the API shows it: so will the cache"
        fresh.wrote("k", kinds.CONFIG_MAP, obj("web", 10**6))
        await fresh.drop_lost("k", running.client)
        assert not fresh.stale("k")


async def test_deletions_that_the_api_itself_does_not_show_are_not_waited_for(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path) as running:
        stored = await running.create(config("web"))
        fresh = Freshness(frozenset({kinds.CONFIG_MAP}), lambda kind, key: stored, lambda kind: "1")
        fresh.deleted("k", kinds.CONFIG_MAP, "default/web", meta.uid(stored))
        await fresh.drop_lost("k", running.client)
        assert not fresh.stale("k"), "it is there again"
        await running.client.delete(kinds.CONFIG_MAP, "web", "default")
        fresh.deleted("k", kinds.CONFIG_MAP, "default/web", meta.uid(stored))
        await fresh.drop_lost("k", running.client)
        assert fresh.stale("k"), "it is gone: the cache will say so"


async def test_failures_are_tried_again_and_logged_ever_more_rarely(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries = 0

    async def reconcile(context: Context, key: str) -> float | None:
        nonlocal tries
        if key != "shop":
            return None
        tries += 1
        if tries < 6:
            raise ValueError("not yet")
        return None

    controller = Controller(name="t", kind=kinds.NAMESPACE, reconcile=reconcile)
    async with cluster(tmp_path, [controller]) as running:
        await running.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        )
        await running.until(lambda: tries >= 6)
    failures = [r for r in caplog.records if r.message == "reconcile failed"]
    assert len(failures) == 3, "the first, second and fourth of five"


async def test_a_conflict_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    seen = 0

    async def reconcile(context: Context, key: str) -> float | None:
        nonlocal seen
        seen += 1
        if seen == 1:
            raise ApiError(409, "Conflict", "behind")
        return None

    controller = Controller(
        name="t", keys=lambda caches: ("all",), reconcile=reconcile, watches={}, workers=1
    )
    async with cluster(tmp_path, [controller]) as running:
        await running.until(lambda: seen == 2)
    assert not [r for r in caplog.records if r.message == "reconcile failed"]


async def test_a_reconcile_can_ask_to_be_called_again(tmp_path: Path) -> None:
    seen = 0

    async def reconcile(context: Context, key: str) -> float | None:
        nonlocal seen
        seen += 1
        return 0.01 if seen < 3 else None

    controller = Controller(name="t", keys=lambda caches: ("all",), reconcile=reconcile)
    async with cluster(tmp_path, [controller]) as running:
        await running.until(lambda: seen == 3)


async def test_a_reconcile_that_is_never_content_lets_others_run(tmp_path: Path) -> None:
    seen = 0

    async def reconcile(context: Context, key: str) -> float | None:
        nonlocal seen
        seen += 1
        return 0.0

    controller = Controller(name="t", keys=lambda caches: ("all",), reconcile=reconcile)
    async with cluster(tmp_path, [controller]) as running:
        await running.until(lambda: seen > 3)
        before = seen
        await asyncio.sleep(0.1)
        assert seen - before < 50


def obj(name: str, version: int, uid: str = "u", **more: str) -> Object:
    return {"metadata": {"name": name, "uid": uid, "resourceVersion": str(version), **more}}


def test_freshness_waits_for_writes_and_deletions() -> None:
    cache: dict[str, Object] = {"gone": obj("gone", 1)}
    fresh = Freshness(frozenset({kinds.POD}), lambda kind, key: cache.get(key), lambda kind: "3")
    assert not fresh.stale("k")
    fresh.wrote("k", kinds.POD, obj("a", 3))
    assert not fresh.stale("k"), "the cache has followed up to 3"
    fresh.wrote("k", kinds.POD, obj("a", 5))
    fresh.wrote("k", kinds.SERVICE, obj("s", 9))
    assert fresh.stale("k")
    assert not fresh.stale("other")
    fresh.observe(kinds.POD, None, obj("b", 4))
    assert fresh.stale("k")
    fresh.observe(kinds.POD, None, obj("a", 5))
    assert not fresh.stale("k"), "a kind that is not watched does not hold it up"
    fresh.deleted("k", kinds.POD, "gone", "u")
    assert fresh.stale("k")
    cache["gone"] = obj("gone", 6, deletionTimestamp="2026-01-01T00:00:00Z")
    assert not fresh.stale("k")
    fresh.deleted("k", kinds.POD, "gone", "u")
    cache["gone"] = obj("gone", 7, uid="another")
    assert not fresh.stale("k")


async def test_a_dear_key_that_changes_all_the_time_rests_in_between(tmp_path: Path) -> None:
    seen: list[str] = []

    async def reconcile(context: Context, key: str) -> float | None:
        if key == "default/web":
            seen.append(str(context.caches.of(kinds.CONFIG_MAP).get(key)["data"]["n"]))
            await asyncio.sleep(0.02)
        return None

    controller = Controller(name="t", kind=kinds.CONFIG_MAP, reconcile=reconcile, rest=20.0)
    async with cluster(tmp_path, [controller]) as running:
        await running.create(config("web", n="0"))
        await running.until(lambda: seen == ["0"])
        for number in range(1, 20):
            await running.client.patch(
                kinds.CONFIG_MAP, "web", {"data": {"n": str(number)}}, "default"
            )
        await running.until(lambda: seen[-1] == "19")
        assert len(seen) <= 5
