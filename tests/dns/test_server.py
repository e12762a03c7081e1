"""The server on real sockets, over the real API, with real upstreams on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from pathlib import Path

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from meshkube.api.kinds import ENDPOINT_SLICE, SERVICE
from meshkube.clock import SystemClock
from meshkube.dns.server import DnsServer
from meshkube.dns.upstream import host_servers
from tests.dns.conftest import endpoint, slice_of
from tests.support.api import running_api

# An address of this process' own, where nobody else takes ports.
ADDRESS = f"127.53.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"
NAME = "user.default.svc.cluster.local"


def free_port() -> int:
    """A port that is free for UDP and TCP."""
    while True:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind((ADDRESS, 0))
            with contextlib.suppress(OSError):
                tcp.bind((ADDRESS, udp.getsockname()[1]))
                return udp.getsockname()[1]


class Upstream(asyncio.DatagramProtocol):
    """A name server that knows `big.test` (a long answer, over TCP) and `one.test`."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.silent = False

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        if self.silent:
            return
        query = dns.message.from_wire(data)
        self.asked.append(f"udp {query.question[0].name}")
        response = self.answer(query)
        if len(response.answer) and len(response.answer[0]) > 10:
            response.answer.clear()
            response.flags |= dns.flags.TC
        self.transport.sendto(response.to_wire(), addr)

    async def stream(self, reader, writer) -> None:
        length = int.from_bytes(await reader.readexactly(2))
        query = dns.message.from_wire(await reader.readexactly(length))
        self.asked.append(f"tcp {query.question[0].name}")
        wire = self.answer(query).to_wire()
        writer.write(len(wire).to_bytes(2) + wire)
        await writer.drain()
        writer.close()

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        response = dns.message.make_response(query)
        name = query.question[0].name
        if str(name) == "one.test.":
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "192.0.2.7"))
        elif str(name) == "big.test.":
            addresses = [f"192.0.2.{n}" for n in range(200)]
            response.answer.append(dns.rrset.from_text(name, 60, "IN", "A", *addresses))
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        return response


@contextlib.asynccontextmanager
async def running_upstream():
    port = free_port()
    upstream = Upstream()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(lambda: upstream, local_addr=(ADDRESS, port))
    server = await asyncio.start_server(upstream.stream, ADDRESS, port)
    async with server:
        yield upstream, (ADDRESS, port)
        transport.close()


class Running:
    def __init__(self, client, port: int, server: DnsServer, upstream: Upstream) -> None:
        self.client = client
        self.port = port
        self.server = server
        self.upstream = upstream

    async def ask(self, name: str, type: str = "A", tcp: bool = False, **options):
        query = dns.message.make_query(name, type, **options)
        send = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
        return await send(query, ADDRESS, timeout=5, port=self.port)

    async def until(self, name: str, type: str, expected: list[str]) -> None:
        async with asyncio.timeout(5):
            while True:
                response = await self.ask(name, type)
                found = sorted(str(d) for rrset in response.answer for d in rrset)
                if found == expected:
                    return
                await asyncio.sleep(0.01)


@pytest.fixture
async def running(tmp_path: Path):
    port = free_port()
    async with (
        running_api(tmp_path) as client,
        running_upstream() as (upstream, address),
        asyncio.TaskGroup() as group,
    ):
        server = DnsServer(
            client=client,
            address=ADDRESS,
            domain="cluster.local",
            networks=["10.43.0.0/16"],
            upstreams=[(ADDRESS, free_port()), address],
            clock=SystemClock(),
            port=port,
        )
        ready = asyncio.Event()
        task = group.create_task(server.run(ready.set))
        async with asyncio.timeout(5):
            await ready.wait()
        yield Running(client, port, server, upstream)
        task.cancel()


def user_service(**spec):
    ports = [{"name": "http", "port": 80}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "user", "namespace": "default"},
        "spec": {"ports": ports, **spec},
    }


async def test_a_service_is_answered_from_its_creation_to_its_end(running):
    await running.until(NAME, "A", [])
    made = await running.client.create(SERVICE, user_service())
    await running.until(NAME, "A", [made["spec"]["clusterIP"]])
    assert (await running.ask(NAME, tcp=True)).answer
    await running.client.delete(SERVICE, "user", "default")
    await running.until(NAME, "A", [])
    assert (await running.ask(NAME)).rcode() == dns.rcode.NXDOMAIN


async def test_a_headless_service_follows_its_endpoints(running):
    await running.client.create(SERVICE, user_service(clusterIP="None"))
    piece = slice_of("user", endpoint("10.42.0.5"), namespace="default")
    piece |= {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice"}
    made = await running.client.create(ENDPOINT_SLICE, piece)
    await running.until(NAME, "A", ["10.42.0.5"])
    more = {"endpoints": [endpoint("10.42.0.5"), endpoint("10.42.0.6")]}
    await running.client.patch(ENDPOINT_SLICE, made["metadata"]["name"], more, "default")
    await running.until(NAME, "A", ["10.42.0.5", "10.42.0.6"])


async def test_the_same_packet_is_answered_from_the_cache(running):
    for _ in range(3):
        response = await running.ask("kubernetes.default.svc.cluster.local")
        assert response.answer[0][0].address == "10.43.0.1"
    assert running.server.counters.hits == 2


async def test_other_names_come_from_the_upstream_that_answers_and_are_kept(running):
    for _ in range(3):
        response = await running.ask("one.test")
        assert response.answer[0][0].address == "192.0.2.7"
        assert response.answer[0].ttl <= 60
    assert running.upstream.asked == ["udp one.test."]
    assert (await running.ask("none.test")).rcode() == dns.rcode.NXDOMAIN


async def test_a_long_answer_is_fetched_by_tcp_and_cut_for_udp(running):
    assert (await running.ask("big.test")).flags & dns.flags.TC
    whole = await running.ask("big.test", tcp=True)
    assert len(whole.answer[0]) == 200
    assert running.upstream.asked == ["udp big.test.", "tcp big.test."]


async def test_an_external_name_is_followed_through_the_upstream(running):
    service = user_service(type="ExternalName", externalName="one.test")
    del service["spec"]["ports"]
    await running.client.create(SERVICE, service)
    await running.until(NAME, "A", ["192.0.2.7", "one.test."])


async def test_no_answer_from_any_upstream_is_a_failure_and_cluster_names_still_work(
    running, monkeypatch
):
    monkeypatch.setattr("meshkube.dns.upstream.ANSWER_TIMEOUT", 0.1)
    running.upstream.silent = True
    assert (await running.ask("dead.test")).rcode() == dns.rcode.SERVFAIL
    assert (await running.ask("kubernetes.default.svc.cluster.local")).answer


async def test_noise_is_refused_or_ignored_and_the_server_goes_on(running):
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noisy:
        noisy.setblocking(False)
        noisy.connect((ADDRESS, running.port))
        for packet in (b"", b"\0" * 5, b"\xff" * 500):
            await loop.sock_sendall(noisy, packet)
        await loop.sock_sendall(noisy, b"\0\7" + b"\0" * 10)
        async with asyncio.timeout(5):
            assert (await loop.sock_recv(noisy, 512))[3] & 0xF == dns.rcode.FORMERR
    assert (await running.ask("kubernetes.default.svc.cluster.local")).answer


def test_our_own_address_is_never_an_upstream(tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("# here\nnameserver 10.43.0.10\nsearch x\nnameserver 192.0.2.1\n")
    assert host_servers(conf, frozenset(["10.43.0.10"])) == [("192.0.2.1", 53)]
    assert host_servers(tmp_path / "none") == []
