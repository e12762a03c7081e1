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
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

_numbers = itertools.count(1)


def run(*command: str, check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end; a failure raises with what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done


class Host:
    """One network namespace with a link `eth0` to the lab's bridge."""

    def __init__(self, name: str, address: str, directory: Path) -> None:
        self.name = name
        self.address = address
        self.directory = directory
        self.processes: list[subprocess.Popen[bytes]] = []

    @property
    def docker_socket(self) -> str:
        """Where `start_docker`'s engine listens, as `--docker` takes it."""
        return f"unix://{self.directory}/docker.sock"

    def command(self, *command: str) -> list[str]:
        """The command line that runs `command` inside this host's network."""
        return ["nsenter", f"--net=/run/netns/{self.name}", *command]

    def run(
        self, *command: str, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside this host's network, to its end."""
        return run(*self.command(*command), check=check, timeout=timeout)

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
        process = self.start(
            "dockerd",
            f"--data-root={self.directory}/docker",
            f"--exec-root={self.directory}/docker-exec",
            f"--pidfile={self.directory}/docker.pid",
            f"--host={self.docker_socket}",
            "--storage-driver=overlay2",
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

    def close(self) -> None:
        """Ends every process, containers first, and forgets what they wrote."""
        if any("dockerd" in str(process.args) for process in self.processes):
            ids = self.docker("ps", "-aq", check=False).stdout.split()
            if ids:
                self.docker("rm", "-f", *ids, check=False)
        for process in reversed(self.processes[:]):
            self.stop(process)
        self._end_orphans()
        for mount in Path("/proc/self/mounts").read_text().splitlines():
            point = mount.split()[1]
            if point.startswith(f"{self.directory}/"):
                run("umount", "-l", point, check=False)
        run("ip", "netns", "delete", self.name, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_orphans(self) -> None:
        """Ends what a killed dockerd left running: they all name this host's directory."""
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(self.directory).encode() in (entry / "cmdline").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


def wait_for(condition: object, timeout: float, what: str) -> None:
    """Polls a callable until it returns something true; raises `TimeoutError` naming `what`."""
    assert callable(condition)
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {timeout} s")
        time.sleep(0.05)


@contextlib.contextmanager
def lab(count: int = 1, docker: bool = False) -> Iterator[Sequence[Host]]:
    """`count` hosts at 10.250.N.11, .12, ... that reach each other over one bridge.

    The bridge itself lives in a namespace of its own, so the machine's links stay as they are.
    """
    number = next(_numbers)
    tag = f"mk{os.getpid() % 100000}x{number}"
    switch = f"{tag}-sw"
    hosts: list[Host] = []
    try:
        run("ip", "netns", "add", switch)
        _in(switch, "ip", "link", "add", "br0", "type", "bridge")
        _in(switch, "ip", "addr", "add", f"10.250.{number % 250}.1/24", "dev", "br0")
        _in(switch, "ip", "link", "set", "br0", "up")
        for index in range(1, count + 1):
            host = _add_host(f"{tag}-h{index}", switch, number % 250, index)
            hosts.append(host)
        if docker:
            for host in hosts:
                host.start_docker()
        yield hosts
    finally:
        for host in hosts:
            host.close()
        run("ip", "netns", "delete", switch, check=False)


def _in(namespace: str, *command: str) -> None:
    run("nsenter", f"--net=/run/netns/{namespace}", *command)


def _add_host(name: str, switch: str, network: int, index: int) -> Host:
    address = f"10.250.{network}.{10 + index}"
    run("ip", "netns", "add", name)
    run("ip", "link", "add", f"p{index}", "netns", switch, "type", "veth",
        "peer", "name", "eth0", "netns", name)  # fmt: skip
    _in(switch, "ip", "link", "set", f"p{index}", "master", "br0", "up")
    _in(name, "ip", "link", "set", "lo", "up")
    _in(name, "ip", "addr", "add", f"{address}/24", "dev", "eth0")
    _in(name, "ip", "link", "set", "eth0", "up")
    _in(name, "ip", "route", "add", "default", "via", f"10.250.{network}.1")
    return Host(name, address, Path(tempfile.mkdtemp(prefix=f"{name}-")))
