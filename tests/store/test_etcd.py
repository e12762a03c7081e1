"""What is special about the store on etcd: who else is there, TLS, users, compaction, limits."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshkube import pki
from meshkube.store import etcd_client
from meshkube.store.base import Compacted, Store, StoreError, StoreUnavailable, TooLarge
from meshkube.store.etcd import EtcdStore
from meshkube.store.etcd_compaction import Compactor
from meshkube.store.etcd_wire import text64
from tests.support import etcd

PATIENCE = 30.0


def put_foreign(cluster: etcd.Cluster, count: int) -> int:
    """Others write to the same cluster; returns its revision."""
    for number in range(count):
        cluster.members[0].call("kv/put", key=text64(b"/foreign"), value=text64(b"%d" % number))
    return cluster.revision()


async def seen(store: Store, after: int, count: int) -> list[str]:
    keys: list[str] = []
    async with asyncio.timeout(PATIENCE), contextlib.aclosing(store.watch("/", after)) as watch:
        while len(keys) < count:
            keys += [event.kv.key for event in (await anext(watch)).events]
    return keys


async def is_compacted(store: Store, revision: int) -> bool:
    try:
        await store.range("/", revision=revision)
    except Compacted as error:
        return error.oldest > revision
    return False


# Company in the cluster


async def test_others_in_the_cluster_do_not_move_the_stores_revision(
    etcd_cluster: etcd.Cluster, etcd_url: str
) -> None:
    put_foreign(etcd_cluster, 5)
    store = await EtcdStore.open(etcd_url)
    assert await store.revision() == 0
    created = await store.create("/a", b"1")
    assert put_foreign(etcd_cluster, 5) == created.mod_revision + 5
    assert await store.revision() == created.mod_revision
    result = await store.range("/")
    assert (result.kvs, result.revision) == ((created,), created.mod_revision)
    later = await store.create("/b", b"")
    assert later.mod_revision == created.mod_revision + 6
    assert await seen(store, 0, 2) == ["/a", "/b"]
    await store.aclose()


async def test_two_prefixes_are_two_stores(etcd_url: str) -> None:
    one = await EtcdStore.open(etcd_url)
    other = await EtcdStore.open(etcd_url + "/below")
    await one.create("/a", b"")
    assert await other.revision() == 0
    assert (await other.range("")).kvs == ()
    await other.create("/b", b"")
    assert [kv.key for kv in (await one.range("")).kvs] == ["/a"]
    await one.aclose()
    await other.aclose()


async def test_a_compaction_that_others_did_costs_nothing_where_nothing_of_ours_changed(
    etcd_cluster: etcd.Cluster, etcd_url: str
) -> None:
    store = await EtcdStore.open(etcd_url)
    created = await store.create("/a", b"1")
    revision = put_foreign(etcd_cluster, 5)
    etcd_cluster.members[0].call("kv/compaction", revision=revision)
    assert (await store.range("/", revision=created.mod_revision)).kvs == (created,)
    async with contextlib.aclosing(store.watch("/", created.mod_revision)) as watch:
        await anext(watch)
        news = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.3)
        later = await store.create("/b", b"")
        async with asyncio.timeout(PATIENCE):
            batch = await news
    assert [event.kv for event in batch.events] == [later]
    with pytest.raises(Compacted):
        await seen(store, created.mod_revision - 1, 1)
    await store.aclose()


async def test_two_servers_see_each_others_writes_in_one_order(etcd_url: str) -> None:
    one, other = await EtcdStore.open(etcd_url), await EtcdStore.open(etcd_url)
    writes = [(one if n % 2 else other).create(f"/{n}", b"") for n in range(40)]
    kvs = sorted(await asyncio.gather(*writes), key=lambda kv: kv.mod_revision)
    expected = [kv.key for kv in kvs]
    assert await seen(one, 0, 40) == await seen(other, 0, 40) == expected
    assert await one.revision() == await other.revision() == kvs[-1].mod_revision
    await one.aclose()
    await other.aclose()


async def test_a_revision_counts_all_that_was_acknowledged_before_the_call(etcd_url: str) -> None:
    one, other = await EtcdStore.open(etcd_url), await EtcdStore.open(etcd_url)

    async def write(number: int) -> None:
        for step in range(20):
            created = await one.create(f"/{number}/{step}", b"")
            assert await other.revision() >= created.mod_revision

    await asyncio.gather(*(write(number) for number in range(10)))
    await one.aclose()
    await other.aclose()


# Ranges of many pages


async def test_a_long_range_is_read_in_pages_of_one_moment(etcd_url: str) -> None:
    store = await EtcdStore.open(etcd_url)
    kvs = await asyncio.gather(*(store.create(f"/{n:04}", b"x" * 10_000) for n in range(1200)))
    revision = await store.revision()
    reading = asyncio.ensure_future(store.range("/"))
    await asyncio.sleep(0)
    changing = [store.update(kv.key, b"new", kv.mod_revision) for kv in kvs[-50:]]
    await asyncio.gather(*changing)
    result = await reading
    assert len(result.kvs) == 1200
    assert all(kv.mod_revision <= result.revision for kv in result.kvs)
    past = await store.range("/", revision=revision)
    assert past.kvs == tuple(sorted(kvs, key=lambda kv: kv.key))
    page = await store.range("/", limit=700, revision=revision)
    assert (len(page.kvs), page.remaining) == (700, 500)
    await store.aclose()


async def test_a_replay_larger_than_one_message_comes_whole(etcd_url: str) -> None:
    store = await EtcdStore.open(etcd_url)
    kv = await store.create("/a", b"x" * 1_000_000)
    for number in range(20):
        kv = await store.update("/a", b"%d" % number * 500_000, kv.mod_revision)
    assert await seen(store, 0, 21) == ["/a"] * 21
    await store.aclose()


async def test_a_value_that_etcd_does_not_take_is_refused() -> None:
    with etcd.etcd(arguments=("--max-request-bytes=100000",)) as small:
        store = await EtcdStore.open(small.url)
        for size in (120_000, 1_000_000):
            with pytest.raises(TooLarge, match="large"):
                await store.create("/a", b"x" * size)
        assert await store.get("/a") is None
        await store.aclose()


# Compaction by turns


async def test_servers_take_turns_at_compaction(etcd_cluster: etcd.Cluster, etcd_url: str) -> None:
    stores = [await EtcdStore.open(etcd_url, keep_seconds=0.2) for _ in range(3)]
    first = await stores[0].create("/a", b"")
    kv = first
    async with asyncio.timeout(PATIENCE):
        while True:
            kv = await stores[0].update("/a", b"", kv.mod_revision)
            if await is_compacted(stores[1], first.mod_revision):
                break
            await asyncio.sleep(0.02)
    for store in stores:
        await store.aclose()


async def test_of_compactors_that_come_at_once_one_takes_the_turn(etcd_url: str) -> None:
    store = await EtcdStore.open(etcd_url)
    before = await store.create("/a", b"")
    rivals = [Compactor(store._client, store._layout, 300) for _ in range(5)]
    assert sum(await asyncio.gather(*(rival.take_turn() for rival in rivals))) == 1
    assert (await store.range("/", revision=before.mod_revision)).kvs == (before,)
    after = await store.create("/b", b"")
    # They have all learned of the first turn: so this one compacts up to that.
    assert sum(await asyncio.gather(*(rival.take_turn() for rival in rivals))) == 1
    with pytest.raises(Compacted):
        await seen(store, before.mod_revision - 1, 1)
    assert await seen(store, before.mod_revision, 1) == [after.key]
    await store.aclose()


# TLS and users


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A CA, a server's pair, and a client's: `ca.crt`, `server.crt`, `client.crt`…"""
    authority = pki.new_authority("etcd test")
    pki.save(authority, tmp_path / "ca")
    pki.save(pki.issue(authority, "etcd", names=["127.0.0.1", "localhost"]), tmp_path / "server")
    pki.save(pki.issue(authority, "meshkube"), tmp_path / "client")
    pki.save(pki.new_authority("somebody else"), tmp_path / "other")
    return tmp_path


