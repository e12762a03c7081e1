"""What is special about the store in a file: the file."""

import asyncio
import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from meshkube.store import broadcast, sqlite_rows
from meshkube.store.base import Compacted, KeyValue, StoreError, StoreFull, StoreUnavailable
from meshkube.store.sqlite import SqliteStore
from meshkube.store.sqlite_writer import SPARE_PAGES
from tests.support.disk import enlarge

PATIENCE = 60.0


async def opened_message(path: Path) -> str:
    """The one line with which opening fails."""
    with pytest.raises(StoreError) as refused:
        await SqliteStore.open(path)
    message = str(refused.value)
    assert "\n" not in message
    assert str(path) in message
    return message


async def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"something else entirely\n" * 500)
    assert "not an SQLite database" in await opened_message(path)
    assert path.read_bytes() == b"something else entirely\n" * 500


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE log (line TEXT)")
    assert "not a store of meshkube" in await opened_message(path)


async def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    await (await SqliteStore.open(path)).aclose()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "schema version 99" in await opened_message(path)


async def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    await asyncio.gather(*(store.create(f"/{n}", b"x" * 500) for n in range(200)))
    await store.aclose()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))
    assert "damaged" in await opened_message(path)


async def test_one_process_has_the_store_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    assert "in use" in await opened_message(path)
    await store.aclose()
    await (await SqliteStore.open(path)).aclose()


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="file"):
        await SqliteStore.open(tmp_path / "file" / "store.db")


async def test_only_the_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "store.db"
    store = await SqliteStore.open(path)
    await store.create("/secret", b"")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    await store.aclose()
    assert set(modes) >= {"store.db", "store.db-wal"}
    assert set(modes.values()) == {0o600}


async def test_sqlite3_can_read_along(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path)
    await store.create("/a", b"1")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT key, value FROM current JOIN log USING (revision, key)")
        assert rows.fetchall() == [("/a", b"1")]
        await store.create("/b", b"2")
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (2,)
    await store.aclose()


async def test_a_copy_by_sqlite3_is_a_store(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    created = await store.create("/a", b"1")
    with contextlib.closing(sqlite3.connect(tmp_path / "store.db")) as connection:
        connection.execute("VACUUM INTO ?", (str(tmp_path / "backup.db"),))
    await store.aclose()
    backup = await SqliteStore.open(tmp_path / "backup.db")
    assert await backup.get("/a") == created
    assert (await backup.create("/b", b"")).mod_revision == 2
    assert (tmp_path / "backup.db-wal").exists()
    await backup.aclose()


async def test_many_at_once_share_their_commits(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    await store.create("/first", b"")
    before = (tmp_path / "store.db-wal").stat().st_size
    await asyncio.gather(*(store.create(f"/{n:04}", b"x") for n in range(500)))
    grown = (tmp_path / "store.db-wal").stat().st_size - before
    await store.aclose()
    # Each commit writes at least the log page and the index page anew.
    assert grown < 500 * 2 * 4096 / 5


async def test_a_watcher_that_overflows_reads_on_from_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "LONGEST_QUEUE", 10)
    store = await SqliteStore.open(tmp_path / "store.db")
    async with contextlib.aclosing(store.watch("/", 0)) as watch:
        await anext(watch)
        await asyncio.gather(*(store.create(f"/{n}", b"") for n in range(2000)))
        seen: list[int] = []
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 2000:
                seen += [event.kv.mod_revision for event in (await anext(watch)).events]
    await store.aclose()
    assert seen == list(range(1, 2001))


async def test_a_watcher_behind_the_kept_history_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broadcast, "LONGEST_QUEUE", 10)
    store = await SqliteStore.open(tmp_path / "store.db")
    async with contextlib.aclosing(store.watch("/", 0)) as watch:
        await anext(watch)
        await asyncio.gather(*(store.create(f"/{n}", b"") for n in range(100)))
        await store.compact(90)
        with pytest.raises(Compacted):
            async with asyncio.timeout(PATIENCE):
                await anext(watch)
    await store.aclose()


async def oldest_kept(store: SqliteStore) -> int:
    try:
        await store.range("", revision=1)
    except Compacted as error:
        return error.oldest
    return 0


