"""What every store must do: each sentence of `store.base.Store`, as a test."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from meshkube.store import limits
from meshkube.store.base import (
    Compacted,
    Event,
    Guard,
    GuardFailed,
    KeyExists,
    KeyValue,
    RevisionMismatch,
    Store,
    StoreError,
    StoreUnavailable,
    TooLarge,
    WatchBatch,
    Write,
)

OpenStore = Callable[[], Awaitable[Store]]
PATIENCE = 60.0


@contextlib.asynccontextmanager
async def watching(
    store: Store, prefix: str, after: int
) -> AsyncIterator[AsyncIterator[WatchBatch]]:
    async with contextlib.aclosing(store.watch(prefix, after)) as watch:
        yield watch


async def events(watch: AsyncIterator[WatchBatch], count: int) -> list[Event]:
    """The next `count` events, whatever batches they come in."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            found += (await anext(watch)).events
    return found


async def progress(watch: AsyncIterator[WatchBatch], revision: int) -> list[Event]:
    """What comes until the watch has told of `revision`."""
    found: list[Event] = []
    async with asyncio.timeout(PATIENCE):
        async for batch in watch:
            found += batch.events
            if batch.revision >= revision:
                break
    return found


# Writing


async def test_an_empty_store_is_at_revision_0(store: Store) -> None:
    assert await store.revision() == 0
    assert await store.get("/a") is None
    result = await store.range("/")
    assert (result.kvs, result.revision, result.remaining) == ((), 0, 0)


async def test_each_write_takes_the_next_revision_of_the_whole_store(
    store: Store, base: int
) -> None:
    a = await store.create("/a", b"1")
    b = await store.create("/b", b"2")
    changed = await store.update("/a", b"3", a.mod_revision)
    gone = await store.delete("/b", b.mod_revision)
    assert a == KeyValue("/a", b"1", base + 1, base + 1)
    assert b == KeyValue("/b", b"2", base + 2, base + 2)
    assert changed == KeyValue("/a", b"3", base + 1, base + 3)
    assert gone == KeyValue("/b", b"2", base + 2, base + 4)
    assert await store.revision() == base + 4
    assert await store.get("/a") == changed
    assert await store.get("/b") is None


async def test_create_refuses_a_key_that_exists(store: Store) -> None:
    first = await store.create("/a", b"1")
    with pytest.raises(KeyExists):
        await store.create("/a", b"2")
    assert await store.get("/a") == first
    assert await store.revision() == first.mod_revision


async def test_a_deleted_key_can_be_created_anew(store: Store, base: int) -> None:
    first = await store.create("/a", b"1")
    await store.delete("/a", first.mod_revision)
    assert await store.create("/a", b"2") == KeyValue("/a", b"2", base + 3, base + 3)


@pytest.mark.parametrize("operation", ["update", "delete"])
async def test_a_write_at_the_wrong_revision_is_refused_and_says_what_is_there(
    store: Store, operation: str
) -> None:
    async def write(key: str, revision: int) -> KeyValue:
        if operation == "update":
            return await store.update(key, b"new", revision)
        return await store.delete(key, revision)

    created = await store.create("/a", b"1")
    current = await store.update("/a", b"2", created.mod_revision)
    for wrong in (0, created.mod_revision, current.mod_revision + 1):
        with pytest.raises(RevisionMismatch) as stale:
            await write("/a", wrong)
        assert stale.value.current == current
    with pytest.raises(RevisionMismatch) as absent:
        await write("/b", 0)
    assert absent.value.current is None
    assert await store.revision() == current.mod_revision


async def test_of_many_writers_at_one_revision_exactly_one_wins(store: Store) -> None:
    first = await store.create("/a", b"")
    results = await asyncio.gather(
        *(store.update("/a", b"%d" % n, first.mod_revision) for n in range(50)),
        return_exceptions=True,
    )
    won = [result for result in results if isinstance(result, KeyValue)]
    lost = [result for result in results if isinstance(result, RevisionMismatch)]
    assert (len(won), len(lost)) == (1, 49)
    assert await store.get("/a") == won[0]
    assert await store.revision() == won[0].mod_revision == first.mod_revision + 1


async def test_refused_writes_do_not_spoil_those_beside_them(store: Store, base: int) -> None:
    await store.create("/taken", b"")
    results = await asyncio.gather(
        *(store.create("/taken" if n % 2 else f"/{n}", b"") for n in range(100)),
        return_exceptions=True,
    )
    assert [isinstance(result, KeyExists) for result in results] == [False, True] * 50
    revisions = sorted(kv.mod_revision for kv in results if isinstance(kv, KeyValue))
    assert revisions == list(range(base + 2, base + 52))


