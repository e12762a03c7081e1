"""Traffic carried by this process: real sockets on addresses of the loopback range."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.dataplane import udp_relay
from meshkube.dataplane.proxy import ServiceProxy
from meshkube.dataplane.userspace import UserKernel
from tests.dataplane.world import service, slice_of
from tests.support.memory_client import MemoryClient


@pytest.fixture
def address(worker_id: str) -> str:
    """A Service address of this worker's own."""
    return f"127.43.{int(worker_id.removeprefix('gw') or 0) if worker_id != 'master' else 0}.80"


@pytest.fixture
def node_port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def free_port() -> Callable[[], int]:
    def found() -> int:
        with socket.socket() as probe:
            probe.bind(("", 0))
            return int(probe.getsockname()[1])

    return found


class Backend:
    """Answers TCP with its name and then all it was sent, UDP with its name."""

    def __init__(self, address: str, port: int) -> None:
        self.address, self.port = address, port
        self.accepted = 0
        self.read = 0
        self.reads = asyncio.Event()
        self.reads.set()

    async def serve(self) -> asyncio.Server:
        return await asyncio.start_server(self._talk, self.address, self.port)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        try:
            writer.write(self.address.encode() + b"\n")
            while True:
                await self.reads.wait()
                data = await reader.read(65536)
                if not data:
                    break
                self.read += len(data)
                writer.write(data)
                await writer.drain()
            writer.write(b"bye")
            await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Echo(asyncio.DatagramProtocol):
    def __init__(self, name: str) -> None:
        self.name = name

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, peer: Any) -> None:
        self.transport.sendto(f"{self.name} {peer[1]}".encode(), peer)


class World:
    def __init__(self, address: str, port: int, node_port: int) -> None:
        self.address, self.node_port = address, node_port
        self.backends = [Backend(f"127.0.0.{n}", port) for n in (2, 3)]
        self.port = port
        self.api = MemoryClient()
        self.kernel = UserKernel()

    def publish(self, *numbers: int, **spec: Any) -> None:
        """The Service, with these of the backends."""
        ports = [
            {"name": "http", "protocol": "TCP", "port": 8080, "nodePort": self.node_port},
            {"name": "dns", "protocol": "UDP", "port": 5353, "nodePort": self.node_port},
        ]
        made = service(address=self.address)
        made["spec"] |= {"ports": ports, **spec}
        piece = slice_of(*(self.backends[n].address for n in numbers))
        piece["ports"] = [{**port, "port": self.port} for port in piece["ports"]]
        self.put(made, piece)

    def put(self, made: Object, piece: Object) -> None:
        self.api.put(kinds.SERVICE, made)
        self.api.put(kinds.ENDPOINT_SLICE, piece)

    @contextlib.asynccontextmanager
    async def proxy(self) -> AsyncIterator[None]:
        ready = asyncio.Event()
        proxy = ServiceProxy(
            client=self.api.as_client(),
            kernel=self.kernel,
            node_name="h1",
            pod_cidrs=["127.0.0.0/24"],
            service_cidrs=["127.43.0.0/16"],
        )
        async with contextlib.AsyncExitStack() as stack:
            for backend in self.backends:
                await stack.enter_async_context(await backend.serve())
                transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda backend=backend: Echo(backend.address),
                    (backend.address, backend.port),
                )
                stack.callback(transport.close)
            task = asyncio.ensure_future(proxy.run(ready.set))
            try:
                async with asyncio.timeout(10):
                    await ready.wait()
                yield
            finally:
                task.cancel()
                await asyncio.wait([task])
                await asyncio.sleep(0)

    async def ask(self, host: str = "", port: int = 8080) -> str:
        """The name of who answers a connection."""
        reader, writer = await asyncio.open_connection(host or self.address, port)
        try:
            async with asyncio.timeout(5):
                return (await reader.readline()).decode().strip()
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def until_answers(self, expected: set[str]) -> None:
        async with asyncio.timeout(10):
            while await self.answers() != expected:
                await asyncio.sleep(0.02)

    async def answers(self) -> set[str]:
        found = set()
        for _ in range(6):
            try:
                found.add(await self.ask())
            except OSError:
                found.add("")
        return found


@pytest.fixture
def world(address: str, free_port: Callable[[], int], node_port: int) -> World:
    return World(address, free_port(), node_port)


async def test_connections_are_spread_by_cluster_ip_and_by_node_port(world: World) -> None:
    world.publish(0, 1)
    async with world.proxy():
        both = {backend.address for backend in world.backends}
        assert await world.answers() == both
        assert {await world.ask("127.0.0.1", world.node_port) for _ in range(4)} == both


async def test_both_ends_of_a_connection_end_each_in_its_time(world: World) -> None:
    world.publish(0)
    async with world.proxy():
        reader, writer = await asyncio.open_connection(world.address, 8080)
        body = b"x" * 3_000_000
        writer.write(body)
        writer.write_eof()
        async with asyncio.timeout(20):
            assert await reader.readline() == b"127.0.0.2\n"
            assert await reader.read() == body + b"bye"
        writer.close()
        await writer.wait_closed()


