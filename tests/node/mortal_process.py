"""An agent in a process of its own that ends itself by `kill -9` at a chosen step, be it a request
to the runtime, a write to the API, or a change of a file below its directory.

`python -m tests.node.mortal_process KUBECONFIG DOCKER ADDRESS DIRECTORY STEP` says `ready`, waits
for a line, runs, and prints each step before it takes it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from meshkube.client.http import HttpClient
from meshkube.node.agent import NodeAgent
from meshkube.node.docker import DockerRuntime
from tests.node.mortal import Fuse, mortal_client, mortal_runtime
from tests.node.world import DNS, NODE

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
FILE_STEPS = frozenset(
    {"os.mkdir", "os.rename", "os.symlink", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}
)


class DeadlyFuse(Fuse):
    """At its limit there is no process any more."""

    def take(self, what: str) -> None:
        self.taken.append(what)
        os.write(1, f"{what}\n".encode())
        # Threads take steps too: one of them may have gone past the limit.
        if len(self.taken) >= self.limit:
            os.kill(os.getpid(), signal.SIGKILL)

    async def step(self, what: str) -> None:
        self.take(what)

    def watch_files(self, directory: Path) -> None:
        """Counts every change below `directory` from now on, in whatever thread."""
        root = str(directory)

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event == "open":
                path, _, flags = arguments
                counts = bool(flags & WRITING)
            else:
                counts, path = event in FILE_STEPS, arguments[0] if arguments else ""
            if counts and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(root):
                self.take(f"{event} {os.path.relpath(path, root)}")

        sys.addaudithook(hook)


async def main(kubeconfig: str, docker: str, address: str, directory: str, step: str) -> None:
    fuse = DeadlyFuse(int(step))
    pods = Path(directory) / "pods"
    os.write(1, b"ready\n")
    sys.stdin.readline()
    fuse.watch_files(pods)
    async with HttpClient.from_kubeconfig(Path(kubeconfig)) as client:
        agent = NodeAgent(
            client=mortal_client(client, fuse),
            runtime=mortal_runtime(DockerRuntime(docker), fuse),
            node_name=NODE,
            node_ip=address,
            data_dir=Path(directory),
            cluster_dns=DNS,
        )
        await agent.run(lambda: None)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
