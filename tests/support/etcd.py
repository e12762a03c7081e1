"""Real etcd members for tests, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.harness import free_port
from meshkube.store.etcd_wire import text64 as text64

# `MESHKUBE_TEST_ETCD` names another etcd than the one on PATH.
ETCD = os.environ.get("MESHKUBE_TEST_ETCD") or shutil.which("etcd")


@dataclass
class Member:
    """One etcd process."""

    name: str
    directory: Path
    client_port: int = field(default_factory=free_port)
    peer_port: int = field(default_factory=free_port)
    arguments: tuple[str, ...] = ()
    scheme: str = "http"
    process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.client_port}"

    @property
    def peer_url(self) -> str:
        return f"http://127.0.0.1:{self.peer_port}"

    def start(self, cluster: str) -> None:
        assert ETCD is not None
        client_url = f"{self.scheme}://{self.endpoint}"
        with (self.directory / f"{self.name}.log").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    ETCD,
                    f"--name={self.name}",
                    f"--data-dir={self.directory / self.name}",
                    f"--listen-client-urls={client_url}",
                    f"--advertise-client-urls={client_url}",
                    f"--listen-peer-urls={self.peer_url}",
                    f"--initial-advertise-peer-urls={self.peer_url}",
                    f"--initial-cluster={cluster}",
                    "--logger=zap",
                    "--log-level=warn",
                    *self.arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def kill(self) -> None:
        """`kill -9`."""
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def forget(self) -> None:
        """Takes the data of a member that does not run away."""
        shutil.rmtree(self.directory / self.name)

    def signal(self, number: int) -> None:
        if self.process is not None:
            self.process.send_signal(number)

    def call(self, path: str, **body: Any) -> Any:
        """A request to this member alone."""
        request = urllib.request.Request(
            f"{self.scheme}://{self.endpoint}/v3/{path}", data=json.dumps(body).encode()
        )
        with urllib.request.urlopen(request, timeout=5) as response:
            return json.load(response)

    def is_leader(self) -> bool:
        try:
            status = self.call("maintenance/status")
        except OSError:
            return False
        return bool(status["leader"] == status["header"]["member_id"])


@dataclass
class Cluster:
    """Members that know each other."""

    members: list[Member]

    @property
    def url(self) -> str:
        scheme = "etcds" if self.members[0].scheme == "https" else "etcd"
        return f"{scheme}://" + ",".join(member.endpoint for member in self.members)

    def start(self, *members: Member) -> None:
        cluster = ",".join(f"{member.name}={member.peer_url}" for member in self.members)
        for member in members or self.members:
            member.start(cluster)

    def leader(self) -> Member:
        """Waits for one."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            for member in self.members:
                if member.process is not None and member.is_leader():
                    return member
            time.sleep(0.05)
        raise TimeoutError("etcd has no leader")

    def revision(self) -> int:
        return int(self.members[0].call("kv/range", key="AA==")["header"]["revision"])

    def close(self) -> None:
        for member in self.members:
            member.signal(signal.SIGCONT)
            member.kill()


@contextlib.contextmanager
def etcd(
    size: int = 1,
    arguments: tuple[str, ...] = (),
    scheme: str = "http",
    wait: bool = True,
    base: Path | None = None,
) -> Iterator[Cluster]:
    """A cluster of that many members; gone afterwards. Its data is in a directory below `base`."""
    with tempfile.TemporaryDirectory(prefix="meshkube-etcd-", dir=base) as directory:
        cluster = Cluster(
            [
                Member(f"m{n}", Path(directory), arguments=arguments, scheme=scheme)
                for n in range(size)
            ]
        )
        try:
            cluster.start()
            if wait:
                cluster.leader()
            yield cluster
        finally:
            cluster.close()
