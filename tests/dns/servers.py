"""The DNS server on real sockets over the real API, and name servers for it to ask."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from meshkube.clock import Clock, SystemClock
from meshkube.dns.server import DnsServer
from tests.support.api import running_api

# An address of this process' own, where nobody else takes ports.
ADDRESS = f"127.53.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"

Answer = Callable[[dns.message.Message], None]
"""Fills in a response to whoever asked."""


def free_port() -> int:
    """A port that is free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((ADDRESS, 0))
            with contextlib.suppress(OSError):
                tcp.bind((ADDRESS, udp.getsockname()[1]))
                return udp.getsockname()[1]


def address(text: str, ttl: int = 60) -> Answer:
    """An A record."""
    return addresses(text, ttl=ttl)


def addresses(*texts: str, ttl: int = 60) -> Answer:
    def fill(response: dns.message.Message) -> None:
        name = response.question[0].name
        response.answer.append(dns.rrset.from_text(name, ttl, "IN", "A", *texts))

    return fill


def failure(rcode: dns.rcode.Rcode) -> Answer:
    return lambda response: response.set_rcode(rcode)


class Upstream(asyncio.DatagramProtocol):
    """A name server that knows the names it was told. What does not fit goes over TCP."""

    def __init__(self) -> None:
        self.names: dict[str, Answer] = {
            "one.test.": address("192.0.2.7"),
            "big.test.": addresses(*(f"192.0.2.{n}" for n in range(200))),
        }
        self.asked: list[str] = []
        self.silent = False
        self.delay = 0.0
        self.before: Callable[[bytes], list[bytes]] = lambda packet: []
        """What it says over UDP before its answer: lies."""

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        if self.silent:
            return
        response = self.response("udp", data)
        if response.answer and len(response.answer[0]) > 10:
            response.answer.clear()
            response.flags |= dns.flags.TC
        for lie in self.before(data):
            self.transport.sendto(lie, addr)
        loop = asyncio.get_running_loop()
        loop.call_later(self.delay, self.transport.sendto, response.to_wire(), addr)

    async def stream(self, reader, writer) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        wire = self.response("tcp", await reader.readexactly(length)).to_wire()
        writer.write(len(wire).to_bytes(2) + wire)
        await writer.drain()
        writer.close()

    def response(self, transport: str, packet: bytes) -> dns.message.Message:
        query = dns.message.from_wire(packet)
        response = dns.message.make_response(query)
        name = str(query.question[0].name)
        if not name.endswith(".meshkube-loop-check.") and name != ".":
            self.asked.append(f"{transport} {name}")
        self.names.get(name, failure(dns.rcode.NXDOMAIN))(response)
        return response


@contextlib.asynccontextmanager
async def running_upstream() -> AsyncIterator[tuple[Upstream, tuple[str, int]]]:
    port = free_port()
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: upstream, local_addr=(ADDRESS, port))
    server = await asyncio.start_server(upstream.stream, ADDRESS, port)
    async with server:
        yield upstream, (ADDRESS, port)
        transport.close()


class Running:
    """A server at work."""

    def __init__(self, client, port: int, server: DnsServer, upstream: Upstream) -> None:
        self.client = client
        self.port = port
        self.server = server
        self.upstream = upstream

    async def ask(self, name: str, type: str = "A", tcp: bool = False, **options):
        query = dns.message.make_query(name, type, **options)
        send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await send(query, ADDRESS, timeout=5, port=self.port)

    async def addresses(self, name: str, **options) -> list[str]:
        """Of all records of the answer, aliases too."""
        response = await self.ask(name, **options)
        return sorted(str(data) for rrset in response.answer for data in rrset)

    async def until(self, name: str, type: str, expected: list[str]) -> None:
        async with asyncio.timeout(5):
            while await self.addresses(name, type=type) != expected:
                await asyncio.sleep(0.01)

    async def wait(self, happened: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not happened():
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def running_server(
    tmp_path: Path, clock: Clock | None = None, *, more_upstreams=(), **options
) -> AsyncIterator[Running]:
    """The server with two upstreams: one that is not there, and one that is."""
    port = free_port()
    async with (
        running_api(tmp_path) as client,
        running_upstream() as (upstream, asked),
        asyncio.TaskGroup() as group,
    ):
        server = DnsServer(
            client=client,
            address=ADDRESS,
            domain="cluster.local",
            networks=["10.43.0.0/16", "10.42.0.0/16"],
            upstreams=[*(more_upstreams or [(ADDRESS, free_port())]), asked],
            clock=clock or SystemClock(),
            port=port,
            **options,
        )
        ready = asyncio.Event()
        task = group.create_task(server.run(ready.set))
        async with asyncio.timeout(10):
            await ready.wait()
        yield Running(client, port, server, upstream)
        task.cancel()