@pytest.fixture
def tls_cluster(keys: Path) -> Iterator[etcd.Cluster]:
    if etcd.ETCD is None:
        pytest.skip("etcd is not installed")
    arguments = (
        f"--cert-file={keys / 'server.crt'}",
        f"--key-file={keys / 'server.key'}",
        f"--trusted-ca-file={keys / 'ca.crt'}",
        "--client-cert-auth",
    )
    with etcd.etcd(arguments=arguments, scheme="https", wait=False) as cluster:
        yield cluster


async def test_tls_with_a_client_certificate(
    tls_cluster: etcd.Cluster, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(etcd_client, "READ_SECONDS", 0.5)
    ca, cert, key = keys / "ca.crt", keys / "client.crt", keys / "client.key"
    store = await EtcdStore.open(tls_cluster.url, ca=ca, cert=cert, key=key)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                created = await store.create("/a", b"1")
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)
    assert await seen(store, 0, 1) == ["/a"]
    assert await store.get("/a") == created
    await store.aclose()
    nobody = await EtcdStore.open(tls_cluster.url, ca=ca)
    with pytest.raises(StoreUnavailable):
        await nobody.get("/a")
    await nobody.aclose()
    deceived = await EtcdStore.open(tls_cluster.url, ca=keys / "other.crt", cert=cert, key=key)
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        await deceived.get("/a")
    await deceived.aclose()


