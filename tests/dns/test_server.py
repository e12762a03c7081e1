"""The server on real sockets, over the real API, with real upstreams on loopback."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import pytest

from meshkube.api.kinds import ENDPOINT_SLICE, SERVICE
from meshkube.dns.upstream import host_search, host_servers
from tests.dns.conftest import endpoint, slice_of
from tests.dns.servers import ADDRESS, running_server

NAME = "user.default.svc.cluster.local"
CLUSTER_NAME = "kubernetes.default.svc.cluster.local"


@pytest.fixture
async def running(tmp_path: Path):
    async with running_server(tmp_path) as server:
        yield server


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
    assert running.server.counters.total("cache") == 2


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
    monkeypatch.setattr("meshkube.dns.exchange.ANSWER_TIMEOUT", 0.1)
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
    assert host_search(conf) == ["x"]


async def test_queries_in_one_stream_are_answered_as_they_are_ready(running):
    running.upstream.delay = 0.3
    asked = [dns.message.make_query(name, "A") for name in ("one.test", CLUSTER_NAME)]
    packets = [query.to_wire() for query in asked]
    reader, writer = await asyncio.open_connection(ADDRESS, running.port)
    writer.write(b"".join(len(packet).to_bytes(2) + packet for packet in packets))
    came = []
    async with asyncio.timeout(5):
        for _ in packets:
            length = int.from_bytes(await reader.readexactly(2))
            came.append(dns.message.from_wire(await reader.readexactly(length)).id)
        assert came == [asked[1].id, asked[0].id]
        # Nobody sends a query so long: the connection ends.
        writer.write(b"\xff\xff")
        assert await reader.read() == b""
    writer.close()


async def test_one_client_cannot_hold_every_connection(running):
    opened = [await asyncio.open_connection(ADDRESS, running.port) for _ in range(51)]
    async with asyncio.timeout(5):
        assert await opened[-1][0].read() == b""
    for _, writer in opened:
        writer.close()
