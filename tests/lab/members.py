"""Real etcd members, one on each host that holds a control plane."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from typing import Any

from tests.lab.host import Host
from tests.lab.shell import wait_for
from tests.support.etcd import ETCD

CLIENT_PORT, PEER_PORT = 2379, 2380


class Member:
    """The etcd of one host, at its address. Data stays in the host's directory."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"{self.host.address}:{CLIENT_PORT}"

    @property
    def peer(self) -> str:
        return f"{self.host.name}=http://{self.host.address}:{PEER_PORT}"

    def start(self, members: Sequence[Member]) -> None:
        """Starts it, or starts it again: a member that has data knows the others from it."""
        assert ETCD is not None
        url = f"http://{self.host.address}:{PEER_PORT}"
        self.process = self.host.start(
            ETCD,
            f"--name={self.host.name}",
            f"--data-dir={self.host.directory}/etcd",
            f"--listen-client-urls=http://{self.endpoint},http://127.0.0.1:{CLIENT_PORT}",
            f"--advertise-client-urls=http://{self.endpoint}",
            f"--listen-peer-urls={url}",
            f"--initial-advertise-peer-urls={url}",
            "--initial-cluster=" + ",".join(member.peer for member in members),
            "--logger=zap",
            "--log-level=warn",
            log="etcd.log",
        )

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.host.processes.remove(self.process)
        self.process = None

    def call(self, path: str, **body: Any) -> Any:
        """A request to this member alone, from its own host; None where it does not answer."""
        done = self.host.run(
            "curl", "-sS", "-m", "2", "--noproxy", "*", "-d", json.dumps(body),
            f"http://127.0.0.1:{CLIENT_PORT}/v3/{path}", check=False,
        )  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else None

    @property
    def leads(self) -> bool:
        status = self.call("maintenance/status") or {}
        member = (status.get("header") or {}).get("member_id")
        return member is not None and status.get("leader") == member


def start_all(members: Sequence[Member], timeout: float = 30) -> None:
    """Starts the members of a new cluster and waits for their leader."""
    for member in members:
        member.start(members)
    wait_for(lambda: any(member.leads for member in members), timeout, "etcd's leader")


def store_url(members: Sequence[Member], nearest: Member) -> str:
    """What `--store` takes, the nearest member first."""
    others = [member for member in members if member is not nearest]
    return "etcd://" + ",".join(member.endpoint for member in [nearest, *others])
