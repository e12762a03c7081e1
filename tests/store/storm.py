"""A process that writes without end: `python storm.py PATH SEED KEEP`.

KEEP is how many revisions the store keeps. Each line it prints is a write that the store has
acknowledged: `operation key revision value`.
"""

import asyncio
import random
import sys

from meshkube.store.sqlite import SqliteStore

WRITERS = 40


async def write(store: SqliteStore, name: str, seed: int) -> None:
    chance = random.Random(f"{seed}/{name}")
    number = 0
    while True:
        key = f"/{name}/{seed}-{number}"
        number += 1
        value = b"%d" % chance.getrandbits(64)
        kv = await store.create(key, value)
        report("put", key, kv.mod_revision, value)
        if chance.random() < 0.5:
            value += b"+"
            kv = await store.update(key, value, kv.mod_revision)
            report("put", key, kv.mod_revision, value)
        if chance.random() < 0.3:
            gone = await store.delete(key, kv.mod_revision)
            report("delete", key, gone.mod_revision, b"-")


def report(operation: str, key: str, revision: int, value: bytes) -> None:
    sys.stdout.write(f"{operation} {key} {revision} {value.decode()}\n")
    sys.stdout.flush()


async def main() -> None:
    store = await SqliteStore.open(sys.argv[1], keep_revisions=int(sys.argv[3]))
    async with asyncio.TaskGroup() as group:
        for number in range(WRITERS):
            group.create_task(write(store, f"w{number}", int(sys.argv[2])))


if __name__ == "__main__":
    asyncio.run(main())
