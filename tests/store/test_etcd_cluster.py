"""Three etcd members that are killed, frozen and cut off, under writers and watchers."""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from meshkube.store.base import Compacted, StoreUnavailable
from meshkube.store.etcd import EtcdStore
from tests.store.etcd_load import Follower, Load, check
from tests.support import etcd

WRITERS = 8
pytestmark = pytest.mark.skipif(etcd.ETCD is None, reason="etcd is not installed")


@pytest.fixture
def cluster() -> Iterator[etcd.Cluster]:
    with etcd.etcd(size=3) as cluster:
        yield cluster


@pytest.fixture
def member() -> Iterator[etcd.Cluster]:
    with etcd.etcd() as cluster:
        yield cluster


@contextlib.asynccontextmanager
async def busy(
    cluster: etcd.Cluster, watchers: int = 3
) -> AsyncIterator[tuple[Load, list[Follower]]]:
    """Writers through one store and watchers through others; checked at the end."""
    async with contextlib.AsyncExitStack() as stack:
        stores = []
        for number in range(watchers + 1):
            # Each begins at another member.
            turned = etcd.Cluster(cluster.members[number:] + cluster.members[:number])
            store = await EtcdStore.open(turned.url)
            stack.push_async_callback(store.aclose)
            stores.append(store)
        load = Load(stores[0])
        followers = [Follower() for _ in range(watchers)]
        async with asyncio.TaskGroup() as group:
            following = [
                group.create_task(follower.follow(store, 0))
                for follower, store in zip(followers, stores[1:], strict=True)
            ]
            writing = [group.create_task(load.write(f"/{n}")) for n in range(WRITERS)]
            await acknowledge(load, 20)
            yield load, followers
            await acknowledge(load, 20)
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
            await check(load, followers)
            for task in following:
                task.cancel()


async def acknowledge(load: Load, more: int) -> float:
    """Waits for that many more writes; returns the seconds it took."""
    started = time.monotonic()
    enough = len(load.acknowledged) + more
    async with asyncio.timeout(60):
        while len(load.acknowledged) < enough:
            await asyncio.sleep(0.01)
    return time.monotonic() - started


async def test_killing_the_leader_loses_nothing_acknowledged_and_watches_go_on(
    cluster: etcd.Cluster,
) -> None:
    async with busy(cluster) as (load, _):
        for _ in range(2):
            leader = await asyncio.to_thread(cluster.leader)
            leader.kill()
            await acknowledge(load, 50)
            cluster.start(leader)
            await asyncio.sleep(1.0)


async def test_a_member_that_hangs_is_left(cluster: etcd.Cluster) -> None:
    async with busy(cluster) as (load, _):
        # The one that the writers use: its connections stay open, and nothing comes on them.
        cluster.members[0].signal(signal.SIGSTOP)
        assert await acknowledge(load, 50) < 30
        cluster.members[0].signal(signal.SIGCONT)


async def test_without_quorum_the_store_is_unavailable_and_comes_back_by_itself(
    cluster: etcd.Cluster,
) -> None:
    async with busy(cluster) as (load, _):
        store = load.store
        for member in cluster.members[:2]:
            member.kill()
        with pytest.raises(StoreUnavailable):
            await store.create("/lost", b"")
        with pytest.raises(StoreUnavailable):
            await store.revision()
        cluster.start(*cluster.members[:2])
        await acknowledge(load, 20)


async def test_kill_9_of_the_only_member_loses_nothing_acknowledged(member: etcd.Cluster) -> None:
    async with busy(member, watchers=1) as (load, _):
        for _ in range(3):
            await asyncio.sleep(random.uniform(0.05, 0.5))
            member.members[0].kill()
            member.start()
            await acknowledge(load, 30)


async def test_a_member_cut_off_from_the_others_does_not_hold_a_watch_back(
    cluster: etcd.Cluster,
) -> None:
    leader = await asyncio.to_thread(cluster.leader)
    (follower,) = [m for m in cluster.members if m is not leader][:1]
    last = next(m for m in cluster.members if m not in (leader, follower))
    store = await EtcdStore.open(etcd.Cluster([leader]).url)
    lagging = await EtcdStore.open(etcd.Cluster([follower, last]).url)
    heard = Follower()
    async with asyncio.TaskGroup() as group:
        following = group.create_task(heard.follow(lagging, 0))
        created = await store.create("/a", b"")
        await heard.reach(created.mod_revision)
        # Frozen, its watch is silent though its connection stays.
        follower.signal(signal.SIGSTOP)
        later = await store.create("/b", b"")
        started = time.monotonic()
        await heard.reach(later.mod_revision)
        assert time.monotonic() - started < 20
        following.cancel()
    follower.signal(signal.SIGCONT)
    await store.aclose()
    await lagging.aclose()


async def test_a_store_may_be_opened_before_etcd_is_there() -> None:
    with etcd.etcd(wait=False) as cluster:
        cluster.members[0].kill()
        store = await EtcdStore.open(cluster.url)
        with pytest.raises(StoreUnavailable, match=cluster.members[0].endpoint):
            await store.get("/a")
        cluster.start()
        await asyncio.to_thread(cluster.leader)
        assert (await store.create("/a", b"1")).value == b"1"
        await store.aclose()


async def test_a_watch_on_an_etcd_that_was_set_back_says_that_its_history_is_gone(
    member: etcd.Cluster,
) -> None:
    store = await EtcdStore.open(member.url)
    for number in range(10):
        last = await store.create(f"/{number}", b"")
    async with contextlib.aclosing(store.watch("/", last.mod_revision)) as watch:
        await anext(watch)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.2)
        member.members[0].kill()
        member.members[0].forget()
        member.start()
        await asyncio.to_thread(member.leader)
        with pytest.raises(Compacted):
            async with asyncio.timeout(60):
                await waiting
    assert (await store.create("/new", b"")).mod_revision < last.mod_revision
    await store.aclose()