async def test_a_write_nobody_waits_for_any_more_does_no_harm(store: Store) -> None:
    tasks = [asyncio.ensure_future(store.create(f"/{n}", b"")) for n in range(20)]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await store.create("/last", b"")
    kept = await store.range("/")
    assert {f"/{n}" for n in range(1, 20, 2)} <= {kv.key for kv in kept.kvs}


@pytest.mark.parametrize("value", [b"", b"\x00\xff", b"x" * 1_400_000])
async def test_values_are_any_bytes(store: Store, value: bytes) -> None:
    await store.create("/a", value)
    kv = await store.get("/a")
    assert kv is not None
    assert kv.value == value


@pytest.mark.parametrize("key", ["", "/\ud800"])
async def test_what_cannot_be_a_key_is_refused(store: Store, base: int, key: str) -> None:
    with pytest.raises(StoreError):
        await store.create(key, b"")
    assert await store.create("/fine", b"") == KeyValue("/fine", b"", base + 1, base + 1)


@pytest.mark.parametrize("size", [limits.LARGEST_VALUE, 10 * limits.LARGEST_VALUE])
async def test_what_is_too_large_is_refused_and_the_rest_goes_on(store: Store, size: int) -> None:
    with pytest.raises(TooLarge, match="/a: a value has at most"):
        await store.create("/a", b"x" * size)
    kv = await store.create("/a", b"")
    with pytest.raises(TooLarge, match="/a: a value has at most"):
        await store.update("/a", b"x" * size, kv.mod_revision)
    assert await store.get("/a") == kv


# Transactions


async def test_a_transaction_makes_all_of_its_writes(store: Store) -> None:
    old = await store.create("/old", b"1")
    gone = await store.create("/gone", b"2")
    first = await store.transact(
        [
            Write("/new", b"3", 0),
            Write("/old", b"4", old.mod_revision),
            Write("/gone", None, gone.mod_revision),
            Write("/absent", None, None),
        ]
    )
    assert first == await store.get("/new")
    kept = await store.range("/")
    assert [(kv.key, kv.value) for kv in kept.kvs] == [("/new", b"3"), ("/old", b"4")]
    async with watching(store, "/", gone.mod_revision) as watch:
        seen = await events(watch, 3)
    assert {(event.kv.key, event.deleted) for event in seen} == {
        ("/new", False),
        ("/old", False),
        ("/gone", True),
    }


async def test_the_first_write_is_returned_as_it_was_done(store: Store) -> None:
    created = await store.transact([Write("/a", b"1", 0), Write("/b", b"", 0)])
    updated = await store.transact([Write("/a", b"2", created.mod_revision), Write("/c", b"", 0)])
    assert updated == await store.get("/a")
    assert updated.create_revision == created.create_revision
    deleted = await store.transact([Write("/a", None, updated.mod_revision), Write("/d", b"", 0)])
    assert (deleted.value, deleted.create_revision) == (b"2", created.create_revision)
    assert deleted.mod_revision > updated.mod_revision


@pytest.mark.parametrize(
    ("refused", "error"),
    [
        (Write("/there", b"", 0), KeyExists),
        (Write("/there", b"", 1_000_000), RevisionMismatch),
        (Write("/there", None, 1_000_000), RevisionMismatch),
        (Write("/absent", b"", 1), RevisionMismatch),
        (Write("/absent", None, 1), RevisionMismatch),
    ],
)
async def test_a_transaction_makes_none_of_its_writes_where_one_does_not_hold(
    store: Store, refused: Write, error: type[KeyExists | RevisionMismatch]
) -> None:
    there = await store.create("/there", b"")
    with pytest.raises(error) as raised:
        await store.transact([Write("/new", b"", 0), refused, Write("/last", b"", 0)])
    assert raised.value.key == refused.key
    assert raised.value.current == (there if refused.key == "/there" else None)
    assert (await store.range("")).kvs == (there,)
    assert await store.revision() == there.mod_revision


async def test_a_guard_is_needed_for_every_write(store: Store) -> None:
    term = await store.create("/term", b"one")
    await store.transact([Write("/a", b"1", 0)], [Guard("/term", b"one")])
    next_term = await store.update("/term", b"two", term.mod_revision)
    with pytest.raises(GuardFailed) as late:
        await store.transact([Write("/b", b"2", 0)], [Guard("/term", b"one")])
    assert late.value.current == next_term
    with pytest.raises(GuardFailed) as absent:
        await store.transact([Write("/b", b"2", 0)], [Guard("/none", b"")])
    assert absent.value.current is None
    assert await store.get("/b") is None


