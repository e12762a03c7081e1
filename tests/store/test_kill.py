"""`kill -9` in a storm of writes: what was acknowledged is there, and revisions have no gaps."""

import contextlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from meshkube.store.sqlite import SqliteStore

ROUNDS = 4
STORM = Path(__file__).with_name("storm.py")
ROOT = Path(__file__).parents[2]


def storm(path: Path, seed: int, seconds: float) -> list[str]:
    """Runs a storm, kills it after that long from its first acknowledgement, and returns all of
    those that were printed whole."""
    process = subprocess.Popen(
        [sys.executable, str(STORM), str(path), str(seed)],
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


async def test_kill_9_loses_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    expected: dict[int, tuple[str, str, str]] = {}
    chance = random.Random()
    for seed in range(ROUNDS):
        lines = storm(path, seed, chance.uniform(0.05, 0.8))
        for line in lines:
            operation, key, revision, value = line.split(" ")
            assert int(revision) not in expected, "one revision was given twice"
            expected[int(revision)] = (operation, key, value)
        await check(path, expected)
    assert len(expected) > 100


async def check(path: Path, expected: dict[int, tuple[str, str, str]]) -> None:
    store = await SqliteStore.open(path)
    try:
        head = await store.revision()
        assert head >= max(expected)
        history: dict[int, tuple[str, str, str]] = {}
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
        current = {kv.key: kv.value for kv in (await store.range("")).kvs}
        assert current == state
    finally:
        await store.aclose()
