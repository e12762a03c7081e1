"""The agent on the hollow runtime: fast, with no Docker and no root."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from meshkube.api import kinds, meta
from meshkube.node import agent, service_tokens
from meshkube.node.hollow import HollowRuntime
from meshkube.node.runtime import Record
from tests.node.world import NODE, World, condition, container_id, eventually, pod, status_of
from tests.support.api import running_api


@contextlib.asynccontextmanager
async def hollow_world(
    tmp_path: Path, runtime: HollowRuntime | None = None
) -> AsyncIterator[World]:
    async with running_api(tmp_path) as client:
        runtime = runtime or HollowRuntime()
        world = World(client, lambda: runtime, tmp_path / "node")
        try:
            await world.start_agent()
            await world.give_pod_cidr()
            yield world
        finally:
            await world.stop_agent()


async def test_the_node_registers_with_what_it_has(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        node = await world.client.get(kinds.NODE, NODE)
        assert meta.labels(node)["kubernetes.io/hostname"] == NODE
        status = node["status"]
        assert int(status["capacity"]["cpu"]) > 0
        assert status["capacity"]["pods"] == "110"
        assert status["addresses"][0] == {"type": "InternalIP", "address": "127.0.0.1"}
        assert status["daemonEndpoints"]["kubeletEndpoint"]["Port"] == 10250
        assert status["nodeInfo"]["containerRuntimeVersion"] == "hollow://1"
        assert condition(node, "DiskPressure") in ("True", "False")
        lease = await world.client.get(kinds.LEASE, NODE, "kube-node-lease")
        assert lease["spec"]["holderIdentity"] == NODE
        assert lease["metadata"]["ownerReferences"][0]["uid"] == meta.uid(node)


async def test_pods_run_at_once_and_end_at_once(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        probe = {"httpGet": {"port": 80}, "periodSeconds": 1}
        names = [f"p{number}" for number in range(40)]
        for name in names:
            web = {"name": "c", "image": "x:1", "readinessProbe": probe}
            await world.create(pod(name, web))
        found = [await world.running(name) for name in names]
        addresses = {p["status"]["podIP"] for p in found}
        assert len(addresses) == len(names)
        assert "10.42.7.1" not in addresses
        for name in names:
            await world.delete(name)
        for name in names:
            await world.gone(name)
        assert await world.runtime.list() == []


async def test_of_two_pods_that_do_not_fit_together_the_first_one_stays(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        whole = (await world.client.get(kinds.NODE, NODE))["status"]["allocatable"]["cpu"]
        for name in ("first", "second"):
            one = pod(name)
            one["spec"]["containers"][0]["resources"] = {"requests": {"cpu": whole}}
            await world.create(one)
            await world.until(name, lambda found: found["status"]["phase"] != "Pending")
        assert (await world.pod("first"))["status"]["phase"] == "Running"
        second = (await world.pod("second"))["status"]
        assert (second["phase"], second["reason"]) == ("Failed", "OutOfcpu")
        assert second["message"].startswith("Pod was rejected: Node didn't have enough resource")
        assert second["qosClass"] == "Burstable"
        before = "first"
        for name in ("third", "fourth", "fifth"):
            # Its successor may be here at once.
            next_one = pod(name)
            next_one["spec"]["containers"][0]["resources"] = {"requests": {"cpu": whole}}
            await world.delete(before)
            await world.gone(before)
            await world.create(next_one)
            await world.running(name)
            before = name


async def test_a_deleted_and_recreated_pod_is_another_one(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        await world.create(pod("a"))
        first = await world.running("a")
        await world.delete("a", grace=0)
        await world.create(pod("a"))
        second = await world.running("a")
        assert meta.uid(first) != meta.uid(second)

        async def only_the_second() -> bool:
            records = await world.runtime.list()
            return {record.pod.uid for record in records} == {meta.uid(second)}

        await eventually(only_the_second, what="the first is cleared away")


async def test_the_agent_runs_again_in_the_same_process(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        await world.create(pod("a"))
        before = await world.running("a")
        agent = world.agent
        assert world._task is not None
        world._task.cancel()
        await asyncio.gather(world._task, return_exceptions=True)
        world._task = asyncio.create_task(agent.run(lambda: None))
        await asyncio.sleep(0.5)
        after = await world.pod("a")
        assert container_id(after) == container_id(before)
        await world.delete("a")
        await world.gone("a")


async def test_status_is_written_only_when_something_changed(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        await world.create(pod("a"))
        before = await world.running("a")
        await asyncio.sleep(0.3)
        before = await world.pod("a")
        await world.client.patch(kinds.POD, "a", {"metadata": {"labels": {"x": "y"}}}, "default")
        await asyncio.sleep(0.3)
        after = await world.pod("a")
        versions = [int(meta.resource_version(found)) for found in (before, after)]
        assert after["status"] == before["status"]
        assert versions[1] > versions[0]


async def test_a_condition_of_somebody_else_stays(tmp_path: Path) -> None:
    async with hollow_world(tmp_path) as world:
        gates = [{"conditionType": "example.com/in-rotation"}]
        await world.create(pod("a", readinessGates=gates))
        await world.until("a", lambda p: condition(p, "ContainersReady") == "True")
        assert condition(await world.pod("a"), "Ready") == "False"
        mine = {"type": "example.com/in-rotation", "status": "True"}
        await world.client.patch(
            kinds.POD, "a", {"status": {"conditions": [mine]}}, "default",
            type="strategic", subresource="status",
        )  # fmt: skip
        found = await world.running("a")
        assert condition(found, "example.com/in-rotation") == "True"


async def test_tokens_of_pods_are_renewed_in_one_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of ten minutes, the least that the API gives: 0.6 s.
    monkeypatch.setattr(service_tokens, "RENEW_AFTER", 0.001)
    monkeypatch.setattr(service_tokens, "_SPREAD", timedelta(0))
    async with hollow_world(tmp_path) as world:
        account = {"metadata": {"name": "robot", "namespace": "default"}}
        await world.client.create(kinds.SERVICE_ACCOUNT, account)
        source = {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}}
        volume = {"name": "tokens", "projected": {"sources": [source]}}
        wants = {"serviceAccountName": "robot", "automountServiceAccountToken": False}
        await world.create(pod("a", volumes=[volume], **wants))
        made = await world.running("a")
        directory = tmp_path / "node/pods" / meta.uid(made) / "volumes/tokens"
        first, target = (directory / "token").read_text(), (directory / "..data").readlink()

        async def renewed() -> bool:
            return (directory / "token").read_text() != first

        await eventually(renewed, what="another token")
        assert (directory / "..data").readlink() != target
        monkeypatch.setattr(service_tokens, "RENEW_AFTER", 0.8)
        # An agent that starts anew follows what another one wrote.
        before = (directory / "token").read_text()
        await world.stop_agent()
        await world.start_agent()

        async def taken_over() -> bool:
            return (directory / "token").read_text() != before

        await eventually(taken_over, what="a token of the new agent's own")


class SlowLists(HollowRuntime):
    """As an engine under load: its lists are complete when asked for and late when they come."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.answered = asyncio.Event(), asyncio.Event()
        self.answered.set()

    async def list(self) -> list[Record]:
        found = await super().list()
        self.asked.set()
        await self.answered.wait()
        return found


async def test_a_list_that_comes_late_ends_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent, "RELIST", 0.05)
    runtime = SlowLists()
    async with hollow_world(tmp_path, runtime) as world:
        runtime.answered.clear()
        runtime.asked.clear()
        await runtime.asked.wait()
        await world.create(pod("a"))
        before = await world.running("a")
        runtime.answered.set()
        runtime.asked.clear()
        await runtime.asked.wait()
        await runtime.list()
        after = await world.pod("a")
        assert (container_id(after), status_of(after)["restartCount"]) == (container_id(before), 0)
        assert len(await runtime.list()) == 2
        assert not await world.events("a", "Killing")
