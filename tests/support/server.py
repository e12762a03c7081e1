"""`meshkube server` without a node, as a process that can be killed and started again."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.harness import free_port
from meshkube.api.errors import ApiError
from meshkube.client.http import HttpClient

MESHKUBE = str(Path(sys.executable).parent / "meshkube")
READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class Server:
    """One daemon with a control plane and nothing else, on loopback."""

    def __init__(
        self,
        name: str,
        data_dir: Path,
        store: str,
        *flags: str,
        disabled: str = "node,network,dataplane,dns,ingress",
    ) -> None:
        self.name = name
        self._flags = (*flags, f"--disable={disabled}")
        self.data_dir = data_dir
        self._store = store
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def share_keys(self, other: Server) -> None:
        """Joins the cluster of a server that runs."""
        shutil.copytree(other.data_dir / "pki", self.data_dir / "pki")

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self.stop()

    def start(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with (self.data_dir / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    MESHKUBE,
                    "server",
                    f"--store={self._store}",
                    f"--data-dir={self.data_dir}",
                    f"--node-name={self.name}",
                    f"--listen=127.0.0.1:{self._port}",
                    "--runtime=hollow",
                    *self._flags,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """`kill -9`."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """Safe to call twice."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            assert self._process.wait(STOP_SECONDS) == 0, self.log()
        finally:
            self._process.kill()
            self._process = None

    def log(self) -> str:
        return (self.data_dir / "log").read_text()

    def client(self) -> HttpClient:
        """As the admin. Close it."""
        return HttpClient.from_kubeconfig(self.data_dir / "kubeconfig.yaml")

    async def until_ready(self) -> None:
        """Until the API answers; other parts may still be on their way."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not await self._answers():
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(self.log()) from None

    async def _answers(self) -> bool:
        if not (self.data_dir / "kubeconfig.yaml").exists():
            return False
        async with self.client() as client:
            try:
                await client.get_raw("/livez")
            except ApiError:
                return False
        return True
