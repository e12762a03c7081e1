"""`kill -9` of an agent's process between two steps of starting and of stopping a pod that has all
a pod may have; the next agent leaves exactly one set of its containers in Docker, or none."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.node.docker import DockerRuntime
from tests.lab.host import Host
from tests.node.test_crash import Lives, one_set, ready, there
from tests.node.world import _clear, container, eventually, in_host, pod
from tests.support.api import serving_api

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(170)]
# Of some 80 steps of a start and 30 of a stop, for the time it takes: what lies between two of
# these is played without processes in test_crash.py.
STARTS, STOPS = range(2, 90, 17), range(2, 32, 6)


class Deaths(Lives):
    """Lives that end with their process. `served` is the API that all of them use."""

    def __init__(self, served: Any, client: Any, host: Host, data: Path) -> None:
        super().__init__(client, lambda: DockerRuntime(host.docker_socket), data, host.address)
        self._host = host
        self._kubeconfig = served.kubeconfig

    @contextlib.asynccontextmanager
    async def doomed(self, limit: int) -> AsyncIterator[Process]:
        """A process that takes `limit` steps; it is ready to begin."""
        arguments = (self._kubeconfig, self._host.docker_socket, self._ip, self.data, limit)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.node.mortal_process", *map(str, arguments),
            stdin=PIPE, stdout=PIPE,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            await process.stdout.readline()
            process.stdin.write(b"go\n")
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def dies(self, process: Process, holds: Callable[[], Awaitable[bool]]) -> str:
        """The step at which it died; empty where `holds` came first."""
        assert process.stdout is not None
        output = asyncio.create_task(process.stdout.read())
        try:
            await eventually(lambda: self._over(process, holds), 30, "a death or the end")
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        died = process.returncode is not None
        await process.wait()
        steps = (await output).decode().splitlines()
        return steps[-1] if died else ""

    async def _over(self, process: Process, holds: Callable[[], Awaitable[bool]]) -> bool:
        return process.returncode is not None or await holds()


@contextlib.asynccontextmanager
async def deaths(host: Host, tmp_path: Path) -> AsyncIterator[Deaths]:
    async with serving_api(tmp_path) as served, served.client() as client:
        world = Deaths(served, client, host, tmp_path / "node")
        await client.create(
            kinds.CONFIG_MAP,
            {"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1"}},
        )
        await world.live()
        try:
            await world.give_pod_cidr()
            await world.die()
            yield world
        finally:
            await world.die()
            await world.engine.close()


def whole(name: str) -> Object:
    """Init containers, a sidecar, hooks, volumes of the node and of the API."""
    hook = {"exec": {"command": ["true"]}}
    mounts = [{"name": each, "mountPath": f"/{each}"} for each in ("scratch", "settings", "self")]
    field = {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}
    return pod(
        name,
        container("a", volumeMounts=mounts, lifecycle={"postStart": hook, "preStop": hook}),
        container("b", volumeMounts=mounts),
        initContainers=[
            container("first", "true", plain=True),
            {**container("side"), "restartPolicy": "Always"},
            container("second", "touch /scratch/x", plain=True, volumeMounts=mounts),
        ],
        volumes=[
            {"name": "scratch", "emptyDir": {}},
            {"name": "settings", "configMap": {"name": "settings"}},
            {"name": "self", "downwardAPI": {"items": [field]}},
        ],
    )


async def start_dies(world: Deaths, limit: int) -> str:
    name = f"start-{limit}"
    async with world.doomed(limit) as process:
        uid = meta.uid(await world.create(whole(name)))
        step = await world.dies(process, lambda: ready(world, name))
    await world.live()

    async def settled() -> bool:
        return one_set(await world.records(uid)) and await ready(world, name)

    await eventually(settled, 40, f"one set of {name} after a death at: {step}")
    await world.delete(name, 0)
    await world.die()
    return step


async def stop_dies(world: Deaths, limit: int) -> str:
    name = f"stop-{limit}"
    await world.live()
    uid = meta.uid(await world.create(whole(name)))
    await eventually(lambda: ready(world, name), 40, f"{name} runs")
    await world.die()

    async def ended() -> bool:
        return not await there(world, name)

    async with world.doomed(limit) as process:
        await world.delete(name)
        step = await world.dies(process, ended)
    await world.live()
    await eventually(ended, 30, f"{name} goes after a death at: {step}")

    async def clear() -> bool:
        return not await world.records(uid) and not (world.data / "pods" / uid).exists()

    await eventually(clear, 30, f"nothing of {name} is left after a death at: {step}")
    await world.die()
    return step


@pytest.mark.parametrize(
    ("play", "limits"), [(start_dies, STARTS), (stop_dies, STOPS)], ids=["start", "stop"]
)
def test_a_killed_process_leaves_one_set_of_containers(
    docker_host: Host,
    tmp_path: Path,
    play: Callable[[Deaths, int], Awaitable[str]],
    limits: range,
) -> None:
    steps: list[str] = []

    async def scenario() -> None:
        async with deaths(docker_host, tmp_path) as world:
            for limit in limits:
                step = await play(world, limit)
                if not step:
                    break
                steps.append(step)

    try:
        in_host(docker_host, scenario(), 160)
    finally:
        _clear(docker_host)
    assert len(steps) >= 4, steps
    assert len({step.partition(" ")[0] for step in steps}) >= 2, steps
