"""Writes through the API while everything under it is killed, frozen and cut off; then: is every
acknowledged one there, and in order?

    python -m tests.support.writes --backend etcd --writes 10000 --seed 7

prints one JSON object, and fails where one is missing. Two daemons on three etcd members, each with
links of its own to them, or one daemon on SQLite. What happens when follows from the seed; how it
meets the writes is up to the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.client.http import HttpClient
from meshkube.store import Store
from meshkube.store.etcd import EtcdStore
from meshkube.store.sqlite import SqliteStore
from tests.support import etcd
from tests.support.link import Link
from tests.support.server import Server

PREFIX = "/registry/core/configmaps/default/write-"
WRITERS = 24
END_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """A write that a client was told has been made. Times are on one clock."""

    key: str
    number: int
    revision: int
    sent: float
    told: float


@dataclass
class Report:
    """What came of it."""

    seed: int
    acknowledged: int = 0
    failed: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0
    violations: list[str] = field(default_factory=list)


History = Sequence[tuple[int, str, int]]
"""`(revision, key, number)` of each change that is stored, in order."""


def check(acknowledged: Sequence[Acknowledged], history: History) -> list[str]:
    """What is wrong. Pure."""
    stored = {revision: (key, number) for revision, key, number in history}
    wrong = [
        f"{write} is not stored: {stored.get(write.revision)}"
        for write in acknowledged
        if stored.get(write.revision) != (write.key, write.number)
    ]
    newest: dict[str, int] = {}
    for revision, key, number in history:
        if number <= newest.get(key, -1):
            wrong.append(f"{revision}: {key} went back to {number}")
        newest[key] = number
    return wrong + _out_of_order(acknowledged)


def _out_of_order(acknowledged: Sequence[Acknowledged]) -> list[str]:
    """Writes that were sent after others were told, and come before them."""
    wrong = []
    told = sorted(acknowledged, key=lambda write: write.told)
    position, newest = 0, 0
    for write in sorted(acknowledged, key=lambda write: write.sent):
        while position < len(told) and told[position].told < write.sent:
            newest = max(newest, told[position].revision)
            position += 1
        if write.revision <= newest:
            wrong.append(f"{write} comes before what was told earlier ({newest})")
    return wrong


class Load:
    """Writers, each with a key of its own, through any of the servers."""

    def __init__(self, clients: Sequence[HttpClient], chance: random.Random, goal: int) -> None:
        self._clients = clients
        self._chance = chance
        self._goal = goal
        self.acknowledged: list[Acknowledged] = []
        self.failed = 0

    @property
    def done(self) -> bool:
        return len(self.acknowledged) >= self._goal

    async def run(self) -> None:
        """Until as many as wanted are acknowledged."""
        async with asyncio.TaskGroup() as group:
            for number in range(WRITERS):
                group.create_task(self._write(f"write-{number}"))

    async def _write(self, key: str) -> None:
        number = 0
        while not self.done:
            number += 1
            client = self._chance.choice(self._clients)
            sent = time.monotonic()
            try:
                revision = await self._once(client, key, number)
            except ApiError:
                # Made or not: the next one has a larger number.
                self.failed += 1
                await asyncio.sleep(0.05)
            else:
                told = time.monotonic()
                self.acknowledged.append(Acknowledged(key, number, revision, sent, told))

    async def _once(self, client: HttpClient, key: str, number: int) -> int:
        data = {"n": str(number)}
        try:
            done = await client.patch(kinds.CONFIG_MAP, key, {"data": data}, "default")
        except ApiError as error:
            if error.code != 404:
                raise
            obj = {"metadata": {"name": key, "namespace": "default"}, "data": data}
            done = await client.create(kinds.CONFIG_MAP, obj)
        return int(meta.resource_version(done))


async def history(store: Store) -> History:
    """All that is stored, up to now."""
    newest = await store.revision()
    found = []
    async with contextlib.aclosing(store.watch(PREFIX, 0)) as watch:  # type: ignore[type-var]
        async for batch in watch:
            for event in batch.events:
                number = int(orjson.loads(event.kv.value)["data"]["n"])
                found.append((event.kv.mod_revision, event.kv.key.rpartition("/")[2], number))
            if batch.revision >= newest:
                return found
    raise AssertionError("unreachable")


Fault = Callable[[], Awaitable[str]]
"""Breaks something, mends it, says what it was."""


@dataclass
class Scene:
    """What is written to, and how it can break."""

    servers: list[Server]
    faults: list[Fault]
    open: Callable[[], Awaitable[Store]]
    """The store itself, once all servers have stopped."""


def _killed(server: Server, chance: random.Random) -> Fault:
    async def fault() -> str:
        server.kill()
        await asyncio.sleep(chance.uniform(0, 0.5))
        server.start()
        await server.until_ready()
        return f"server {server.name} killed"

    return fault


def _member_killed(cluster: etcd.Cluster, member: etcd.Member, chance: random.Random) -> Fault:
    async def fault() -> str:
        member.kill()
        await asyncio.sleep(chance.uniform(0, 1))
        cluster.start(member)
        return f"member {member.name} killed"

    return fault


def _quorum_lost(cluster: etcd.Cluster, chance: random.Random) -> Fault:
    async def fault() -> str:
        killed = chance.sample(cluster.members, 2)
        for member in killed:
            member.kill()
        await asyncio.sleep(chance.uniform(0.2, 2))
        cluster.start(*killed)
        return "members " + " and ".join(member.name for member in killed) + " killed"

    return fault


def _member_frozen(member: etcd.Member, chance: random.Random) -> Fault:
    async def fault() -> str:
        member.signal(signal.SIGSTOP)
        await asyncio.sleep(chance.uniform(0.2, 2))
        member.signal(signal.SIGCONT)
        return f"member {member.name} frozen"

    return fault


def _links_broken(links: Sequence[Link], name: str, chance: random.Random) -> Fault:
    async def fault() -> str:
        how = chance.choice(("cut", "held"))
        broken = chance.sample(links, chance.randint(1, len(links)))
        for link in broken:
            link.cut() if how == "cut" else link.hold()
        await asyncio.sleep(chance.uniform(0.2, 2))
        for link in broken:
            link.heal()
        return f"{len(broken)} links of server {name} {how}"

    return fault


@contextlib.asynccontextmanager
async def on_sqlite(directory: Path, chance: random.Random) -> AsyncIterator[Scene]:
    """One daemon."""
    server = Server("a", directory / "a", "sqlite")

    async def opened() -> Store:
        return await SqliteStore.open(directory / "a" / "store.db")

    with server.running():
        await server.until_ready()
        yield Scene([server], [_killed(server, chance)], opened)


@contextlib.asynccontextmanager
async def on_etcd(directory: Path, chance: random.Random) -> AsyncIterator[Scene]:
    """Two daemons, three members, a link for each pair of them."""
    with etcd.etcd(size=3) as cluster:
        async with contextlib.AsyncExitStack() as stack:
            servers, faults = [], []
            for name in ("a", "b"):
                links = [
                    await stack.enter_async_context(Link(member.client_port))
                    for member in cluster.members
                ]
                url = "etcd://" + ",".join(f"127.0.0.1:{link.port}" for link in links)
                server = Server(name, directory / name, url)
                if servers:
                    server.share_keys(servers[0])
                servers.append(server)
                stack.enter_context(server.running())
                await server.until_ready()
                faults += [_killed(server, chance), _links_broken(links, name, chance)]
            faults += [_member_killed(cluster, member, chance) for member in cluster.members]
            faults.append(_quorum_lost(cluster, chance))
            faults += [_member_frozen(member, chance) for member in cluster.members]

            async def opened() -> Store:
                return await EtcdStore.open(cluster.url)

            yield Scene(servers, faults, opened)


async def run(backend: str, writes: int, seed: int, pause: float = 1.0) -> Report:
    """The whole of it; `pause` is about how long all is well between two faults, in seconds."""
    chance = random.Random(seed)
    report = Report(seed)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="meshkube-writes-") as directory:
        scene_on = on_etcd if backend == "etcd" else on_sqlite
        async with scene_on(Path(directory), chance) as scene:
            clients = [server.client() for server in scene.servers]
            load = Load(clients, random.Random(seed), writes)
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(load.run())
                while not writing.done():
                    await asyncio.wait([writing], timeout=pause * chance.uniform(0.2, 1.5))
                    if not writing.done():
                        report.faults.append(await chance.choice(scene.faults)())
            for client in clients:
                await client.aclose()
            for server in scene.servers:
                server.stop()
            store = await scene.open()
            try:
                async with asyncio.timeout(END_SECONDS):
                    report.violations = check(load.acknowledged, await history(store))
            finally:
                await store.aclose()
    report.acknowledged, report.failed = len(load.acknowledged), load.failed
    report.seconds = round(time.monotonic() - started, 1)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("sqlite", "etcd"), default="etcd")
    parser.add_argument("--writes", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    report = asyncio.run(run(args.backend, args.writes, args.seed))
    sys.stdout.write(json.dumps(vars(report), indent=1) + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
