"""The gateway's program, run for real in a network of its own, and the sockets it hands over."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshkube.dataplane import gateway_program
from meshkube.dataplane.gateway import Gateway, GatewayPlace
from tests.lab.host import Host, lab

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no such program"),
]
NETWORK = "10.43.0.0/16"
SERVICE = "10.43.0.80"


class Jail:
    """Starts the program in a test host's network, where it finds its directory by its own name."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process: subprocess.Popen[bytes] | None = None

    async def start(self, directory: Path) -> None:
        self.end()
        root = self.host.directory / "root"
        (root / "gateway").mkdir(parents=True, exist_ok=True)
        program = root / "gateway-calls"
        if not program.exists():
            program.write_bytes(gateway_program.executable(os.uname().machine))
            program.chmod(0o755)
        self.process = self.host.start(
            "unshare", "--mount", "sh", "-c",
            f"mount --bind {directory} {root}/gateway && exec chroot {root} /gateway-calls",
        )  # fmt: skip

    def end(self) -> None:
        if self.process is not None:
            self.host.stop(self.process)
            self.process = None


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with lab(1) as (host,):
        host.run("ip", "link", "set", "lo", "up")
        yield host


@asynccontextmanager
async def running(host: Host, directory: Path) -> AsyncIterator[tuple[Gateway, Jail]]:
    jail = Jail(host)
    gateway = Gateway(starter=jail, directory=directory, networks=[NETWORK, "fd00:43::/112"])
    ready = asyncio.Event()
    task = asyncio.ensure_future(gateway.run(ready.set))
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield gateway, jail
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        jail.end()


async def test_a_socket_on_a_service_address_answers_in_that_network(
    host: Host, tmp_path: Path
) -> None:
    async with running(host, tmp_path / "g") as (gateway, _):
        made = await asyncio.to_thread(gateway.opened, socket.SOCK_STREAM, SERVICE, 80)

        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
            writer.close()

        async with await asyncio.start_server(greet, sock=made):
            answer = await asyncio.to_thread(
                host.run, "curl", "-sS", "--max-time", "5", "--noproxy", "*", f"http://{SERVICE}"
            )
        assert answer.stdout == "hello"
        # The same port of another Service is another's, and the rest is refused.
        other = await asyncio.to_thread(gateway.opened, socket.SOCK_DGRAM, "10.43.255.254", 80)
        other.close()
        refused = await asyncio.to_thread(
            host.run, "curl", "--max-time", "5", "--noproxy", "*", "http://10.43.0.81", check=False
        )
        assert refused.returncode == 7


async def test_a_port_that_is_taken_is_an_error_and_nothing_is_left_open(
    host: Host, tmp_path: Path
) -> None:
    async with running(host, tmp_path / "g") as (gateway, jail):
        first = await asyncio.to_thread(gateway.opened, socket.SOCK_DGRAM, SERVICE, 53)
        with first, pytest.raises(OSError, match="in use"):
            await asyncio.to_thread(gateway.opened, socket.SOCK_DGRAM, SERVICE, 53)
        for _ in range(50):
            made = await asyncio.to_thread(gateway.opened, socket.SOCK_DGRAM, SERVICE, 53)
            made.close()
        assert jail.process is not None
        # Its standard streams and its own socket; the log is none of them.
        assert len(os.listdir(f"/proc/{jail.process.pid}/fd")) == 4


async def test_it_ends_with_the_daemon(host: Host, tmp_path: Path) -> None:
    async with running(host, tmp_path / "g") as (_, jail):
        process = jail.process
        assert process is not None
        jail.process = None
    assert await asyncio.to_thread(process.wait, 5) == 0
    host.processes.remove(process)


async def test_one_that_ended_is_missed_and_another_serves(host: Host, tmp_path: Path) -> None:
    async with running(host, tmp_path / "g") as (gateway, jail):
        place = GatewayPlace(gateway, SERVICE, 53)
        for each in await asyncio.to_thread(place.opened):
            each.close()
        assert not place.lost
        jail.end()
        async with asyncio.timeout(5):
            while True:
                try:
                    (
                        await asyncio.to_thread(gateway.opened, socket.SOCK_DGRAM, SERVICE, 53)
                    ).close()
                except OSError:
                    break
                await asyncio.sleep(0.05)
        ready = asyncio.Event()
        again = asyncio.ensure_future(gateway.run(ready.set))
        async with asyncio.timeout(10):
            await ready.wait()
        assert place.lost
        for each in await asyncio.to_thread(place.opened):
            each.close()
        assert not place.lost
        again.cancel()
        await asyncio.gather(again, return_exceptions=True)


@pytest.mark.parametrize("machine", ["amd64", "x86_64", "arm64", "aarch64"])
def test_the_program_is_a_small_static_executable(machine: str) -> None:
    content = gateway_program.executable(machine)
    assert content[:4] == b"\x7fELF"
    assert len(content) < 400
