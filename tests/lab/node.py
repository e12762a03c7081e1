"""One host of a cluster of several: its daemon, and its etcd member and Docker Engine, if any."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from typing import Any

from tests.lab.cluster import MESHKUBE, Cluster
from tests.lab.host import Host
from tests.lab.members import Member
from tests.lab.shell import wait_for


class Node(Cluster):
    """`kind` is `server` or `agent`. A server has an etcd member."""

    def __init__(self, host: Host, kind: str, *, docker: bool, flags: Sequence[str] = ()) -> None:
        runtime = f"--docker={host.docker_socket}" if docker else "--runtime=hollow"
        super().__init__(host, runtime, f"--node-ip={host.address}", *flags)
        self.kind = kind
        self.docker = docker
        self.flags = self.command[2:]
        self.member = Member(host) if kind == "server" else None
        self.on = True
        """False from a power failure to the boot after it."""
        self.program = MESHKUBE
        self.started = False
        """Whether its daemon was started; it may have ended since."""
        self.frozen = False

    def __repr__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.host.name

    def launch(self, *flags: str, env: dict[str, str] | None = None) -> None:
        """Starts the daemon, and does not wait for it."""
        self.command = (self.program, self.kind, *self.flags, *flags)
        self.server = self.host.start(*self.command, log="meshkube.log", env=env)
        self.started = True

    def up(self, timeout: float = 60, *flags: str) -> None:
        """Starts the daemon and waits until it serves."""
        self.launch(*flags)
        self.wait_ready(timeout)

    def wait_ready(self, timeout: float = 60) -> None:
        """Waits until the daemon serves; a failure shows its log."""
        try:
            wait_for(self.ready, timeout, f"the daemon of {self.name}")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log[-5000:]}") from None

    def ready(self) -> bool:
        """A server: while `/readyz` says so; an agent: once its node server answers at all."""
        if self.kind == "server":
            return super().ready()
        assert self.server is not None
        if self.server.poll() is not None:
            raise RuntimeError(f"the daemon ended: {self.log[-5000:]}")
        return self.host.run("ss", "-Hltn", "sport = :10250").stdout != ""

    @property
    def serves(self) -> bool:
        """Whether one may expect this host's API to answer."""
        ended = self.server is not None and self.server.poll() is not None
        return self.kind == "server" and self.started and not (ended or self.frozen)

    def start_engine(self) -> None:
        """A Docker Engine of its own, with the quickstart's image."""
        self.host.start_docker()
        self.build_image()

    # Bad days

    def power_off(self) -> None:
        """The whole host goes silent at once: daemon, engine, containers, etcd member."""
        self.host.switch_off()
        self.server, self.on, self.started, self.frozen = None, False, False, False
        if self.member is not None:
            self.member.process = None

    def power_on(self, members: Sequence[Member], timeout: float = 60) -> None:
        """Boots it with the files that it had."""
        self.host.switch_on()
        self.on = True
        if self.member is not None:
            self.member.start(members)
        if self.docker:
            self.host.start_docker()
        self.up(timeout)

    def restart_in_place(self, timeout: float = 60) -> None:
        """Has the daemon become what is installed now, and waits until that serves."""
        assert self.server is not None
        said = f"daemon.{self.kind}: starting"
        before = self.log.count(said)
        self.server.send_signal(signal.SIGUSR2)
        wait_for(
            lambda: self.log.count(said) > before,
            timeout, f"the new version on {self}",
        )  # fmt: skip
        self.wait_ready(timeout)

    def freeze(self) -> None:
        """SIGSTOP: the daemon is there and does nothing, as on a host that is suspended."""
        assert self.server is not None
        self.server.send_signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        assert self.server is not None
        self.server.send_signal(signal.SIGCONT)
        self.frozen = False

    def cut_from_store(self) -> None:
        """The daemon's packets to every etcd member are lost, also to the one on its own host; the
        members still reach each other."""
        rules = "tcp dport 2379 drop; tcp sport 2379 drop;"
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority -300; {rules} }}\n"
            for hook in ("input", "output")
        )
        self.host.feed(f"table inet lab {{ {chains} }}", "nft", "-f", "-")

    def heal_store(self) -> None:
        self.host.run("nft", "delete", "table", "inet", "lab", check=False)

    # Looks

    def read(self, path: str, limit: int = 5) -> Any:
        """The API's answer at this host to a GET by the admin, or None."""
        return self._ask("GET", path, limit=limit)

    def write(self, method: str, path: str, body: dict[str, Any], limit: int = 5) -> Any:
        """What this host's API has stored, or None where it acknowledges nothing."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        header = f"Content-Type: {kind}"
        return self._ask(method, path, "-H", header, "-d", json.dumps(body), limit=limit)

    def _ask(self, method: str, path: str, *arguments: str, limit: int) -> Any:
        pki = self.data_dir / "pki"
        done = self.host.run(
            "curl", "-sS", "-f", "-m", str(limit), "--noproxy", "*", "-X", method,
            "--cacert", str(pki / "ca.crt"), "--cert", str(pki / "admin.crt"),
            "--key", str(pki / "admin.key"), *arguments, f"https://127.0.0.1:6443{path}",
            check=False,
        )  # fmt: skip
        return json.loads(done.stdout) if done.returncode == 0 else None