async def test_a_guard_may_name_a_revision(store: Store) -> None:
    place = await store.create("/place", b"")
    other = Guard("/place", b"")
    await store.transact([Write("/a", b"", 0)], [Guard("/place", None, place.mod_revision), other])
    moved = await store.update("/place", b"", place.mod_revision)
    for wrong in (place.mod_revision, 0):
        with pytest.raises(GuardFailed) as late:
            await store.transact([Write("/b", b"", 0)], [other, Guard("/place", None, wrong)])
        assert (late.value.key, late.value.current) == ("/place", moved)
    with pytest.raises(GuardFailed):
        await store.transact([Write("/b", b"", 0)], [Guard("/none", None, 0)])
    assert await store.get("/b") is None


async def test_of_transactions_that_take_one_key_exactly_one_wins(store: Store) -> None:
    results = await asyncio.gather(
        *(
            store.transact([Write(f"/object/{n}", b"", 0), Write("/claim", b"%d" % n, 0)])
            for n in range(30)
        ),
        return_exceptions=True,
    )
    (won,) = (result for result in results if isinstance(result, KeyValue))
    claim = await store.get("/claim")
    assert claim is not None
    assert won.key == f"/object/{claim.value.decode()}"
    assert (await store.range("/object/")).kvs == (won,)


async def test_a_transaction_of_the_most_keys_works_and_one_more_is_refused(store: Store) -> None:
    writes = [Write(f"/{n}", b"", 0) for n in range(limits.MOST_WRITES)]
    with pytest.raises(TooLarge, match="at most"):
        await store.transact([*writes, Write("/more", b"", 0)])
    await store.transact(writes)
    kvs = (await store.range("/")).kvs
    again = [Write(kv.key, b"1", kv.mod_revision) for kv in kvs]
    with pytest.raises(GuardFailed):
        await store.transact(again, [Guard("/absent", b"")])
    await store.transact(again)
    assert {kv.value for kv in (await store.range("/")).kvs} == {b"1"}


# Ranges


async def test_a_range_holds_the_keys_under_its_prefix_in_order(store: Store, base: int) -> None:
    for key in ("/b/2", "/a/1", "/b/10", "/b", "/b/", "/bb", "/c"):
        await store.create(key, key.encode())
    result = await store.range("/b/")
    assert [kv.key for kv in result.kvs] == ["/b/", "/b/10", "/b/2"]
    assert [kv.value for kv in result.kvs] == [b"/b/", b"/b/10", b"/b/2"]
    assert (result.revision, result.remaining) == (base + 7, 0)
    everything = await store.range("")
    assert [kv.key for kv in everything.kvs] == sorted(
        ["/b/2", "/a/1", "/b/10", "/b", "/b/", "/bb", "/c"]
    )


async def test_prefixes_may_end_in_any_character(store: Store) -> None:
    keys = ["a", "a\ud7ff", "a\ud7ff1", "a\ue000", "a\U0010ffff", "a\U0010ffff1", "b", "%_*?["]
    for key in keys:
        await store.create(key, b"")
    for prefix in keys:
        found = [kv.key for kv in (await store.range(prefix)).kvs]
        assert found == sorted(key for key in keys if key.startswith(prefix))


async def test_a_page_tells_how_many_keys_remain(store: Store) -> None:
    for n in range(10):
        await store.create(f"/a/{n}", b"")
    await store.create("/b", b"")
    pages = []
    last = ""
    while True:
        page = await store.range("/a/", start_after=last, limit=4)
        pages.append(([kv.key[-1] for kv in page.kvs], page.remaining))
        if not page.remaining:
            break
        last = page.kvs[-1].key
    assert pages == [(["0", "1", "2", "3"], 6), (["4", "5", "6", "7"], 2), (["8", "9"], 0)]


async def test_a_page_may_start_after_a_key_that_is_not_there(store: Store) -> None:
    for key in ("/a/1", "/a/3"):
        await store.create(key, b"")
    assert [kv.key for kv in (await store.range("/a/", start_after="/a/2")).kvs] == ["/a/3"]
    assert [kv.key for kv in (await store.range("/a/", start_after="/A")).kvs] == ["/a/1", "/a/3"]
    assert (await store.range("/a/", start_after="/a/3", limit=1)).kvs == ()


