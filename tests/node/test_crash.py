"""The agent dies between any two steps of starting and of stopping a pod; the next one makes
exactly one set of containers of it, or none."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.node.docker import DockerRuntime
from meshkube.node.hollow import HollowRuntime
from meshkube.node.runtime import SANDBOX, Record, Runtime
from tests.lab.host import Host
from tests.node.mortal import Fuse, mortal_client, mortal_runtime
from tests.node.world import World, _clear, container, eventually, in_host, pod
from tests.support.api import running_api

NAMES = {SANDBOX, "side", "a", "b"}


class Lives(World):
    """One node that dies and lives again. `engine` goes on meanwhile, as Docker does."""

    def __init__(self, client: Client, engine: Callable[[], Runtime], data: Path, ip: str) -> None:
        super().__init__(client, engine, data)
        self._engine = engine
        self._client = client
        self._ip = ip
        self.fuse = Fuse(0)
        # The caller's own view, which never dies.
        self.engine = engine()

    async def live(self, limit: int = 0) -> Fuse:
        """A new process that dies at step `limit`."""
        self.fuse = fuse = Fuse(limit)
        self._make_runtime = lambda: mortal_runtime(self._engine(), fuse)
        self.client = mortal_client(self._client, fuse)
        await self.start_agent(self._ip)
        self.client = self._client
        return fuse

    async def die(self) -> None:
        self.fuse.blown.set()
        self.fuse.buried = True
        await self.stop_agent()

    async def records(self, uid: str) -> list[Record]:
        return [record for record in await self.engine.list() if record.pod.uid == uid]

    async def died_before(self, holds: Callable[[], object]) -> bool:
        """Waits for the step at which it dies; False where `holds` comes first."""
        return await eventually(lambda: self._either(holds), 20, str(self.fuse.taken)) == "died"

    async def _either(self, holds: Callable[[], object]) -> str:
        if self.fuse.blown.is_set():
            return "died"
        done = await holds()
        return "done" if done else ""


@contextlib.asynccontextmanager
async def lives(tmp_path: Path, engine: Callable[[], Runtime], ip: str) -> AsyncIterator[Lives]:
    async with running_api(tmp_path) as client:
        world = Lives(client, engine, tmp_path / "node", ip)
        await world.live()
        try:
            await world.give_pod_cidr()
            await world.die()
            yield world
        finally:
            await world.die()
            await world.engine.close()


def two(name: str) -> Object:
    side = {**container("side"), "restartPolicy": "Always"}
    scratch = {"name": "v", "emptyDir": {}}
    return pod(name, container("a"), container("b"), initContainers=[side], volumes=[scratch])


async def ready(world: Lives, name: str) -> bool:
    found = await world.pod(name)
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


async def there(world: Lives, name: str) -> bool:
    try:
        await world.pod(name)
    except ApiError as error:
        if error.code == 404:
            return False
        raise
    return True


def one_set(records: list[Record]) -> bool:
    """Each container runs once, all in one sandbox; nothing else is left of the pod."""
    running = [record for record in records if record.state == "running"]
    names = Counter(record.name for record in running)
    sandboxes = {record.id for record in running if record.name == SANDBOX}
    joined = {record.sandbox_id for record in running if record.name != SANDBOX}
    return (
        names == Counter(NAMES)
        and sandboxes == joined
        and not any(record.state == "created" for record in records)
    )


async def start_and_die(world: Lives, name: str, limit: int) -> tuple[str, bool]:
    """The pod's uid, and whether the agent died while it started the pod."""
    await world.live(limit)
    made = await world.create(two(name))
    died = await world.died_before(lambda: ready(world, name))
    await world.die()
    return meta.uid(made), died


async def starts(world: Lives, limits: list[int]) -> int:
    """Plays through deaths at these steps; returns how many of them happened."""
    deaths = 0
    for limit in limits:
        name = f"start-{limit}"
        uid, died = await start_and_die(world, name, limit)
        deaths += died
        await world.live()
        what = f"one set after {world.fuse.taken} and a death at step {limit}"

        async def settled(uid: str = uid, name: str = name) -> bool:
            return one_set(await world.records(uid)) and await ready(world, name)

        await eventually(settled, 30, what)
        # It stays so.
        await asyncio.sleep(0.05)
        assert one_set(await world.records(uid)), what
        await world.delete(name, 0)
        await world.die()
        if not died:
            break
    return deaths


async def stops(world: Lives, limits: list[int]) -> int:
    deaths = 0
    for limit in limits:
        name = f"stop-{limit}"
        await world.live()
        uid = meta.uid(await world.create(two(name)))
        await eventually(lambda name=name: ready(world, name), 30, f"{name} runs")
        await world.die()
        await world.live(limit)
        await world.delete(name)

        async def ended(name: str = name) -> bool:
            return not await there(world, name)

        died = await world.died_before(ended)
        deaths += died
        await world.die()
        await world.live()
        await eventually(ended, 30, f"{name} goes after a death at step {limit}")

        async def clear(uid: str = uid) -> bool:
            return not await world.records(uid) and not (world.data / "pods" / uid).exists()

        await eventually(clear, 30, f"nothing is left after a death at step {limit}")
        await world.die()
        if not died:
            break
    return deaths


async def orphans(world: Lives, limits: list[int]) -> int:
    """It dies while it starts a pod, and the pod is deleted by force before it lives again."""
    deaths = 0
    for limit in limits:
        name = f"orphan-{limit}"
        uid, died = await start_and_die(world, name, limit)
        deaths += died
        await world.delete(name, 0)
        assert not await there(world, name)
        await world.live()

        async def clear(uid: str = uid) -> bool:
            return not await world.records(uid)

        await eventually(clear, 30, f"nothing runs after a death at step {limit}")
        await world.die()
        if not died:
            break
    return deaths


@pytest.mark.parametrize(("play", "least"), [(starts, 25), (stops, 12), (orphans, 15)])
async def test_a_death_at_any_step_leaves_one_set_of_containers(
    tmp_path: Path, play: Callable[[Lives, list[int]], object], least: int
) -> None:
    engine = HollowRuntime()
    async with lives(tmp_path, lambda: engine, "127.0.0.1") as world:
        deaths = await play(world, list(range(1, 100)))
    # Every step was played: the last of the lives came to the end without one.
    assert least <= deaths < 99


@pytest.mark.root
@pytest.mark.docker
@pytest.mark.parametrize("play", [starts, stops, orphans])
def test_a_death_leaves_one_set_of_containers_in_docker(
    docker_host: Host, tmp_path: Path, play: Callable[[Lives, list[int]], object]
) -> None:
    def engine() -> Runtime:
        return DockerRuntime(docker_host.docker_socket)

    async def scenario() -> None:
        async with lives(tmp_path, engine, docker_host.address) as world:
            deaths = await play(world, [2, 3, 6, 9, 12])
            assert deaths == 5

    try:
        in_host(docker_host, scenario(), 110)
    finally:
        _clear(docker_host)
