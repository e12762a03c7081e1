"""Test hosts: network namespaces on a bridge, each able to run a dockerd of its own.

A host has its own links, routes, nftables and ports, so daemons under test meet neither each other
nor the machine. Everything a host made is gone when its `with` block ends.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from tests.lab import container_runtime, power
from tests.lab.shell import run as run
from tests.lab.shell import wait_for as wait_for
from tests.lab.switch import Switch

_numbers = itertools.count(1)


class Host:
    """One network namespace with a link `eth0` to the lab's bridge."""

    def __init__(self, name: str, switch: Switch, number: int, directory: Path) -> None:
        self.name = name
        self.number = number
        self.directory = directory
        self.switch = switch
        self.address = ""
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def docker_socket(self) -> str:
        """Where `start_docker`'s engine listens, as `--docker` takes it."""
        return f"unix://{self.directory}/docker.sock"

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` inside this host's network."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def run(
        self, *command: str, check: bool = True, timeout: float = 60, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside this host's network, to its end."""
        return run(*self.command(*command), check=check, timeout=timeout, cwd=cwd)

    def feed(self, text: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Runs a command inside this host's network with `text` as its standard input."""
        return run(*self.command(*command), stdin=text)

    def start(
        self,
        *command: str,
        log: str = "",
        env: dict[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Starts a process inside this host's network; it is ended with the host. Its output goes
        to the file `log` in the host's directory."""
        output: IO[bytes] | int = subprocess.DEVNULL
        if log:
            output = open(self.directory / log, "ab")  # noqa: SIM115
        process = subprocess.Popen(
            self.command(*command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
        if not isinstance(output, int):
            output.close()
        self.processes.append(process)
        return process

    def start_docker(self, *flags: str, timeout: float = 60) -> subprocess.Popen[bytes]:
        """Starts this host's own dockerd and waits until it answers."""
        # One that was killed leaves these behind, and the next waits for who is long gone.
        for stale in ("docker.pid", "docker-exec/containerd/containerd.pid"):
            (self.directory / stale).unlink(missing_ok=True)
        # Its containers on the host's network have the host's name: each host has its own.
        named = ("unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name)
        process = self.start(
            *named,
            "dockerd",
            f"--data-root={self.directory}/docker",
            f"--exec-root={self.directory}/docker-exec",
            f"--pidfile={self.directory}/docker.pid",
            f"--host={self.docker_socket}",
            "--storage-driver=overlay2",
            *container_runtime.flags(self.directory),
            *flags,
            log="dockerd.log",
        )
        wait_for(lambda: self.docker("version", check=False).returncode == 0, timeout, "dockerd")
        return process

    def docker(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The docker command against this host's engine."""
        return run("docker", "--host", self.docker_socket, *arguments, check=check)

    def stop(self, process: subprocess.Popen[bytes], timeout: float = 20) -> None:
        """Asks a process of this host to end, and ends it where it does not."""
        process.terminate()
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process in self.processes:
            self.processes.remove(process)

    def switch_on(self) -> None:
        """The host comes up: a network and no process, as after a boot."""
        run("ip", "netns", "add", self.name)
        self.address = self.switch.attach(self.name, self.number)

    def switch_off(self) -> None:
        """The power fails: the link goes first, so no process says good-bye, then each process and
        container is killed. What the kernel held is gone; files stay."""
        self.switch.detach(self.number)
        power.kill_everything(self.name, self.directory)
        for process in self.processes:
            process.wait()
        self.processes.clear()
        run("ip", "netns", "delete", self.name, check=False)

    def close(self) -> None:
        """Ends every process, containers first, and forgets what they wrote."""
        if (self.directory / "docker.sock").exists():
            ids = self.docker("ps", "-aq", check=False).stdout.split()
            if ids:
                self.docker("rm", "-f", *ids, check=False)
        for process in reversed(self.processes[:]):
            self.stop(process)
        power.kill_everything(self.name, self.directory)
        run("ip", "netns", "delete", self.name, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def plug_in(count: int, tag: str = "", base: Path | None = None) -> list[Host]:
    """`lab`'s hosts, switched on; who calls this closes them and their switch."""
    number = next(_numbers)
    tag = tag or f"mk{os.getpid() % 100000}x{number}"
    switch = Switch(f"{tag}-sw", number % 250)
    hosts: list[Host] = []
    try:
        switch.create()
        for index in range(1, count + 1):
            name = f"{tag}-h{index}"
            directory = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=base))
            hosts.append(Host(name, switch, index, directory))
            hosts[-1].switch_on()
    except BaseException:
        unplug(hosts, switch)
        raise
    return hosts


def unplug(hosts: Sequence[Host], switch: Switch) -> None:
    """Leaves nothing of them."""
    for host in hosts:
        host.close()
    switch.close()


@contextlib.contextmanager
def lab(count: int = 1, docker: bool = False) -> Iterator[Sequence[Host]]:
    """`count` hosts at 10.250.N.11, .12, ... that reach each other over one bridge.

    The bridge itself lives in a namespace of its own, so the machine's links stay as they are.
    """
    hosts = plug_in(count)
    try:
        if docker:
            for host in hosts:
                host.start_docker()
        yield hosts
    finally:
        unplug(hosts, hosts[0].switch)
