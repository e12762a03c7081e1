"""Processes whose streams are connected, on Docker Engine: exec and attach."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import aiodocker
from aiodocker.containers import DockerContainer
from aiodocker.execs import Exec

from meshkube.node.docker_stream import Hijacked
from meshkube.node.runtime import Output, RuntimeFailure

# Docker closes the streams a moment before it has noted the exit code.
EXIT_CODE_TRIES = 50
EXIT_CODE_WAIT = 0.02


class _Connected:
    def __init__(self, stream: Hijacked) -> None:
        self._stream = stream

    async def read(self) -> Output | None:
        return await self._stream.read()

    async def write(self, data: bytes) -> None:
        await self._stream.write(data)

    async def close_stdin(self) -> None:
        await self._stream.close_stdin()

    async def close(self) -> None:
        await self._stream.close()


class DockerExec(_Connected):
    """A further process in a running container."""

    def __init__(self, stream: Hijacked, made: Exec, container: str) -> None:
        super().__init__(stream)
        self._exec = made
        self._container = container

    async def resize(self, width: int, height: int) -> None:
        # It may have ended by now.
        with contextlib.suppress(aiodocker.DockerError):
            await self._exec.resize(w=width, h=height)

    async def exit_code(self) -> int:
        for _ in range(EXIT_CODE_TRIES):
            try:
                found = await self._exec.inspect()
            except aiodocker.DockerError as error:
                raise RuntimeFailure(error.message) from error
            if not found.get("Running") and found.get("ExitCode") is not None:
                return int(found["ExitCode"])
            await asyncio.sleep(EXIT_CODE_WAIT)
        raise RuntimeFailure("the process still runs after its streams were closed")

    async def kill(self) -> None:
        """Docker has no such call: the process is ended by its id, where it is ours to see."""
        try:
            found = await self._exec.inspect()
        except aiodocker.DockerError:
            return
        process = int(found.get("Pid") or 0)
        if not (found.get("Running") and process > 1):
            return
        await asyncio.to_thread(_kill_if_in, process, self._container)


def _kill_if_in(process: int, container: str) -> None:
    with contextlib.suppress(OSError):
        if container in Path(f"/proc/{process}/cgroup").read_text():
            os.kill(process, signal.SIGKILL)


class DockerAttached(_Connected):
    """The container's own main process."""

    def __init__(self, stream: Hijacked, container: DockerContainer) -> None:
        super().__init__(stream)
        self._container = container

    async def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(aiodocker.DockerError):
            await self._container.resize(w=width, h=height)

    async def exit_code(self) -> int:
        """0: a client that was attached is not told how the container ended (as in Kubernetes)."""
        return 0

    async def kill(self) -> None:
        """The container is its pod's to end."""
