"""The agent on a real Docker Engine: whole lives of pods."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.lab.host import Host
from tests.node.world import (
    condition,
    container,
    container_id,
    crash_docker,
    docker_world,
    eventually,
    in_host,
    pod,
    status_of,
)

pytestmark = [pytest.mark.root, pytest.mark.docker]


def test_a_pod_runs_and_is_deleted(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("a", container("c", "env; cat /etc/hosts; sleep 1000")))
            found = await world.running("a")
            assert found["status"]["podIP"].startswith("10.42.7.")
            assert found["status"]["hostIP"] == docker_host.address
            assert found["status"]["qosClass"] == "BestEffort"
            assert status_of(found)["containerID"].startswith("docker://")
            await world.prints("a", f"{found['status']['podIP']}\ta")
            names = docker_host.docker("ps", "--format", "{{.Names}}").stdout.split()
            uid = found["metadata"]["uid"]
            assert sorted(names) == [f"mk_POD_a_default_{uid}", f"mk_c_a_default_{uid}"]
            await world.delete("a")
            await world.gone("a")
            assert docker_host.docker("ps", "-aq").stdout == ""
            assert not (world.data / "pods" / uid).exists()
            reasons = [reason for reason, _ in await world.events("a")]
            assert reasons[:3] == ["Pulled", "Created", "Started"]
            await world.event("a", "Killing", "Stopping container c")

    in_host(docker_host, scenario())


def test_a_new_agent_adopts_running_pods(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            probe = {"exec": {"command": ["true"]}, "periodSeconds": 1}
            await world.create(pod("a", container("c", readinessProbe=probe), container("d")))
            before = await world.running("a")
            ids = docker_host.docker("ps", "-q").stdout
            await world.stop_agent()
            assert docker_host.docker("ps", "-q").stdout == ids
            await world.start_agent(docker_host.address)
            await asyncio.sleep(1.5)
            after = await world.pod("a")
            assert docker_host.docker("ps", "-q").stdout == ids
            assert after["status"] == before["status"]
            await world.delete("a")
            await world.gone("a")

    in_host(docker_host, scenario())


def test_a_pod_deleted_while_no_agent_ran_is_ended(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("a"))
            await world.running("a")
            await world.stop_agent()
            await world.delete("a", grace=0)
            await world.gone("a")
            await world.start_agent(docker_host.address)

            async def nothing_runs() -> bool:
                return docker_host.docker("ps", "-aq").stdout == ""

            await eventually(nothing_runs, what="the orphan is removed")

    in_host(docker_host, scenario())


def test_a_killed_container_is_restarted_with_back_off(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("a"))
            first = container_id(await world.running("a"))
            docker_host.docker("kill", first)
            found = await world.until("a", lambda p: status_of(p)["restartCount"] == 1)
            found = await world.running("a")
            assert container_id(found) != first
            last = status_of(found)["lastState"]["terminated"]
            assert (last["exitCode"], last["reason"]) == (137, "Error")
            docker_host.docker("kill", container_id(found))
            waiting = await world.until("a", lambda p: "waiting" in status_of(p)["state"])
            state = status_of(waiting)["state"]["waiting"]
            assert state["reason"] == "CrashLoopBackOff"
            assert state["message"].startswith("back-off 10s restarting failed container=c pod=a_")
            assert condition(waiting, "Ready") == "False"
            await world.event("a", "BackOff", "Back-off restarting failed container c in pod a_")

    in_host(docker_host, scenario())


def test_a_killed_sandbox_is_made_anew(docker_host: Host, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("a"))
            await world.running("a")
            sandbox = docker_host.docker("ps", "-q", "--filter", "name=mk_POD_a_").stdout.strip()
            docker_host.docker("kill", sandbox)
            await world.until("a", lambda p: status_of(p)["restartCount"] == 1)
            await world.running("a")
            await world.event("a", "SandboxChanged")

    in_host(docker_host, scenario())


def test_a_crash_of_dockerd_is_survived(
    docker_host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshkube.node.agent.RUNTIME_PATIENCE", 0.0)

    async def scenario() -> None:
        async with docker_world(docker_host, tmp_path) as world:
            await world.create(pod("a"))
            await world.running("a")
            crash = asyncio.create_task(asyncio.to_thread(crash_docker, docker_host))

            async def not_ready() -> bool:
                return not await world.node_ready()

            await eventually(not_ready, what="the node says so")
            await crash
            await eventually(world.node_ready, 30, "the node is ready again")
            await world.running("a")
            await world.create(pod("b"))
            await world.running("b")

    in_host(docker_host, scenario())
