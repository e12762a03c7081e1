"""A node for tests: a real API, a real agent, and (in a lab host) a real Docker Engine."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.node.agent import NodeAgent
from meshkube.node.docker import DockerRuntime
from meshkube.node.runtime import LogOptions, Runtime
from tests.lab.host import Host, wait_for
from tests.support.api import running_api

NODE = "n1"
POD_CIDR = "10.42.7.0/24"
IMAGE = "lab/busybox:1"
DNS = "10.43.0.10"
CLONE_NEWNET = 0x40000000


def busybox_filesystem() -> bytes:
    """A root file system with busybox under its usual names."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add("/usr/bin/busybox", "bin/busybox")
        for name in ("sh", "sleep", "cat", "ls", "echo", "tar", "httpd", "nc", "env", "id",
                     "hostname", "kill", "mkdir", "rm", "touch", "true", "false", "stty", "wc",
                     "head", "dd", "trap", "ps", "readlink", "stat", "mount", "date"):  # fmt: skip
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        directory = tarfile.TarInfo("tmp")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(directory)
    return archive.getvalue()


def import_busybox(host: Host) -> None:
    subprocess.run(
        ["docker", "--host", host.docker_socket, "import", "-", IMAGE],
        input=busybox_filesystem(),
        check=True,
        capture_output=True,
    )


def in_host(host: Host, scenario: Coroutine[Any, Any, None], timeout: float = 60) -> None:
    """Runs `scenario` in the host's network: on a thread of its own, moved there. Sockets belong to
    the namespace of the thread that makes them."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            _enter(host)
            asyncio.run(asyncio.wait_for(scenario, timeout))
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]


def _enter(host: Host) -> None:
    namespace = os.open(f"/run/netns/{host.name}", os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    finally:
        os.close(namespace)


def crash_docker(host: Host) -> None:
    """Kills the host's dockerd (its containerd dies with it) and starts it again."""
    pid = (host.directory / "docker-exec/containerd/containerd.pid").read_text()
    [engine] = [process for process in host.processes if "dockerd" in str(process.args)]
    engine.kill()
    engine.wait()
    host.processes.remove(engine)
    # A dockerd that still sees the old containerd, though as a zombie, waits for it in vain.
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), 30, "containerd is reaped")
    host.start_docker()


async def eventually(
    condition: Callable[[], Awaitable[Any]], timeout: float = 20, what: str = ""
) -> Any:
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + timeout
    while True:
        found = await condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition}")
        await asyncio.sleep(0.02)


def pod(name: str, *containers: Object, namespace: str = "default", **spec: Any) -> Object:
    metadata = {"name": name, "namespace": namespace}
    metadata |= spec.pop("metadata", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "nodeName": NODE,
            "terminationGracePeriodSeconds": 1,
            "containers": list(containers) or [container("c")],
            **spec,
        },
    }


def container(name: str, script: str = "sleep 1000", **more: Any) -> Object:
    # The shell as process 1 ignores TERM unless it traps it.
    command = ["sh", "-c", f"trap 'exit 143' TERM; {script} & wait $!"]
    if more.pop("plain", False):
        command = ["sh", "-c", script]
    return {"name": name, "image": IMAGE, "command": command, **more}


