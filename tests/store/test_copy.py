"""Stores copied, saved and restored: each into each, and what is refused."""

import asyncio
import contextlib
import gzip
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshkube.backends import Place, load, move, save
from meshkube.config import Config, ConfigError
from meshkube.store import snapshot
from meshkube.store.base import Compacted, Store, StoreError
from meshkube.store.sqlite import SqliteStore

VALUES = {
    "/a": b'{"metadata":{}}',
    "/empty": b"",
    "/bytes": b"\xff\x00\n",
    "/b/\ue000": "grün".encode(),
    **{f"/many/{n:04}": b"%d" % n for n in range(1300)},
}
MakePlace = Callable[[str], Place]


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MakePlace:
    """A store of a kind that nobody has written to."""

    def make(kind: str) -> Place:
        url = f"sqlite:{tmp_path / 'store.db'}"
        if kind.startswith("etcd"):
            url = request.getfixturevalue("etcd_url") + f"/{kind}"
        elif kind != "sqlite":
            url = f"sqlite:{tmp_path / kind}"
        return Place(url, Config(data_dir=tmp_path))

    return make


@contextlib.asynccontextmanager
async def opened(place: Place) -> AsyncIterator[Store]:
    store = await place.open()
    try:
        yield store
    finally:
        await store.aclose()


async def fill(place: Place) -> int:
    async with opened(place) as store:
        await asyncio.gather(*(store.create(key, value) for key, value in VALUES.items()))
        gone = await store.create("/gone", b"")
        await store.delete("/gone", gone.mod_revision)
        return await store.revision()


async def contents(place: Place) -> dict[str, bytes]:
    async with opened(place) as store:
        return {kv.key: kv.value for kv in (await store.range("")).kvs}


@pytest.mark.parametrize(
    ("kind", "other"), [("sqlite", "etcd"), ("etcd", "sqlite"), ("sqlite", "two.db")]
)
async def test_a_copy_has_every_key(place: MakePlace, kind: str, other: str) -> None:
    source, target = place(kind), place(other)
    revision = await fill(source)
    done = await move(source, target)
    assert (done.keys, done.source_revision) == (len(VALUES), revision)
    assert done.bytes == sum(map(len, VALUES.values()))
    assert await contents(target) == await contents(source) == VALUES
    with pytest.raises(StoreError, match=f"not empty: it holds {len(VALUES)} keys"):
        await move(source, target)


@pytest.mark.parametrize("kind", ["sqlite", "etcd"])
@pytest.mark.parametrize("other", ["two.db", "etcd2"])
async def test_a_snapshot_taken_at_work_restores_into_any_store(
    place: MakePlace, tmp_path: Path, kind: str, other: str
) -> None:
    source, target, file = place(kind), place(other), tmp_path / "snapshot"
    revision = await fill(source)
    async with opened(source) as store:
        stop = asyncio.Event()

        async def change() -> None:
            number = 0
            while not stop.is_set():
                kv = await store.create(f"/zz/{number}", b"")
                await store.delete(f"/zz/{number}", kv.mod_revision)
                number += 1

        changing = asyncio.ensure_future(change())
        await asyncio.sleep(0.05)
        done = await save(source, file)
        stop.set()
        await changing
    assert done.source_revision >= revision
    assert done.keys - len(VALUES) in (0, 1)
    assert file.stat().st_mode & 0o777 == 0o600
    found = snapshot.check(file)
    assert (found.keys, found.revision) == (done.keys, done.source_revision)
    restored = await load(file, target)
    assert restored.keys == done.keys
    kept = await contents(target)
    assert {key: value for key, value in kept.items() if not key.startswith("/zz")} == VALUES


async def test_a_new_file_goes_on_from_the_revision_of_what_it_replaces(place: MakePlace) -> None:
    source, target = place("sqlite"), place("new.db")
    revision = await fill(source)
    await move(source, target)
    async with opened(target) as store:
        assert await store.revision() == revision + len(VALUES)
        # Who knows the old store is told to look anew, instead of missing what came since.
        with pytest.raises(Compacted):
            await store.range("", revision=revision - 1)
        with pytest.raises(Compacted):
            await anext(store.watch("", revision - 1))
        before = await store.revision()
        await store.compact(before)
        assert (await store.create("/new", b"")).mod_revision == before + 1
    async with opened(target) as store:
        assert len((await store.range("")).kvs) == len(VALUES) + 1