@pytest.mark.parametrize(
    ("ca", "cert", "name"),
    [("none.crt", "", "none.crt"), ("ca.key", "", "ca.key"), ("ca.crt", "client.key", "client")],
)
async def test_files_that_are_no_good_for_tls_are_named(
    keys: Path, ca: str, cert: str, name: str
) -> None:
    with pytest.raises(StoreError, match=name) as refused:
        await EtcdStore.open(
            "etcd://127.0.0.1:1",
            ca=keys / ca,
            cert=keys / cert if cert else None,
            key=keys / "client.key" if cert else None,
        )
    assert "\n" not in str(refused.value)


@pytest.fixture
def guarded() -> Iterator[etcd.Cluster]:
    """An etcd where `mesh` may use the prefix /meshkube and nothing else."""
    if etcd.ETCD is None:
        pytest.skip("etcd is not installed")
    with etcd.etcd(arguments=("--auth-token-ttl=2",)) as cluster:
        call = cluster.members[0].call
        call("auth/user/add", name="root", password="root")
        call("auth/role/add", name="root")
        call("auth/user/grant", user="root", role="root")
        call("auth/user/add", name="mesh", password="hush")
        call("auth/role/add", name="mesh")
        permission = {"key": text64(b"/meshkube/"), "range_end": text64(b"/meshkube0")}
        call("auth/role/grant", name="mesh", perm={"permType": "READWRITE", **permission})
        call("auth/user/grant", user="mesh", role="mesh")
        call("auth/enable")
        yield cluster


async def test_a_user_with_a_password_and_a_token_that_ends(guarded: etcd.Cluster) -> None:
    store = await EtcdStore.open(guarded.url, user="mesh", password="hush")
    await store.create("/a", b"1")
    following = asyncio.ensure_future(seen(store, 0, 3))
    await asyncio.gather(*(store.get("/a") for _ in range(20)))
    # Tokens live 2 s there without use, and none at all when the process ends.
    await asyncio.sleep(4)
    await store.create("/b", b"2")
    guarded.members[0].kill()
    guarded.start()
    await asyncio.to_thread(wait_started, guarded)
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.create("/c", b"3")
                break
            except StoreUnavailable:
                await asyncio.sleep(0.1)
        assert await following == ["/a", "/b", "/c"]
    await store.compact(await store.revision())
    await store.aclose()


def wait_started(cluster: etcd.Cluster) -> None:
    with contextlib.suppress(OSError):
        cluster.members[0].call("maintenance/status")


async def test_a_wrong_password_and_a_foreign_prefix_are_refused(guarded: etcd.Cluster) -> None:
    with pytest.raises(StoreError, match="authentication failed"):
        await EtcdStore.open(guarded.url, user="mesh", password="wrong")
    with pytest.raises(StoreError, match="permission denied"):
        await EtcdStore.open(guarded.url + "/other", user="mesh", password="hush")
    with pytest.raises(StoreError, match="user"):
        await EtcdStore.open(guarded.url)


async def test_a_user_where_etcd_asks_for_none_does_no_harm(etcd_url: str) -> None:
    store = await EtcdStore.open(etcd_url, user="mesh", password="hush")
    assert (await store.create("/a", b"1")).value == b"1"
    assert await seen(store, 0, 1) == ["/a"]
    await store.aclose()