class World:
    """The API with one node's agent on it."""

    def __init__(self, client: Client, make_runtime: Callable[[], Runtime], data: Path) -> None:
        self.client = client
        self.data = data
        self._make_runtime = make_runtime
        self.runtime = make_runtime()
        self.agent: NodeAgent
        self._task: asyncio.Task[None] | None = None

    async def start_agent(self, ip: str = "127.0.0.1", **settings: Any) -> None:
        """Starts a new agent that knows nothing of an earlier one."""
        self.runtime = self._make_runtime()
        self.agent = NodeAgent(
            client=self.client,
            runtime=self.runtime,
            node_name=NODE,
            node_ip=ip,
            data_dir=self.data,
            cluster_dns=DNS,
            registry_config=self.data.parent / "registries.json",
            **settings,
        )
        ready = asyncio.Event()
        self._task = asyncio.create_task(self.agent.run(ready.set))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({self._task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            self._task.result()

    async def stop_agent(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self.runtime.close()

    async def give_pod_cidr(self) -> None:
        await eventually(self._registered, what="the node registers")
        patch = {"spec": {"podCIDR": POD_CIDR, "podCIDRs": [POD_CIDR]}}
        await self.client.patch(kinds.NODE, NODE, patch)
        await eventually(self.node_ready, what="the node is ready")

    async def _registered(self) -> bool:
        try:
            return bool(await self.client.get(kinds.NODE, NODE))
        except ApiError:
            return False

    async def node_ready(self) -> bool:
        node = await self.client.get(kinds.NODE, NODE)
        return condition(node, "Ready") == "True"

    async def create(self, obj: Object) -> Object:
        return await self.client.create(kinds.POD, obj)

    async def pod(self, name: str) -> Object:
        return await self.client.get(kinds.POD, name, "default")

    async def until(
        self, name: str, holds: Callable[[Object], Any], timeout: float = 30, what: str = ""
    ) -> Object:
        """The pod, once `holds` of it."""
        last: list[Object] = []

        async def check() -> Object | None:
            last[:] = [await self.pod(name)]
            try:
                return last[0] if holds(last[0]) else None
            except AssertionError:
                # No status of that container yet.
                return None

        try:
            return await eventually(check, timeout, what)  # type: ignore[no-any-return]
        except AssertionError as error:
            raise AssertionError(f"{error}: {last[0].get('status')}") from None

    async def running(self, name: str, timeout: float = 30) -> Object:
        return await self.until(
            name, lambda pod: condition(pod, "Ready") == "True", timeout, f"{name} is ready"
        )

    async def phase(self, name: str, phase: str, timeout: float = 30) -> Object:
        return await self.until(
            name, lambda pod: pod["status"]["phase"] == phase, timeout, f"{name} is {phase}"
        )

    async def delete(self, name: str, grace: int | None = None) -> None:
        await self.client.delete(kinds.POD, name, "default", grace_period=grace)

    async def gone(self, name: str, timeout: float = 20) -> None:
        async def check() -> bool:
            try:
                await self.pod(name)
            except ApiError as error:
                return error.code == 404
            return False

        await eventually(check, timeout, f"{name} is gone")

    async def events(self, name: str, reason: str = "") -> list[tuple[str, str]]:
        found = (await self.client.list(kinds.EVENT, "default")).items
        return [
            (event["reason"], event["message"])
            for event in found
            if event["involvedObject"]["name"] == name and reason in ("", event["reason"])
        ]

    async def event(self, name: str, reason: str, text: str = "", timeout: float = 60) -> None:
        async def check() -> bool:
            return any(text in message for _, message in await self.events(name, reason))

        await eventually(check, timeout, f"event {reason} {text}")

    async def output(self, name: str, container: str = "c") -> str:
        """All that a container of a pod has written."""
        entry = status_of(await self.pod(name), container)
        id = entry["containerID"].partition("://")[2]
        pieces = [piece async for piece in self.runtime.logs(id, LogOptions())]
        return b"".join(piece.data for piece in pieces).decode()

    async def prints(self, name: str, text: str, container: str = "c") -> str:
        async def check() -> str:
            found = await self.output(name, container)
            return found if text in found else ""

        return await eventually(check, 15, f"{name} prints {text}")  # type: ignore[no-any-return]


def condition(obj: Object, type: str) -> str:
    for entry in obj.get("status", {}).get("conditions", []):
        if entry["type"] == type:
            return str(entry["status"])
    return ""


def status_of(obj: Object, name: str = "c") -> Object:
    status = obj["status"]
    for entry in status.get("containerStatuses", []) + status.get("initContainerStatuses", []):
        if entry["name"] == name:
            return entry  # type: ignore[no-any-return]
    raise AssertionError(f"no status of {name}: {status}")


def container_id(obj: Object, name: str = "c") -> str:
    return str(status_of(obj, name)["containerID"].partition("://")[2])


@contextlib.asynccontextmanager
async def docker_world(host: Host, tmp_path: Path) -> AsyncIterator[World]:
    """A node on the host's Docker Engine; what it made is gone afterwards."""
    async with running_api(tmp_path) as client:
        world = World(client, lambda: DockerRuntime(host.docker_socket), tmp_path / "node")
        try:
            await world.start_agent(host.address)
            await world.give_pod_cidr()
            yield world
        finally:
            await world.stop_agent()
            await asyncio.to_thread(_clear, host)


def _clear(host: Host) -> None:
    ids = host.docker("ps", "-aq", check=False).stdout.split()
    if ids:
        host.docker("rm", "-f", *ids, check=False)
    host.docker("network", "rm", "meshkube", check=False)