async def test_a_store_with_data_does_not_move_its_revision(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.create("/a", b"")
    await store.aclose()
    store = await SqliteStore.open(tmp_path / "store.db", first_revision=1000)
    assert await store.revision() == 1
    assert (await store.range("", revision=1)).kvs
    await store.aclose()


async def test_a_store_that_a_server_has_is_not_copied(place: MakePlace) -> None:
    source = place("sqlite")
    async with opened(source):
        with pytest.raises(ConfigError, match="in use"):
            await move(source, place("two.db"))


async def test_a_copy_during_which_others_wrote_says_so(
    place: MakePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = place("etcd"), place("sqlite")
    await fill(source)
    async with opened(source) as store:
        create = SqliteStore.create
        seen: list[str] = []

        async def interfering(self: SqliteStore, key: str, value: bytes) -> object:
            if not seen:
                seen.append(key)
                await store.create("/late", b"")
            return await create(self, key, value)

        monkeypatch.setattr(SqliteStore, "create", interfering)
        with pytest.raises(StoreError, match="was written to"):
            await move(source, target)


async def test_what_is_not_there_is_named(place: MakePlace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no store"):
        await move(place("sqlite"), place("two.db"))
    with pytest.raises(StoreError, match="there is no store"):
        await save(place("sqlite"), tmp_path / "snapshot")
    assert not (tmp_path / "store.db").exists()
    with pytest.raises(StoreError, match="No such file"):
        await load(tmp_path / "nothing", place("sqlite"))
    await fill(place("sqlite"))
    with pytest.raises(ConfigError, match="what is copied from"):
        await move(place("sqlite"), place("sqlite"))


# Files that are no snapshots, or no longer


@pytest.fixture
async def file(place: MakePlace, tmp_path: Path) -> Path:
    source = place("sqlite")
    await fill(source)
    await save(source, tmp_path / "snapshot")
    return tmp_path / "snapshot"


def change(file: Path, how: Callable[[bytes], bytes]) -> None:
    file.write_bytes(how(file.read_bytes()))


def size(file: Path) -> int:
    return file.stat().st_size


def flip(file: Path, at: int) -> None:
    change(file, lambda whole: whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])


def rewritten(content: bytes, old: bytes, new: bytes) -> bytes:
    assert old in content
    return content.replace(old, new, 1)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda c: c[:-200], "damaged"),
        (lambda c: b"".join(c.splitlines(keepends=True)[:-1]), "damaged"),
        (lambda c: rewritten(c, b'"value":"7"', b'"value":"8"'), "checksum"),
        (lambda c: rewritten(c, b'"/many/0007"', b'"/many/0008"'), "checksum"),
        (lambda c: rewritten(c, b'"version":1', b'"version":9'), "has version 9"),
        (lambda c: rewritten(c, b"meshkube-store", b"something-else"), "no snapshot"),
        (lambda c: b"", "damaged"),
        (lambda c: b"[]\n[]\n", "damaged"),
    ],
)
async def test_a_damaged_snapshot_is_refused_and_nothing_written(
    file: Path, place: MakePlace, damage: Callable[[bytes], bytes], says: str
) -> None:
    change(file, lambda whole: gzip.compress(damage(gzip.decompress(whole))))
    with pytest.raises(StoreError, match=says) as refused:
        await load(file, place("two.db"))
    assert "\n" not in str(refused.value)
    assert str(file) in str(refused.value)
    assert await contents(place("two.db")) == {}


@pytest.mark.parametrize("keep", [0, 10, 300])
async def test_a_file_cut_short_is_refused(file: Path, place: MakePlace, keep: int) -> None:
    change(file, lambda whole: whole[:keep])
    with pytest.raises(StoreError, match=r"damaged|no snapshot"):
        await load(file, place("two.db"))


async def test_any_flipped_byte_is_noticed(file: Path) -> None:
    # The gzip header's time and system do not count.
    for at in range(10, size(file), max(1, size(file) // 60)):
        flip(file, at)
        with pytest.raises(StoreError):
            list(snapshot.read(file))
        flip(file, at)
    assert len(list(snapshot.read(file))) == len(VALUES)


async def test_a_plain_file_is_no_snapshot(tmp_path: Path, place: MakePlace) -> None:
    (tmp_path / "plain").write_text("hello\n")
    with pytest.raises(StoreError, match="no snapshot"):
        await load(tmp_path / "plain", place("sqlite"))


async def test_a_place_that_cannot_be_written_leaves_nothing(
    place: MakePlace, tmp_path: Path
) -> None:
    await fill(place("sqlite"))
    with pytest.raises(StoreError, match="none"):
        await save(place("sqlite"), tmp_path / "none" / "snapshot")
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]
