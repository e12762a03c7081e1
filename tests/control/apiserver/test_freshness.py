"""Three servers on three etcd members: no client ever reads what is older than it may."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from tests.support import etcd
from tests.support.api import running_registry
from tests.support.freshness import Hopping
from tests.support.link import Link

pytestmark = pytest.mark.skipif(etcd.ETCD is None, reason="etcd is not installed")


@pytest.fixture(scope="module")
def cluster() -> Iterator[etcd.Cluster]:
    with etcd.etcd(size=3) as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def servers(
    tmp_path: Path, cluster: etcd.Cluster, prefix: str
) -> AsyncIterator[tuple[list[Registry], list[Link]]]:
    """Each reaches one member, over a link of its own."""
    async with contextlib.AsyncExitStack() as stack:
        links, registries = [], []
        for member in cluster.members:
            link = await stack.enter_async_context(Link(member.client_port))
            url = f"etcd://127.0.0.1:{link.port}/{prefix}"
            registries.append(await stack.enter_async_context(running_registry(tmp_path, etcd=url)))
            links.append(link)
        yield registries, links


async def test_clients_that_hop_between_servers_see_all_that_was_acknowledged(
    tmp_path: Path, cluster: etcd.Cluster
) -> None:
    async with servers(tmp_path, cluster, "calm") as (registries, _):
        hopping = Hopping(registries, seed=1)
        await hopping.run(4)
    check(hopping)
    assert hopping.refused == 0


async def test_a_server_whose_link_to_the_store_breaks_refuses_and_is_never_stale(
    tmp_path: Path, cluster: etcd.Cluster
) -> None:
    chance = random.Random(2)

    async def break_links(links: list[Link]) -> None:
        while True:
            link = chance.choice(links)
            link.hold() if chance.random() < 0.5 else link.cut()
            await asyncio.sleep(chance.uniform(0.2, 1.5))
            link.heal()
            await asyncio.sleep(0.3)

    async with servers(tmp_path, cluster, "broken") as (registries, links):
        hopping = Hopping(registries, seed=2)
        async with asyncio.TaskGroup() as group:
            breaking = group.create_task(break_links(links))
            await hopping.run(8)
            breaking.cancel()
            for link in links:
                link.heal()
    check(hopping)


def check(hopping: Hopping) -> None:
    assert hopping.reads > 50
    assert hopping.pages > 3
    assert hopping.resumed > 3
    assert hopping.events == sorted(set(hopping.events))
    assert len(hopping.events) >= sum(hopping.known.numbers.values()) * 0.5


async def test_a_revision_of_the_future_is_waited_for_and_then_told_as_that(
    tmp_path: Path, cluster: etcd.Cluster
) -> None:
    async with servers(tmp_path, cluster, "future") as (registries, _):
        one, other = (LocalClient(registry) for registry in registries[:2])
        revision = int((await one.list(kinds.CONFIG_MAP)).resource_version)
        waiting = asyncio.ensure_future(
            other.list(kinds.CONFIG_MAP, resource_version=str(revision + 1))
        )
        await asyncio.sleep(0.2)
        assert not waiting.done()
        made = {"metadata": {"name": "a", "namespace": "default"}}
        await one.create(kinds.CONFIG_MAP, made)
        assert int((await waiting).resource_version) > revision
        with pytest.raises(ApiError, match="Too large resource version") as far:
            await other.list(kinds.CONFIG_MAP, resource_version=str(revision + 1000))
        assert far.value.code == 504


async def test_what_is_compacted_is_gone_on_every_server(
    tmp_path: Path, cluster: etcd.Cluster
) -> None:
    async with servers(tmp_path, cluster, "compacted") as (registries, _):
        clients = [LocalClient(registry) for registry in registries]
        for number in range(4):
            made = {"metadata": {"name": f"c{number}", "namespace": "default"}}
            await clients[0].create(kinds.CONFIG_MAP, made)
        page = await clients[0].list(kinds.CONFIG_MAP, "default", limit=2)
        await clients[1].delete(kinds.CONFIG_MAP, "c3", "default")
        # Compacted in practice is what all have long seen.
        newest = max([int((await c.list(kinds.CONFIG_MAP)).resource_version) for c in clients])
        cluster.members[0].call("kv/compaction", revision=newest, physical=True)
        for registry in registries:
            with pytest.raises(ApiError) as gone:
                await registry.list(
                    Query(
                        kinds.CONFIG_MAP,
                        "default",
                        resource_version=page.resource_version,
                        match="Exact",
                    )
                )
            assert gone.value.code == 410
        for client in clients:
            with pytest.raises(ApiError, match="continue") as gone:
                await client.list(
                    kinds.CONFIG_MAP, "default", limit=2, continue_token=page.continue_token
                )
            assert gone.value.code == 410