async def test_pages_of_one_revision_do_not_see_later_changes(store: Store, base: int) -> None:
    for n in range(6):
        await store.create(f"/a/{n}", b"old")
    first = await store.range("/a/", limit=2)
    await store.delete("/a/0", base + 1)
    await store.update("/a/2", b"new", base + 3)
    again = await store.delete("/a/3", base + 4)
    await store.create("/a/3", b"new")
    await store.create("/a/31", b"new")
    assert again.mod_revision == base + 9
    second = await store.range("/a/", start_after="/a/1", limit=2, revision=first.revision)
    third = await store.range("/a/", start_after="/a/3", limit=2, revision=first.revision)
    assert [(kv.key, kv.value) for kv in (*second.kvs, *third.kvs)] == [
        (f"/a/{n}", b"old") for n in range(2, 6)
    ]
    assert (second.remaining, third.remaining) == (2, 0)
    assert second.revision == third.revision == first.revision == base + 6
    assert (await store.range("/a/", revision=base + 6)).kvs[0] == KeyValue(
        "/a/0", b"old", base + 1, base + 1
    )


async def test_a_revision_that_is_not_reached_yet_cannot_be_read(store: Store) -> None:
    created = await store.create("/a", b"")
    with pytest.raises(StoreError):
        await store.range("/", revision=created.mod_revision + 1)


# Watches


async def test_a_watch_replays_and_then_follows(store: Store) -> None:
    a = await store.create("/a", b"1")
    await store.create("/other", b"")
    a2 = await store.update("/a", b"2", a.mod_revision)
    async with watching(store, "/a", 0) as watch:
        past = await events(watch, 2)
        gone = await store.delete("/a", a2.mod_revision)
        await store.create("/other2", b"")
        new = await store.create("/a", b"3")
        live = await events(watch, 2)
    assert past + live == [
        Event(a, False, None),
        Event(a2, False, a),
        Event(gone, True, a2),
        Event(new, False, None),
    ]


async def test_a_watch_begins_above_the_revision_it_was_given(store: Store, base: int) -> None:
    for n in range(5):
        await store.create(f"/{n}", b"")
    async with watching(store, "/", base + 3) as watch:
        seen = [event.kv.mod_revision for event in await events(watch, 2)]
    assert seen == [base + 4, base + 5]


async def test_batches_tell_how_far_the_watch_has_seen(store: Store, base: int) -> None:
    async with watching(store, "/a/", 0) as watch:
        seen = 0
        for n in range(20):
            await store.create(f"/a/{n}" if n % 3 else f"/b/{n}", b"")
        async with asyncio.timeout(PATIENCE):
            while seen < base + 20:
                batch = await anext(watch)
                assert batch.revision > seen or not batch.events
                for event in batch.events:
                    assert seen < event.kv.mod_revision <= batch.revision
                    seen = event.kv.mod_revision
                seen = batch.revision


async def test_an_idle_watch_hears_of_progress(store: Store) -> None:
    async with watching(store, "/quiet/", 0) as watch:
        last = [await store.create(f"/busy/{n}", b"") for n in range(10)][-1]
        assert await progress(watch, last.mod_revision) == []
        later = await store.create("/busy/later", b"")
        assert await progress(watch, later.mod_revision) == []


async def test_no_event_is_lost_or_doubled_where_replay_meets_the_present(
    store: Store, base: int
) -> None:
    total = 300

    async def write() -> None:
        for n in range(total):
            await store.create(f"/{n}", b"")

    async def follow(start: int) -> list[int]:
        while await store.revision() < base + start:
            await asyncio.sleep(0.001)
        async with watching(store, "/", base + start) as watch:
            return [event.kv.mod_revision for event in await events(watch, total - start)]

    starts = list(range(0, total, 23))
    _, *seen = await asyncio.gather(write(), *(follow(start) for start in starts))
    assert seen == [list(range(base + start + 1, base + total + 1)) for start in starts]


async def test_a_slow_watcher_still_gets_everything_or_is_told_otherwise(
    store: Store, base: int, flood: int
) -> None:
    total = flood
    async with watching(store, "/", 0) as watch:
        await store.create("/first", b"")
        assert len(await events(watch, 1)) == 1
        await asyncio.gather(*(store.create(f"/{n}", b"") for n in range(total)))
        try:
            rest = await events(watch, total)
        except Compacted:
            return
    assert [event.kv.mod_revision for event in rest] == list(range(base + 2, base + total + 2))


async def test_a_watch_that_was_closed_leaves_nothing_behind(store: Store) -> None:
    async with watching(store, "/", 0) as watch:
        await store.create("/a", b"")
        await events(watch, 1)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    await store.create("/b", b"")