async def until_kept_from(store: SqliteStore, revision: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while await oldest_kept(store) < revision:
            await asyncio.sleep(0.02)


async def test_history_beyond_its_age_is_forgotten(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", keep_seconds=0.3)
    kv = await store.create("/a", b"0")
    for n in range(20):
        kv = await store.update("/a", b"%d" % n, kv.mod_revision)
    assert await oldest_kept(store) == 0
    await until_kept_from(store, kv.mod_revision)
    assert await store.get("/a") == kv
    await store.aclose()


async def test_history_beyond_its_length_is_forgotten(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "store.db", keep_revisions=1000)
    await asyncio.gather(*(store.create(f"/{n}", b"") for n in range(4000)))
    await until_kept_from(store, 2000)
    assert await oldest_kept(store) <= 3000
    assert len((await store.range("")).kvs) == 4000
    await store.aclose()


async def test_space_is_given_back(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    store = await SqliteStore.open(path, keep_seconds=0.5)
    written = await asyncio.gather(*(store.create(f"/{n}", b"x" * 4000) for n in range(3000)))
    await asyncio.gather(*(store.delete(kv.key, kv.mod_revision) for kv in written))
    await until_kept_from(store, 6000)
    async with asyncio.timeout(PATIENCE):
        while free_pages(path) > SPARE_PAGES:
            await asyncio.sleep(0.1)
    await store.aclose()
    assert path.stat().st_size < (SPARE_PAGES + 100) * 4096


def free_pages(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (free,) = connection.execute("PRAGMA freelist_count").fetchone()
        return int(free)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount a small file system")
async def test_a_full_disk_fails_writes_and_they_work_again_once_there_is_space(
    small_disk: Path,
) -> None:
    store = await SqliteStore.open(small_disk / "store.db")
    acknowledged: list[KeyValue] = []

    async def fill() -> None:
        for n in range(1000):
            acknowledged.append(await store.create(f"/{n}", b"x" * 50_000))  # noqa: PERF401

    with pytest.raises(StoreFull, match="full") as refused:
        await fill()
    assert not refused.value.unknown
    assert acknowledged
    with pytest.raises(StoreFull):
        await store.create("/more", b"x" * 50_000)
    assert (await store.range("")).kvs == tuple(sorted(acknowledged, key=lambda kv: kv.key))
    await asyncio.to_thread(enlarge, small_disk)
    async with contextlib.aclosing(store.watch("", len(acknowledged))) as watch:
        again = await store.create("/again", b"x" * 50_000)
        assert again.mod_revision == len(acknowledged) + 1
        async with asyncio.timeout(PATIENCE):
            batch = await anext(watch)
            while not batch.events:
                batch = await anext(watch)
        assert [event.kv for event in batch.events] == [again]
    await store.aclose()


class Connection(sqlite3.Connection):
    """Commits, and once says that it could not."""

    faults = 0

    def execute(self, sql: str, *more: Any) -> sqlite3.Cursor:
        done = super().execute(sql, *more)
        if sql == "COMMIT" and Connection.faults:
            Connection.faults -= 1
            raise sqlite3.OperationalError("disk I/O error")
        return done


async def test_a_commit_that_failed_and_took_effect_all_the_same_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = sqlite3.connect
    monkeypatch.setattr(
        "meshkube.store.sqlite_file.sqlite3.connect",
        lambda *some, **more: plain(*some, factory=Connection, **more),
    )
    store = await SqliteStore.open(tmp_path / "store.db")
    async with contextlib.aclosing(store.watch("", 0)) as watch:
        await anext(watch)
        Connection.faults = 1
        with pytest.raises(StoreUnavailable, match="disk I/O error") as failed:
            await store.create("/a", b"")
        assert failed.value.unknown
        assert (await store.create("/b", b"")).mod_revision == 2
        seen: list[str] = []
        async with asyncio.timeout(PATIENCE):
            while len(seen) < 2:
                seen += [event.kv.key for event in (await anext(watch)).events]
    await store.aclose()
    assert seen == ["/a", "/b"]


async def test_an_error_nobody_thought_of_leaves_the_store_working(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await SqliteStore.open(tmp_path / "store.db")
    with monkeypatch.context() as patched:
        patched.setattr(sqlite_rows, "apply", lambda *_: 1 / 0)
        with pytest.raises(StoreUnavailable):
            await store.create("/a", b"")
    assert (await store.create("/a", b"")).mod_revision == 1
    await store.aclose()