async def test_who_reads_slowly_is_waited_for(world: World) -> None:
    world.publish(0)
    async with world.proxy():
        backend = world.backends[0]
        backend.reads.clear()
        reader, writer = await asyncio.open_connection(world.address, 8080)
        sent = 0
        # Nobody reads: after the buffers of sockets and relay are full, no more is taken.
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                writer.write(b"x" * 1_000_000)
                sent += 1_000_000
                async with asyncio.timeout(1):
                    await writer.drain()
        assert sent < 50_000_000
        backend.reads.set()
        writer.write_eof()
        async with asyncio.timeout(30):
            await reader.readline()
            assert len(await reader.read()) == sent + len(b"bye")
        writer.close()
        await writer.wait_closed()


async def test_a_reset_reaches_the_other_end_as_one(world: World) -> None:
    world.publish(0)
    async with world.proxy():
        loop = asyncio.get_running_loop()
        ours = socket.create_connection((world.address, 8080))
        ours.setblocking(False)
        assert (await loop.sock_recv(ours, 100)).startswith(b"127.0.0.2")
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ours.close()
        await asyncio.sleep(0.1)
        assert await world.ask() == "127.0.0.2"


async def test_a_backend_that_does_not_answer_costs_no_connection(world: World) -> None:
    world.publish(0, 1)
    piece = slice_of("127.0.0.2", "127.0.0.9")
    piece["ports"] = [{**port, "port": world.port} for port in piece["ports"]]
    world.api.put(kinds.ENDPOINT_SLICE, piece)
    async with world.proxy():
        assert {await world.ask() for _ in range(6)} == {"127.0.0.2"}


async def test_without_endpoints_connections_are_refused(world: World) -> None:
    world.publish()
    async with world.proxy():
        for place in ((world.address, 8080), ("127.0.0.1", world.node_port)):
            with pytest.raises(ConnectionRefusedError):
                await world.ask(*place)
        world.publish(1)
        await world.until_answers({"127.0.0.3"})
        world.publish()
        await world.until_answers({""})


async def test_endpoints_come_and_go_and_connections_stay(world: World) -> None:
    world.publish(0)
    async with world.proxy():
        reader, writer = await asyncio.open_connection(world.address, 8080)
        assert await reader.readline() == b"127.0.0.2\n"
        world.publish(1)
        await world.until_answers({"127.0.0.3"})
        writer.write(b"still")
        async with asyncio.timeout(5):
            assert await reader.readexactly(5) == b"still"
        writer.close()
        await writer.wait_closed()
        world.api.delete(kinds.SERVICE, "shop/web")
        await world.until_answers({""})


async def test_affinity_outlasts_other_endpoints_changes(world: World) -> None:
    sticky = {"sessionAffinity": "ClientIP"}
    world.publish(0, **sticky)
    async with world.proxy():
        assert await world.answers() == {"127.0.0.2"}
        world.publish(0, 1, **sticky)
        await asyncio.sleep(0.1)
        assert await world.answers() == {"127.0.0.2"}
        world.publish(1, **sticky)
        await world.until_answers({"127.0.0.3"})


class Talk:
    """A UDP client."""

    def __init__(self, place: tuple[str, int]) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setblocking(False)
        # Connected: only an answer from the address that was asked is heard.
        self.sock.connect(place)

    async def ask(self) -> str:
        """Asks again after a while: what is under way when a session ends may be lost."""
        loop = asyncio.get_running_loop()
        for _ in range(20):
            self.sock.send(b"hello")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    return (await loop.sock_recv(self.sock, 100)).decode()
        raise TimeoutError("no answer")

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


async def test_a_udp_client_keeps_its_session_until_its_backend_leaves(world: World) -> None:
    world.publish(0, 1)
    async with world.proxy():
        with Talk((world.address, 5353)) as one, Talk((world.address, 5353)) as other:
            first = await one.ask()
            assert {await one.ask() for _ in range(5)} == {first}
            assert (await other.ask()).split()[0] != first.split()[0]
            left = int(first.startswith("127.0.0.2"))
            world.publish(left)
            async with asyncio.timeout(10):
                while (await one.ask()).split()[0] != world.backends[left].address:
                    await asyncio.sleep(0.02)


async def test_a_udp_node_port_answers_from_the_address_that_was_asked(world: World) -> None:
    world.publish(0)
    async with world.proxy():
        for address in ("127.0.0.1", "127.0.0.77"):
            with Talk((address, world.node_port)) as talk:
                assert (await talk.ask()).startswith("127.0.0.2")


async def test_silent_udp_sessions_end_and_their_number_is_bounded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(udp_relay, "MOST_SESSIONS", 8)
    world.publish(0)
    async with world.proxy():
        for _ in range(20):
            with Talk((world.address, 5353)) as talk:
                await talk.ask()
        relays = [
            each for each in world.kernel._relays.values() if isinstance(each, udp_relay.UdpRelay)
        ]
        assert sum(len(relay._sessions) for relay in relays) == 8
        for relay in relays:
            relay.sweep(asyncio.get_running_loop().time() + udp_relay.SILENCE)
        assert sum(len(relay._sessions) for relay in relays) == 0


async def test_a_port_that_is_taken_is_named_and_served_once_it_is_free(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("meshkube.dataplane.proxy.CHECK_EVERY", 0.1)
    world.publish(0)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((world.address, 8080))
        taken.listen()
        async with world.proxy():
            reasons = [getattr(record, "reason", "") for record in caplog.records]
            assert f"{world.address}:8080: taken by another program" in reasons
            assert await world.ask("127.0.0.1", world.node_port) == "127.0.0.2"
            taken.close()
            await world.until_answers({"127.0.0.2"})
