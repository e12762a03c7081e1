"""A node that runs short, with real pods: who is evicted, who is not taken on, what images go."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.node.collector import Collector, Limits
from meshkube.node.housekeeping import Room
from meshkube.node.images import Images
from meshkube.node.thresholds import parse
from tests.lab.host import Host
from tests.lab.registry import Registry, registry
from tests.node.world import (
    IMAGE,
    NODE,
    World,
    condition,
    container,
    docker_world,
    eventually,
    in_host,
    pod,
)

pytestmark = [pytest.mark.root, pytest.mark.docker]

# There is never that much: the node is always short of memory.
SHORT = parse("memory.available<100%")


def asks(**requests: str) -> Object:
    return container("c", resources={"requests": requests})


async def evicted(world: World, name: str, timeout: float = 50) -> Object:
    def holds(found: Object) -> bool:
        return found["status"].get("reason") == "Evicted" and found["status"]["phase"] == "Failed"

    return await world.until(name, holds, timeout, f"{name} is evicted")


def test_a_node_short_of_memory_evicts_by_rank_and_takes_on_less(
    docker_host: Host, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("asked", asks(memory="500Mi")))
            scratch = {"name": "v", "emptyDir": {}}
            mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
            writes = container("c", "echo x >/v/x; sleep 1000", **mount)
            greedy = pod("greedy", writes, volumes=[scratch], terminationGracePeriodSeconds=300)
            await world.create(greedy)
            for name in ("asked", "greedy"):
                await world.running(name)
            await world.stop_agent()
            await world.start_agent(docker_host.address, room=Room(eviction=SHORT))

            found = await evicted(world, "greedy")
            message = found["status"]["message"]
            assert message.startswith("The node was low on resource: memory. Threshold quantity: ")
            assert "Container c was using " in message
            assert "request is 0, has larger consumption of memory." in message
            target = next(
                one for one in found["status"]["conditions"] if one["type"] == "DisruptionTarget"
            )
            assert (target["status"], target["reason"]) == ("True", "TerminationByKubelet")
            await world.event("greedy", "Evicted", "The node was low on resource: memory.")
            uid = found["metadata"]["uid"]
            volume = world.data / "pods" / uid / "volumes" / "v"
            await eventually(lambda: _absent(volume), what="its emptyDir is given back")

            node = await world.client.get(kinds.NODE, NODE)
            assert condition(node, "MemoryPressure") == "True"
            assert condition(node, "Ready") == "True"
            await world.event(NODE, "NodeHasInsufficientMemory")
            await world.event(NODE, "EvictionThresholdMet", "Attempting to reclaim memory")

            # Who asks for nothing is not taken on.
            await world.create(pod("late"))
            late = await evicted(world, "late")
            assert (
                late["status"]["message"]
                == "Pod was rejected: The node had condition: [MemoryPressure]."
            )
            assert condition(late, "DisruptionTarget") == ""

    in_host(docker_host, scenario(), 120)


def test_a_full_disk_takes_what_is_over_before_what_runs(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            scratch = {"name": "v", "emptyDir": {}}
            mount = {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}
            done = container("c", "echo bye >/v/x; echo said", plain=True, **mount)
            await world.create(pod("done", done, volumes=[scratch], restartPolicy="Never"))
            await world.create(
                pod("big", container("c", "dd if=/dev/zero of=/x bs=1M count=9; sleep 1000"))
            )
            await world.create(pod("small", container("c")))
            over = await world.phase("done", "Succeeded")
            for name in ("big", "small"):
                await world.running(name)
            await world.stop_agent()
            full = Room(eviction=parse("nodefs.available<100%"))
            await world.start_agent(docker_host.address, room=full)

            found = await evicted(world, "big")
            message = found["status"]["message"]
            assert message.startswith("The node was low on resource: ephemeral-storage. Threshold")
            assert "Container c was using " in message
            small = await world.pod("small")
            assert small["status"]["phase"] == "Running"
            node = await world.client.get(kinds.NODE, NODE)
            assert condition(node, "DiskPressure") == "True"
            # Of who was over before, only the object is left, and it says still how that ended.
            uid = over["metadata"]["uid"]
            await eventually(lambda: _no_records(world, uid), what="its containers are gone")
            await eventually(lambda: _absent(world.data / "pods" / uid / "volumes" / "v"))
            again = await world.pod("done")
            assert again["status"]["phase"] == "Succeeded"
            ended = again["status"]["containerStatuses"][0]["state"]["terminated"]
            assert (ended["reason"], ended["exitCode"]) == ("Completed", 0)

    in_host(docker_host, scenario(), 120)


async def _no_records(world: World, uid: str) -> bool:
    return not world.agent.records.of(uid)


async def _absent(path: Path) -> bool:
    return not await asyncio.to_thread(path.exists)


def test_a_container_that_writes_more_than_it_may_is_evicted(
    docker_host: Host, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            limits = {"limits": {"ephemeral-storage": "2Mi"}}
            script = "dd if=/dev/zero of=/big bs=1M count=5; sleep 1000"
            other = container("other", resources={"limits": {"ephemeral-storage": "1Gi"}})
            await world.create(pod("layer", container("c", script, resources=limits), other))
            script = "head -c 5000000 /dev/zero | tr '\\0' x; echo; sleep 1000"
            await world.create(pod("log", container("c", script, resources=limits)))
            await world.create(pod("fine", container("c", resources=limits)))
            found = await evicted(world, "layer")
            message = 'Container c exceeded its local ephemeral storage limit "2Mi".'
            assert found["status"]["message"] == message
            await world.event("layer", "Evicted", message)
            found = await evicted(world, "log")
            assert "exceeds the total limit of containers 2Mi" in found["status"]["message"]
            await world.running("fine")

    in_host(docker_host, scenario(), 120)


@pytest.fixture(scope="module")
def filled(docker_host: Host) -> Iterator[Registry]:
    with registry(docker_host, {"me": "secret"}) as found:
        found.push(IMAGE, "gc/idle:1", "me", "secret")
        found.push(IMAGE, "gc/used:1", "me", "secret")
        yield found


def test_images_nobody_uses_go_when_the_disk_is_full(filled: Registry, tmp_path: Path) -> None:
    host, told = filled.host, list[str]()
    both = base64.b64encode(b"me:secret").decode()
    auths = {"auths": {filled.address: {"auth": both}}}
    (tmp_path / "registries.json").write_text(json.dumps(auths))
    idle, used = (f"{filled.address}/gc/{name}:1" for name in ("idle", "used"))
    # Of their own, each: images that are the same would go and stay together.
    for name in (idle, used):
        _push_new(filled, name)
    host.docker("tag", IMAGE, "somebody/elses:1")

    async def scenario() -> None:
        async with docker_world(host, tmp_path) as world:
            for name, image in (("idle", idle), ("used", used)):
                await world.create(pod(name, {**container("c"), "image": image}))
                await world.running(name)
            await world.delete("idle")
            await world.gone("idle")
            images: Images = world.agent.images
            collector = Collector(
                images=images,
                clock=SystemClock(),
                limits=Limits(high=0, low=0, minimum_age=0),
                pods_directory=world.data / "pods",
                directory=lambda: host.directory,
                in_use=world.agent.records.image_ids,
                uids=lambda: None,
                tell=lambda *event: told.append(f"{event[1]}: {event[2]}"),
            )
            await collector.step()
            names = {name for image in await world.runtime.images() for name in image.names}
            assert idle not in names
            assert {used, "somebody/elses:1", IMAGE} <= names
            [event] = told
            assert event.startswith("FreeDiskSpaceFailed: Failed to garbage collect required")
            assert (world.data / "images.json").exists()
            # What is gone comes back for the next pod.
            await world.create(pod("again", {**container("c"), "image": idle}))
            await world.running("again")

    in_host(host, scenario(), 120)
    host.docker("rmi", "somebody/elses:1")


def _push_new(registry: Registry, name: str) -> None:
    made = f"lab/{name.rpartition('/')[2]}"
    host = registry.host
    id = host.docker("create", IMAGE, "true").stdout.strip()
    host.docker("commit", "--message", name, id, made)
    host.docker("rm", id)
    registry.push(made, name.partition("/")[2], "me", "secret")
    host.docker("rmi", made)
