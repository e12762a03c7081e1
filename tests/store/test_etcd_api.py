"""The API over etcd: one server, several of them, and what a client sees of them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.control import pods
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.manager import ControlPlane
from meshkube.store import etcd_client
from tests.support import etcd
from tests.support.api import running_api
from tests.support.cluster import deployment, node

PATIENCE = 60.0


def config_map(name: str, **data: str) -> dict[str, object]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def servers(tmp_path: Path, *urls: str) -> AsyncIterator[list[LocalClient]]:
    """An API server for each URL, started side by side."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running_api(tmp_path, etcd=url)) for url in urls]


async def test_a_deployment_becomes_placed_pods_across_two_servers(
    tmp_path: Path, etcd_url: str
) -> None:
    async with servers(tmp_path, etcd_url, etcd_url) as clients, asyncio.TaskGroup() as group:
        planes = [
            ControlPlane(client=client, identity=name, pod_cidr="10.42.0.0/16")
            for client, name in zip(clients, ("a", "b"), strict=True)
        ]
        tasks = [group.create_task(plane.run(lambda: None)) for plane in planes]
        await clients[0].create(kinds.NODE, node())
        await clients[1].create(kinds.DEPLOYMENT, deployment(replicas=4))

        async def placed() -> bool:
            found = (await clients[0].list(kinds.POD, "default")).items
            return len(found) == 4 and all(pods.node_name(pod) for pod in found)

        await until(placed)
        leading = [plane.leading for plane in planes]
        assert sorted(leading) == [False, True]
        # The other server's control plane goes on with the same work.
        first = leading.index(True)
        tasks[first].cancel()
        (pod, *_) = (await clients[1].list(kinds.POD, "default")).items
        await clients[first].delete(kinds.POD, meta.name(pod), "default", grace_period=0)
        await until(placed)
        tasks[1 - first].cancel()


async def test_a_client_sees_its_own_writes_through_any_server(
    tmp_path: Path, etcd_url: str
) -> None:
    async with servers(tmp_path, etcd_url, etcd_url) as clients:

        async def turns(name: str) -> None:
            made = await clients[0].create(kinds.CONFIG_MAP, config_map(name, n="0"))
            for number in range(1, 20):
                client = clients[number % 2]
                seen = await client.get(kinds.CONFIG_MAP, name, "default")
                assert meta.resource_version(seen) == meta.resource_version(made)
                made = await client.update(
                    kinds.CONFIG_MAP,
                    {**meta.copy(seen), "data": {"n": str(number)}},
                )
                found = await clients[1 - number % 2].list(kinds.CONFIG_MAP, "default")
                (mine,) = (item for item in found.items if meta.name(item) == name)
                assert mine["data"] == {"n": str(number)}
            await clients[0].delete(kinds.CONFIG_MAP, name, "default")
            with pytest.raises(ApiError, match="not found"):
                await clients[1].get(kinds.CONFIG_MAP, name, "default")

        await asyncio.gather(*(turns(f"cm{n}") for n in range(5)))


async def test_versions_never_go_back_from_server_to_server(
    tmp_path: Path, etcd_cluster: etcd.Cluster, etcd_url: str
) -> None:
    stop = asyncio.Event()

    async def foreign() -> None:
        while not stop.is_set():
            key = etcd.text64(b"/foreign")
            await asyncio.to_thread(etcd_cluster.members[0].call, "kv/put", key=key)

    async with servers(tmp_path, etcd_url, etcd_url) as clients, asyncio.TaskGroup() as group:
        # Others move etcd's revision all the time: no server may wait for what never comes.
        group.create_task(foreign())
        newest = 0
        for number in range(60):
            client = clients[number % 2]
            if number % 5 == 0:
                await client.create(kinds.CONFIG_MAP, config_map(f"v{number}"))
            page = await client.list(kinds.CONFIG_MAP, "default")
            assert int(page.resource_version) >= newest
            newest = int(page.resource_version)
            again = await clients[1 - number % 2].list(
                kinds.CONFIG_MAP, "default", resource_version=page.resource_version
            )
            assert int(again.resource_version) >= newest
        stop.set()


async def test_a_watch_through_one_server_sees_writes_through_the_other(
    tmp_path: Path, etcd_url: str
) -> None:
    async with servers(tmp_path, etcd_url, etcd_url) as (one, other):
        start = await one.list(kinds.CONFIG_MAP, "default")
        watch = one.watch(kinds.CONFIG_MAP, "default", resource_version=start.resource_version)
        made = await other.create(kinds.CONFIG_MAP, config_map("a", n="1"))
        await other.delete(kinds.CONFIG_MAP, "a", "default")
        async with asyncio.timeout(PATIENCE):
            events = [await anext(watch), await anext(watch)]
        assert [type for type, _ in events] == ["ADDED", "DELETED"]
        assert events[0][1] == made
        await watch.aclose()  # type: ignore[attr-defined]


async def test_of_two_updates_through_two_servers_one_is_a_conflict(
    tmp_path: Path, etcd_url: str
) -> None:
    async with servers(tmp_path, etcd_url, etcd_url) as clients:
        made = await clients[0].create(kinds.CONFIG_MAP, config_map("a"))
        results = await asyncio.gather(
            *(
                client.update(kinds.CONFIG_MAP, {**meta.copy(made), "data": {"by": str(n)}})
                for n, client in enumerate(clients)
            ),
            return_exceptions=True,
        )
        codes = [r.code for r in results if isinstance(r, ApiError)]
        assert codes == [409]


async def test_without_quorum_requests_are_refused_caches_serve_and_all_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if etcd.ETCD is None:
        pytest.skip("etcd is not installed")
    monkeypatch.setattr(etcd_client, "READ_SECONDS", 1.0)
    with etcd.etcd() as cluster:
        async with servers(tmp_path, cluster.url) as (client,):
            await client.create(kinds.CONFIG_MAP, config_map("a", n="1"))
            cluster.members[0].signal(signal.SIGSTOP)
            with pytest.raises(ApiError) as refused:
                await client.create(kinds.CONFIG_MAP, config_map("b"))
            assert (refused.value.code, refused.value.reason) == (503, "ServiceUnavailable")
            with pytest.raises(ApiError) as unread:
                await client.get(kinds.CONFIG_MAP, "a", "default")
            assert unread.value.code == 503
            page = await client.list(kinds.NAMESPACE, limit=1, resource_version="0")
            with pytest.raises(ApiError) as rest:
                await client.list(kinds.NAMESPACE, limit=1, continue_token=page.continue_token)
            assert rest.value.code == 503
            # Who does not ask for the newest is served, as informers are.
            cached = await client.list(kinds.CONFIG_MAP, "default", resource_version="0")
            assert [meta.name(item) for item in cached.items] == ["a"]
            cluster.members[0].signal(signal.SIGCONT)

            async def answers() -> bool:
                with contextlib.suppress(ApiError):
                    await client.create(kinds.CONFIG_MAP, config_map("c"))
                    return True
                return False

            await until(answers)
            assert (await client.get(kinds.CONFIG_MAP, "a", "default"))["data"] == {"n": "1"}
