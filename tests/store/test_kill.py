"""`kill -9` in a storm of writes: what was acknowledged is there, and revisions have no gaps."""

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from meshkube.store.base import Store
from meshkube.store.sqlite import SqliteStore

ROUNDS = 4
EVERYTHING = 10_000_000
Writes = dict[int, tuple[str, str, str]]
WRITERS = 40
STORM = Path(__file__).with_name("storm.py")
ROOT = Path(__file__).parents[2]


def storm(path: Path, seed: int, seconds: float, keep: int) -> list[str]:
    """Runs a storm, kills it after that long from its first acknowledgement, and returns all of
    those that were printed whole."""
    process = subprocess.Popen(
        [sys.executable, str(STORM), str(path), str(seed), str(keep)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    with process.stdout as output:
        printed = output.readline()
        assert printed, "the storm never began"
        os.set_blocking(output.fileno(), False)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            printed += output.read() or b""
            time.sleep(0.002)
        process.kill()
        process.wait()
        os.set_blocking(output.fileno(), True)
        printed += output.read()
    return [line.decode() for line in printed.split(b"\n")[:-1]]


def storms(path: Path, seed: int, keep: int, expected: Writes) -> None:
    """One more storm; what it acknowledged is added to `expected`."""
    for line in storm(path, seed, random.uniform(0.05, 0.8), keep):
        operation, key, revision, value = line.split(" ")
        assert int(revision) not in expected, "one revision was given twice"
        expected[int(revision)] = (operation, key, value)


async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    expected: Writes = {}
    for seed in range(ROUNDS):
        storms(path, seed, EVERYTHING, expected)
        store = await SqliteStore.open(path, keep_revisions=EVERYTHING)
        try:
            await check_history(store, expected)
        finally:
            await store.aclose()
    assert len(expected) > 100


async def check_history(store: Store, expected: Writes) -> None:
    """Every revision is in the log, every acknowledged one as it was, and they add up."""
    head = await store.revision()
    history: Writes = {}
    state: dict[str, bytes] = {}
    async with contextlib.aclosing(store.watch("", 0)) as watch:
        async for batch in watch:
            for event in batch.events:
                kv = event.kv
                if event.deleted:
                    history[kv.mod_revision] = ("delete", kv.key, "-")
                    del state[kv.key]
                else:
                    history[kv.mod_revision] = ("put", kv.key, kv.value.decode())
                    state[kv.key] = kv.value
            if batch.revision >= head:
                break
    assert list(history) == list(range(1, head + 1))
    assert {revision: history[revision] for revision in expected} == expected
    assert {kv.key: kv.value for kv in (await store.range("")).kvs} == state


async def test_kill_9_while_history_is_compacted_loses_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store.db"
    expected: Writes = {}
    for seed in range(ROUNDS):
        storms(path, seed, 100, expected)
        store = await SqliteStore.open(path, keep_revisions=100)
        try:
            await check_present(store, expected, in_flight=(seed + 1) * WRITERS)
        finally:
            await store.aclose()
    assert len(expected) > 100


async def check_present(store: Store, expected: Writes, in_flight: int) -> None:
    """Each key is as its last acknowledged write left it, but for writes in flight at a kill."""
    assert await store.revision() >= max(expected)
    last = {key: revision for revision, (_, key, _) in sorted(expected.items())}
    current = {kv.key: kv for kv in (await store.range("")).kvs}
    later = 0
    for key, revision in last.items():
        operation, _, value = expected[revision]
        kv = current.get(key)
        if operation == "delete":
            assert kv is None
        elif kv is not None and kv.mod_revision == revision:
            assert kv.value.decode() == value
        else:
            assert kv is None or kv.mod_revision > revision
            later += 1
    assert later <= in_flight
