"""The whole control plane on the real API: it leads, hands over, and is killed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.control import pods
from meshkube.control.manager import ControlPlane
from tests.support.api import running_api
from tests.support.cluster import deployment, node


async def until(condition: Callable[[], Any], timeout: float = 15) -> None:
    async with asyncio.timeout(timeout):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.02)


async def test_two_control_planes_make_one_deployment_once(tmp_path: Path) -> None:
    async with running_api(tmp_path) as client, asyncio.TaskGroup() as group:
        planes = [
            ControlPlane(client=client, identity=name, cluster_ca="PEM", pod_cidr="10.42.0.0/16")
            for name in ("a", "b")
        ]
        ready = [asyncio.Event() for _ in planes]
        tasks = [
            group.create_task(plane.run(event.set))
            for plane, event in zip(planes, ready, strict=True)
        ]
        for event in ready:
            await asyncio.wait_for(event.wait(), 10)
        await client.create(kinds.NODE, node())
        await client.create(kinds.DEPLOYMENT, deployment(replicas=5))

        async def placed() -> bool:
            found = (await client.list(kinds.POD, "default")).items
            return len(found) == 5 and all(pods.node_name(pod) for pod in found)

        await until(placed)
        assert sorted(plane.leading for plane in planes) == [False, True]
        given = await client.get(kinds.NODE, "n1")
        assert given["spec"]["podCIDR"] == "10.42.0.0/24"
        first = 0 if planes[0].leading else 1
        # A clean stop hands over at once; the next one goes on with the same work.
        began = asyncio.get_running_loop().time()
        tasks[first].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await tasks[first]
        await until(lambda: planes[1 - first].leading, 3)
        assert asyncio.get_running_loop().time() - began < 2
        (pod, *_) = (await client.list(kinds.POD, "default")).items
        await client.delete(kinds.POD, meta.name(pod), "default", grace_period=0)
        await until(placed)
        tasks[1 - first].cancel()


@pytest.mark.parametrize("part", ["controllers", "scheduler"])
async def test_each_half_can_be_left_out(tmp_path: Path, part: str) -> None:
    async with running_api(tmp_path) as client, asyncio.TaskGroup() as group:
        halves: dict[str, bool] = {part: False}
        plane = ControlPlane(client=client, identity="a", **halves)  # type: ignore[arg-type]
        task = group.create_task(plane.run(lambda: None))
        await client.create(kinds.NODE, node())
        await client.create(kinds.DEPLOYMENT, deployment(replicas=1))
        lone = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "lone", "namespace": "default"},
            "spec": {"containers": [{"name": "c", "image": "i"}]},
        }
        await client.create(kinds.POD, lone)

        async def at_work() -> bool:
            found = (await client.list(kinds.POD, "default")).items
            if part == "controllers":
                return bool(pods.node_name(found[0])) and len(found) == 1
            return len(found) == 2 and not any(pods.node_name(pod) for pod in found)

        await until(at_work)
        task.cancel()
