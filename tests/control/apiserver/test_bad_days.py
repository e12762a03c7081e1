"""The store is away, hangs, or is full: what the API's clients see of it, and that it passes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from meshkube.control.apiserver.feed import Feed
from meshkube.store import etcd_client, limits
from meshkube.store.sqlite import SqliteStore
from tests.support import etcd
from tests.support.api import serving_api
from tests.support.asking import Asker, asking
from tests.support.disk import enlarge

MAPS = "/api/v1/namespaces/default/configmaps"
PATIENCE = 30.0
needs_etcd = pytest.mark.skipif(etcd.ETCD is None, reason="etcd is not installed")


def config_map(name: str, data: str = "") -> Any:
    return {"metadata": {"name": name}, "data": {"a": data}}


@contextlib.asynccontextmanager
async def serving(tmp_path: Path, **settings: Any) -> AsyncIterator[Asker]:
    async with serving_api(tmp_path, **settings) as served, asking(served) as ask:
        yield ask


@pytest.fixture
def member() -> Iterator[etcd.Member]:
    with etcd.etcd() as cluster:
        yield cluster.members[0]


@pytest.fixture
async def ask(tmp_path: Path, member: etcd.Member) -> AsyncIterator[Asker]:
    async with serving(tmp_path, etcd=f"etcd://{member.endpoint}") as ask:
        yield ask


def sent(obj: Any) -> aiohttp.BytesIOPayload:
    """A body that aiohttp sends without a warning, however large it is."""
    return aiohttp.BytesIOPayload(io.BytesIO(orjson.dumps(obj)), content_type="application/json")


async def until_ready(ask: Asker, ready: bool = True) -> str:
    async with asyncio.timeout(PATIENCE):
        while True:
            async with ask("GET", "/readyz?verbose") as response:
                text = await response.text()
                if (response.status == 200) is ready:
                    return text
            await asyncio.sleep(0.05)


@needs_etcd
class TestWithoutEtcd:
    async def test_reads_come_from_the_cache_and_say_so(
        self, ask: Asker, member: etcd.Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "READ_SECONDS", 1.0)
        await ask.make(MAPS, config_map("one", "x"))
        member.kill()
        for path in (f"{MAPS}/one", MAPS, f"{MAPS}?limit=1"):
            async with ask("GET", path) as response:
                assert response.status == 200
                assert int(response.headers["Age"]) >= 0
                assert response.headers["Warning"].startswith(
                    '299 - "the store does not answer: this is from the cache, '
                )
                assert '"name":"one"' in await response.text()
        async with ask("GET", f"{MAPS}?resourceVersion=0") as response:
            assert response.status == 200
            assert "Warning" not in response.headers

    async def test_what_only_the_store_can_say_is_refused(
        self, ask: Asker, member: etcd.Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "READ_SECONDS", 1.0)
        await ask.make(MAPS, config_map("one"))
        member.kill()
        await ask.json("GET", f"{MAPS}/absent", 503)
        await ask.json("GET", MAPS, 503, headers={"Cache-Control": "no-cache"})
        status = await ask.json("GET", f"{MAPS}/one", 503, headers={"Cache-Control": "no-cache"})
        assert status["reason"] == "ServiceUnavailable"
        assert member.endpoint in status["message"]

    async def test_writes_are_refused_soon_and_health_says_why(
        self, ask: Asker, member: etcd.Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "READ_SECONDS", 1.0)
        await ask.make(MAPS, config_map("before"))
        member.kill()
        text = await until_ready(ask, ready=False)
        assert "[-]store failed: no answer for " in text
        started = time.monotonic()
        async with ask("POST", MAPS, body=config_map("meanwhile")) as response:
            status = await response.json()
            assert (response.status, status["reason"]) == (503, "ServiceUnavailable")
            assert response.headers["Retry-After"] == "1"
        assert time.monotonic() - started < 0.5
        parts = (await ask.json("GET", "/statusz"))["parts"]
        assert not parts["store"]["ready"]
        async with ask("GET", "/livez") as response:
            assert response.status == 200
        member.start(f"{member.name}={member.peer_url}")
        assert "[+]store ok" in await until_ready(ask)
        await ask.make(MAPS, config_map("after"))
        names = {item["metadata"]["name"] for item in (await ask.json("GET", MAPS))["items"]}
        assert {"before", "after"} <= names
        assert "meanwhile" not in names

    async def test_a_write_that_hangs_says_that_nobody_knows(
        self, ask: Asker, member: etcd.Member, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(etcd_client, "WRITE_SECONDS", 1.0)

        async def fresh(self: Feed) -> None:
            """The store hangs after it was asked what is newest."""

        monkeypatch.setattr(Feed, "fresh", fresh)
        member.signal(signal.SIGSTOP)
        status = await ask.json("POST", MAPS, 504, body=config_map("one"))
        assert status["reason"] == "Timeout"
        assert status["message"].startswith("whether the write took effect is not known")
        monkeypatch.undo()
        member.signal(signal.SIGCONT)
        await ask.make(MAPS, config_map("two"))
        await until_ready(ask)
        async with ask("GET", f"{MAPS}/one") as response:
            # Either is right: it was on its way.
            assert response.status in (200, 404)


@needs_etcd
async def test_a_full_etcd_refuses_writes_and_takes_them_again_once_it_has_room(
    tmp_path: Path,
) -> None:
    with etcd.etcd(arguments=("--quota-backend-bytes=2000000",)) as cluster:
        member = cluster.members[0]
        async with serving(tmp_path, etcd=cluster.url) as ask:
            status = await fill(ask)
            assert "database space exceeded" in status["message"]
            assert "etcdctl alarm disarm" in status["message"]
            await full(ask)
            for number in range(8):
                await ask.json("DELETE", f"{MAPS}/m{number}")
            # What an operator does, through etcd's own interface.
            member.call("kv/compaction", revision=cluster.revision(), physical=True)
            member.call("maintenance/defragment")
            for alarm in member.call("maintenance/alarm", action="GET")["alarms"]:
                member.call("maintenance/alarm", action="DEACTIVATE", **alarm)
            await room(ask)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
async def test_a_full_disk_refuses_writes_and_takes_them_again_once_it_has_room(
    tmp_path: Path, small_disk: Path
) -> None:
    store = await SqliteStore.open(small_disk / "store.db")
    async with serving(tmp_path, store=store) as ask:
        status = await fill(ask)
        assert "database or disk is full" in status["message"]
        await full(ask)
        await asyncio.to_thread(enlarge, small_disk)
        await room(ask)
    await store.aclose()


async def fill(ask: Asker) -> Any:
    """Writes until that is refused; the Status."""
    for number in range(200):
        async with ask("POST", MAPS, body=config_map(f"m{number}", "x" * 100_000)) as response:
            status = await response.json()
            if response.status != 201:
                assert (response.status, status["reason"]) == (507, "InsufficientStorage")
                return status
    raise AssertionError("it is never full")


async def full(ask: Asker) -> None:
    await ask.json("POST", MAPS, 507, body=config_map("more", "x" * 100_000))
    await ask.json("GET", f"{MAPS}/m9")
    assert "[-]store failed: writes fail: " in await until_ready(ask, ready=False)


async def room(ask: Asker) -> None:
    await ask.make(MAPS, config_map("more", "x" * 100_000))
    await until_ready(ask)


@pytest.mark.parametrize("backend", ["sqlite", "etcd"])
async def test_an_object_that_is_too_large_is_told_so(
    tmp_path: Path, backend: str, request: pytest.FixtureRequest
) -> None:
    where = {"etcd": request.getfixturevalue("etcd_url")} if backend == "etcd" else {}
    async with serving(tmp_path, **where) as ask:
        # Objects of this kind have no limit of their own.
        path = "/apis/apps/v1/namespaces/default/controllerrevisions"
        revision = {"metadata": {"name": "r"}, "revision": 1, "data": {}}
        large = {**revision, "data": {"a": "x" * limits.LARGEST_VALUE}}
        status = await ask.json("POST", path, 413, data=sent(large))
        assert status["reason"] == "RequestEntityTooLarge"
        assert status["message"].startswith("the object is too large for the store: ")
        await ask.make(path, revision)
        huge = {**revision, "data": {"a": "x" * 3 * 1024 * 1024}}
        status = await ask.json("POST", path, 413, data=sent(huge))
        assert status["message"] == "Request entity too large: limit is 3145728"
        await ask.json("DELETE", f"{path}/r")