async def test_a_watch_can_be_cancelled_while_it_waits(store: Store) -> None:
    async with watching(store, "/", 0) as watch:
        await progress(watch, 0)
        waiting = asyncio.ensure_future(anext(watch))
        await asyncio.sleep(0.05)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await store.create("/a", b"")


# Compaction


async def test_what_was_compacted_cannot_be_read_or_watched(store: Store, base: int) -> None:
    for n in range(5):
        await store.create(f"/{n}", b"")
    await store.compact(base + 4)
    with pytest.raises(Compacted) as read:
        await store.range("/", revision=base + 3)
    assert read.value.oldest == base + 4
    with pytest.raises(Compacted) as watched:
        async with watching(store, "/", base + 2) as watch:
            await events(watch, 1)
    assert watched.value.oldest == base + 4


async def test_what_is_kept_can_be_read_and_watched_as_before(store: Store, base: int) -> None:
    a = await store.create("/a", b"1")
    b = await store.create("/b", b"1")
    a2 = await store.update("/a", b"2", a.mod_revision)
    b_gone = await store.delete("/b", b.mod_revision)
    a3 = await store.update("/a", b"3", a2.mod_revision)
    before = await store.range("/", revision=base + 3)
    await store.compact(base + 3)
    assert await store.range("/", revision=base + 3) == before
    assert before.kvs == (a2, b)
    assert await store.get("/a") == a3
    async with watching(store, "/", base + 3) as watch:
        assert await events(watch, 2) == [Event(b_gone, True, b), Event(a3, False, a2)]


async def test_the_present_survives_a_compaction_of_everything(store: Store, base: int) -> None:
    kvs = [await store.create(f"/{n}", b"%d" % n) for n in range(5)]
    await store.delete("/0", base + 1)
    await store.compact(base + 6)
    assert (await store.range("/")).kvs == tuple(kvs[1:])
    assert await store.revision() == base + 6
    assert (await store.create("/0", b"")).mod_revision == base + 7
    await store.compact(base + 7)
    assert (await store.range("/", revision=base + 7)).kvs[1:] == tuple(kvs[1:])


async def test_compaction_is_idempotent_and_never_goes_back_or_ahead(
    store: Store, base: int
) -> None:
    for n in range(5):
        await store.create(f"/{n}", b"")
    for revision in (3, 3, 1, 99):
        await store.compact(base + revision)
    assert len((await store.range("/")).kvs) == 5
    assert (await store.create("/new", b"")).mod_revision == base + 6


async def test_writes_go_on_during_a_compaction(store: Store, base: int) -> None:
    kv = await store.create("/a", b"")
    for _ in range(300):
        kv = await store.update("/a", b"", kv.mod_revision)
    _, *written = await asyncio.gather(
        store.compact(kv.mod_revision), *(store.create(f"/{n}", b"") for n in range(100))
    )
    assert sorted(kv.mod_revision for kv in written) == list(range(base + 302, base + 402))


# Closing


async def test_a_closed_store_is_unavailable_and_a_reopened_one_has_everything(
    open_store: OpenStore, base: int
) -> None:
    store = await open_store()
    created = await store.create("/a", b"1")
    gone = await store.create("/b", b"")
    await store.delete("/b", gone.mod_revision)
    await store.aclose()
    await store.aclose()
    for attempt in (
        store.get("/a"),
        store.revision(),
        store.range("/"),
        store.create("/c", b""),
        store.compact(1),
        anext(store.watch("/", 0)),
    ):
        with pytest.raises(StoreUnavailable):
            await attempt
    again = await open_store()
    assert await again.get("/a") == created
    assert await again.revision() == base + 3
    assert (await again.create("/b", b"")).mod_revision == base + 4
    async with watching(again, "/", base + 1) as watch:
        seen = [event.kv.mod_revision for event in await events(watch, 3)]
    assert seen == [base + 2, base + 3, base + 4]


async def test_closing_finishes_what_was_accepted(open_store: OpenStore) -> None:
    store = await open_store()
    writes = [asyncio.ensure_future(store.create(f"/{n}", b"")) for n in range(200)]
    await asyncio.sleep(0)
    await store.aclose()
    await asyncio.gather(*writes)
    again = await open_store()
    assert len((await again.range("/")).kvs) == 200


async def test_closing_ends_watches(store: Store) -> None:
    async def follow() -> None:
        async for _ in store.watch("/", 0):
            pass

    following = asyncio.ensure_future(follow())
    await asyncio.sleep(0.05)
    await store.aclose()
    with pytest.raises(StoreUnavailable):
        async with asyncio.timeout(PATIENCE):
            await following
