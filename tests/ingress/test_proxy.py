# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""The proxy with a real client and a real server on loopback at its ends."""

import asyncio
import json
import logging
import socket
from ipaddress import ip_network
from typing import Any

import pytest

from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    path,
    read_body,
    response,
    running_proxy,
    service,
    slice_,
    table_to,
)

GET = b"GET /x HTTP/1.1\r\nHost: shop.io\r\n\r\n"


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_requests_share_connections_on_both_sides() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            for _ in range(5):
                answer = await c.ask(GET)
                assert (answer.status, answer.body) == (200, b"ok")
        async with client(port) as c:
            assert (await c.ask(GET)).status == 200
        assert origin.connections == 1
        assert len(origin.requests) == 6
        route = proxy.table.match("shop.io", "/x")
        assert route.stats.classes[2] == 6


async def test_the_backend_learns_who_asked_and_how() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            await c.ask(
                b"GET /a/../b%2Fc?d HTTP/1.1\r\nHost: Shop.io:8080\r\nX-Forwarded-For: 6.6.6.6\r\n"
                b"x_forwarded_for: 7.7.7.7\r\nForwarded: for=6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\n"
                b"Connection: keep-alive, X-Drop\r\nX-Drop: 1\r\nX-Keep: 2\r\n\r\n"
            )
    head = origin.requests[0].decode()
    lines = head.split("\r\n")
    assert lines[0] == "GET /a/../b%2Fc?d HTTP/1.1"
    assert {
        "Host: Shop.io:8080",
        "X-Keep: 2",
        "X-Forwarded-For: 127.0.0.1",
        "X-Real-IP: 127.0.0.1",
        "X-Forwarded-Proto: http",
        "X-Forwarded-Host: Shop.io:8080",
        f"X-Forwarded-Port: {port}",
    } < set(lines)
    assert "6.6.6.6" not in head
    assert "7.7.7.7" not in head
    assert "Drop" not in head
    assert "Connection" not in head


async def test_a_trusted_proxy_in_front_is_believed() -> None:
    settings = Settings(trusted_proxies=(ip_network("127.0.0.0/8"),))
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        async with client(port) as c:
            await c.ask(
                b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.2.3.4\r\n"
                b"X-Forwarded-Proto: https\r\n\r\n"
            )
    assert b"X-Forwarded-For: 1.2.3.4, 127.0.0.1\r\n" in origin.requests[0]
    assert b"X-Real-IP: 1.2.3.4\r\n" in origin.requests[0]
    assert b"X-Forwarded-Proto: https\r\n" in origin.requests[0]


async def test_request_ids_are_passed_on_or_made() -> None:
    def id_of(head: bytes) -> str:
        return head.decode().split("X-Request-Id: ")[1].split("\r\n")[0]

    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine-1\r\n\r\n")
            await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: not \xe9 sane\r\n\r\n")
    ids = [id_of(head) for head in origin.requests]
    assert ids[0] == "mine-1"
    assert len(set(ids)) == 4
    assert all(len(made) == 32 for made in ids[1:])


async def test_the_response_arrives_as_it_was_without_what_is_hop_by_hop() -> None:
    answer = response(
        b"body",
        "418 Odd",
        "Connection: keep-alive, X-Hop",
        "X-Hop: 1",
        "Set-Cookie: a=b",
        "Set-Cookie: c=d",
        "Keep-Alive: timeout=5",
    )
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            got = await c.ask(GET)
            assert (await c.ask(GET)).status == 418
    assert got.head == (
        b"HTTP/1.1 418 Odd\r\nSet-Cookie: a=b\r\nSet-Cookie: c=d\r\nContent-Length: 4\r\n\r\n"
    )
    assert got.body == b"body"


# Bodies


@pytest.mark.parametrize("size", [1, 10, 100_000, 3_000_000])
async def test_bodies_pass_both_ways_by_length(size: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(response(await read_body(reader, head)))
        await writer.drain()
        await reader.read(1)

    async with Origin(echo) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
            assert (await c.answer()).body == body


async def test_chunks_and_trailers_pass_both_ways_and_in_pieces() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n"
    )
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            for _ in range(2):
                sent = (
                    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
                    b"5\r\nhello\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n"
                )
                for at in range(0, len(sent), 7):
                    c.send(sent[at : at + 7])
                    await asyncio.sleep(0)
                got = await c.answer()
                assert got.body == b"abcde"
                assert got.header("transfer-encoding") == "chunked"
        assert origin.bodies == [b"hello world"] * 2
        assert origin.connections == 1


async def test_a_response_that_ends_with_its_connection_becomes_chunked() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nA: b\r\n\r\nfirst ")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(b"second")
        await writer.drain()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            for _ in range(2):
                got = await c.ask(GET)
                assert got.body == b"first second"
                assert got.head.startswith(b"HTTP/1.1 200 OK\r\n")


@pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
async def test_an_old_client_gets_no_chunks(keep: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            got = await c.ask(b"GET / HTTP/1.0\r\n" + keep + b"\r\n")
            assert got.body == b"abc"
            assert got.header("transfer-encoding") == ""
            assert got.header("connection") == "close"


async def test_an_old_client_may_stay_connected() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            for _ in range(2):
                got = await c.ask(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                assert (got.body, got.header("connection")) == (b"ok", "keep-alive")
                assert b"X-Forwarded-For: 127.0.0.1\r\n" in origin.requests[-1]
            got = await c.ask(b"GET / HTTP/1.0\r\n\r\n")
            assert got.header("connection") == "close"
            assert await c.at_end()


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"),
        (
            b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (GET, b"HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"),
        (GET, b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n"),
    ],
)
async def test_responses_without_a_body_end_with_their_head(request_: bytes, answer: bytes) -> None:
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(request_)
            assert (await c.answer(head_only=True)).status == int(answer.split()[1])
            origin.answer = response(b"next")
        async with client(port) as c:
            assert (await c.ask(GET)).body == b"next"


async def test_100_continue_is_the_backends_to_give() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        writer.write(response(await read_body(reader, head)))
        await reader.read(1)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(
                b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
            )
            assert (await c.answer()).status == 100
            c.send(b"abc")
            assert (await c.answer()).body == b"abc"


async def test_early_hints_pass() -> None:
    answer = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + response(b"ok")
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(GET)
            assert (await c.answer()).status == 103
            assert (await c.answer()).body == b"ok"


async def test_an_answer_before_the_end_of_the_request_is_passed_on() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"too much", "413 Too Large"))
        await writer.drain()
        await asyncio.sleep(1)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
            assert (await c.answer()).body == b"too much"
            assert await c.at_end()


async def test_events_are_passed_on_one_by_one() -> None:
    go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await go.wait()
        writer.write(b"data: 2\n\n")
        await writer.drain()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(GET)
            await c.reader.readuntil(b"data: 1\n\n\r\n")
            go.set()
            await c.reader.readuntil(b"data: 2\n\n\r\n")


# Order and back-pressure


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await origin.read_request(reader):
            target = head.split()[1]
            await asyncio.sleep(0.02 if target.endswith(b"0") else 0)
            writer.write(response(target))

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % n for n in range(30)))
            c.send(
                b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
                b"GET /q HTTP/1.1\r\nHost: a\r\n\r\n"
            )
            bodies = [(await c.answer()).body for _ in range(32)]
    assert bodies == [b"/%d" % n for n in range(30)] + [b"/p", b"/q"]
    assert origin.bodies[30] == b"hi"


async def test_many_pipelined_refusals_do_not_nest() -> None:
    table = table_to(1, host="only.io")
    async with running_proxy(table) as (_, port), client(port) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3000)
        for _ in range(3000):
            assert (await c.answer()).status == 404


async def test_a_client_that_reads_nothing_stops_the_backend() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.set_write_buffer_limits(65536)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.writer.transport.pause_reading()
            c.send(GET)
            await asyncio.sleep(0.3)
            stalled = sent
            await asyncio.sleep(0.3)
            assert sent == stalled < 50_000_000
            c.writer.transport.resume_reading()
            await c.reader.readuntil(b"\r\n\r\n")
            left = 100_000_000
            while left:
                left -= len(await c.reader.read(2**20))
    assert sent == 100_000_000


async def test_a_backend_that_reads_nothing_stops_the_client() -> None:
    go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.pause_reading()
        await go.wait()
        writer.transport.resume_reading()
        left = 50_000_000
        while left > 0:
            left -= len(await reader.read(2**20))
        writer.write(response(b"all"))
        await reader.read(1)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n")
            sent = 0
            try:
                async with asyncio.timeout(0.5):
                    while True:
                        c.send(b"x" * 100_000)
                        sent += 100_000
                        await c.writer.drain()
            except TimeoutError:
                pass
            assert sent < 40_000_000
            go.set()
            while sent < 50_000_000:
                c.send(b"x" * 100_000)
                sent += 100_000
                await c.writer.drain()
            assert (await c.answer()).body == b"all"


# Upgrades

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: x\r\n\r\n"
)


async def echo_socket(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    assert b"\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" in head
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhi"
    )
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


async def test_an_upgraded_connection_becomes_a_pipe() -> None:
    async with Origin(echo_socket) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            c.send(UPGRADE + b"early")
            got = await c.answer()
            assert got.status == 101
            assert got.header("upgrade") == "websocket"
            assert await c.reader.readexactly(7) == b"hiearly"
            block = bytes(range(256)) * 4000
            c.send(block)
            assert await c.reader.readexactly(len(block)) == block
        await settled(lambda: not proxy.clients)
        await settled(lambda: not origin._writers)


async def test_a_pipe_whose_backend_ends_closes_the_client() -> None:
    async with Origin(echo_socket) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.send(UPGRADE)
            await c.answer()
            await c.reader.readexactly(2)
            origin.drop_connections()
            assert await c.at_end()


async def test_a_refused_upgrade_is_an_ordinary_response() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask(UPGRADE)).body == b"ok"
            assert (await c.ask(GET)).body == b"ok"


async def test_an_upgrade_nobody_asked_for_is_a_bad_gateway() -> None:
    answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\n"
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == 502
            smuggle = (
                GET[:-2]
                + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
                + b"HTTP2-Settings: x\r\n\r\n"
            )
            assert (await c.ask(smuggle)).status == 502
    assert b"h2c" not in origin.requests[1]
    assert b"HTTP2" not in origin.requests[1]


# Failures


async def settled(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_pod_that_cannot_be_reached_is_passed_over() -> None:
    dead = free_port()
    async with Origin() as origin, running_proxy(table_to(dead, origin.port)) as (proxy, port):
        async with client(port) as c:
            for _ in range(6):
                c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
                assert (await c.answer()).status == 200
        assert origin.bodies == [b"hi"] * 6
        # Ejected after the first failure: not every second request pays for a failed connect.
        assert proxy.retries == 1


async def test_when_no_pod_can_be_reached_the_answer_says_which(caplog: Any) -> None:
    dead, dead2 = free_port(), free_port()
    async with running_proxy(table_to(dead, dead2)) as (_, port), client(port) as c:
        caplog.set_level(logging.INFO)
        got = await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: abc\r\n\r\n")
    problem = json.loads(got.body)
    assert got.status == 502
    assert got.header("content-type") == "application/problem+json"
    assert problem["ingress"] == "shop/web"
    assert problem["service"] == "shop/web"
    assert problem["rule"] == "*/"
    assert problem["requestId"] == "abc"
    assert f"127.0.0.1:{dead}" in problem["detail"]
    assert "connection refused" in problem["detail"]
    lines = [record for record in caplog.records if record.getMessage() == "request failed"]
    assert len(lines) == 1
    assert lines[0].reason == problem["detail"]
    assert lines[0].request_id == "abc"


@pytest.mark.parametrize("method", [b"GET", b"DELETE"])
async def test_a_stale_connection_costs_an_idempotent_request_nothing(method: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await origin.read_request(reader)
        writer.write(response(b"ok"))
        # The second request on a connection is read, and answered with a close.
        if origin.connections == 1:
            await origin.read_request(reader)
        else:
            await reader.read(1)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == 200
            assert (await c.ask(method + GET[3:])).status == 200
        assert origin.connections == 2
        assert proxy.retries == 1


async def test_a_request_that_may_have_had_effect_is_not_sent_twice() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await origin.read_request(reader)
        writer.write(response(b"ok"))
        await origin.read_request(reader)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == 200
            got = await c.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            assert got.status == 502
            assert b"closed the connection without an answer" in got.body
    assert len(origin.requests) == 2


async def test_a_fresh_connection_that_dies_is_not_tried_for_ever() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await origin.read_request(reader)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == 502
    assert len(origin.requests) == 1


async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A pod that reads a request and is killed."""
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def test_a_pod_that_dies_before_it_answers_costs_an_idempotent_request_nothing() -> None:
    async with Origin(dying) as dead, Origin() as alive:
        async with running_proxy(table_to(dead.port, alive.port)) as (proxy, port):
            async with client(port) as c:
                for _ in range(6):
                    assert (await c.ask(GET)).status == 200
        # It is passed over from then on.
        assert dead.connections == 1
        assert proxy.retries == 1


async def test_a_pod_that_dies_may_have_acted_on_a_post() -> None:
    async with Origin(dying) as dead, Origin() as alive:
        async with running_proxy(table_to(dead.port, alive.port)) as (_, port):
            statuses = []
            for _ in range(2):
                async with client(port) as c:
                    got = await c.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
                    statuses.append(got.status)
        assert sorted(statuses) == [200, 502]
        assert len(alive.requests) == 1


async def test_a_request_that_kills_pods_does_not_kill_them_all() -> None:
    async with Origin(dying) as a, Origin(dying) as b, Origin(dying) as c_, Origin(dying) as d:
        pods = [a, b, c_, d]
        async with running_proxy(table_to(*(pod.port for pod in pods))) as (_, port):
            async with client(port) as c:
                got = await c.ask(GET)
        assert got.status == 502
        assert "closed the connection without an answer" in json.loads(got.body)["detail"]
        assert sum(pod.connections for pod in pods) == 3


def take_out(table: RouteTable, port: int) -> None:
    """What the API tells when the pod behind this port is no longer there."""
    gone = slice_("web", [endpoint("127.0.0.1")], port, name=f"web-{port}")
    table.set_slice(f"shop/web-{port}", gone, None)


@pytest.mark.parametrize("kept", [False, True])
async def test_a_request_leaves_a_pod_that_left_its_service(kept: bool) -> None:
    hung = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kept:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"ok"))
        await reader.readuntil(b"\r\n\r\n")
        hung.set()
        await reader.read()

    async with Origin(silent) as dead, Origin(response(b"alive")) as alive:
        table = table_to(dead.port)
        async with running_proxy(table) as (_, port), client(port) as c:
            if kept:
                assert (await c.ask(GET)).body == b"ok"
            c.send(GET)
            await hung.wait()
            table.set_slice(
                "shop/b", None, slice_("web", [endpoint("127.0.0.1")], alive.port, name="b")
            )
            take_out(table, dead.port)
            async with asyncio.timeout(2):
                assert (await c.answer()).body == b"alive"


@pytest.mark.parametrize("reason", ["post", "terminating", "last"])
async def test_a_request_stays_where_it_is_when_moving_is_not_safe(reason: str) -> None:
    hung, go = asyncio.Event(), asyncio.Event()

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        hung.set()
        await go.wait()
        writer.write(response(b"slow"))
        await reader.read()

    async with Origin(slow) as slow_, Origin(response(b"other")) as other:
        table = table_to(slow_.port)
        async with running_proxy(table) as (_, port), client(port) as c:
            post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
            c.send(post if reason == "post" else GET)
            await hung.wait()
            if reason != "last":
                table.set_slice(
                    "shop/b", None, slice_("web", [endpoint("127.0.0.1")], other.port, name="b")
                )
            if reason == "terminating":
                draining = endpoint("127.0.0.1", ready=False, serving=True, terminating=True)
                key = f"web-{slow_.port}"
                old = slice_("web", [endpoint("127.0.0.1")], slow_.port, name=key)
                table.set_slice(f"shop/{key}", old, slice_("web", [draining], slow_.port, name=key))
            else:
                take_out(table, slow_.port)
            asyncio.get_running_loop().call_later(0.05, go.set)
            assert (await c.answer()).body == b"slow"
        assert other.connections == 0


async def test_a_connect_that_hangs_ends_when_its_pod_leaves() -> None:
    with socket.socket() as full:
        # A listener that accepts nothing: once its queue is full, the kernel drops what comes.
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        dead = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", dead))
        settings = Settings(connect_timeout=30, drain_timeout=1)
        async with Origin() as alive:
            table = table_to(dead)
            async with running_proxy(table, settings) as (_, port), client(port) as c:
                c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
                await asyncio.sleep(0.1)
                table.set_slice(
                    "shop/b", None, slice_("web", [endpoint("127.0.0.1")], alive.port, name="b")
                )
                take_out(table, dead)
                async with asyncio.timeout(2):
                    assert (await c.answer()).status == 200
            assert alive.bodies == [b"hi"]
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize(
    "part",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ],
)
async def test_a_response_cut_short_is_seen_as_such_by_the_client(part: bytes, caplog: Any) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(part)
        await writer.drain()
        await asyncio.sleep(0.05)

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            c.send(GET)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
                await c.answer()
        route = proxy.table.match("", "/")
        assert route.stats.classes[0] == 1
    assert any(record.getMessage() == "request failed" for record in caplog.records)


@pytest.mark.parametrize(
    "bad",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\nA: b\n\n\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: " + b"b" * 40_000,
    ],
)
async def test_a_response_that_makes_no_sense_is_a_bad_gateway(bad: bytes) -> None:
    async with Origin(bad) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            got = await c.ask(GET)
            assert got.status == 502
            assert b"127.0.0.1" in got.body


async def test_bytes_nobody_asked_for_never_become_an_answer() -> None:
    answer = response(b"ok") + response(b"poison")
    async with Origin(answer) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            for _ in range(3):
                assert (await c.ask(GET)).body == b"ok"


async def test_a_client_that_leaves_stops_its_request() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await reader.read(1)
        finally:
            gone.set()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            c.send(GET)
            await settled(lambda: origin.connections)
            await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            await gone.wait()
        route = proxy.table.match("", "/")
        await settled(lambda: route.stats.classes[0] == 1)
        (found,) = route.backend.balancer.endpoints
        assert found.active == 0


@pytest.mark.parametrize(
    ("rule", "services", "slices", "status", "reason"),
    [
        ("/x", [], [], 503, "service shop/user not found"),
        ("/x", [service("user", [{"port": 81}])], [], 503, "service shop/user has no port 80"),
        (
            "/x",
            [service("user")],
            [slice_("user", [endpoint("127.0.0.1", ready=False)])],
            503,
            "1 pod not ready",
        ),
        ("/y", [], [], 404, "no path of host shop.io matches /x"),
    ],
)
async def test_an_error_names_the_rule_and_the_service(
    rule: str, services: Any, slices: Any, status: int, reason: str
) -> None:
    table = compile(
        [ingress("web", {"shop.io": [path(rule, "user")]})], [ingress_class()], services, slices
    )
    async with running_proxy(table) as (_, port), client(port) as c:
        got = await c.ask(GET[:-2] + b"Accept: text/html,*/*;q=0.8\r\n\r\n")
        assert got.status == status
        assert got.header("content-type").startswith("text/html")
        assert reason in got.body.decode()
        if status == 503:
            assert "shop.io/x" in got.body.decode()
        as_json = await c.ask(GET)
        assert reason in json.loads(as_json.body)["detail"]
        head = await c.ask(b"HEAD" + GET[3:])
        assert (head.status, head.body) == (status, b"")


async def test_error_pages_escape_what_the_client_sent() -> None:
    async with running_proxy(table_to(1, host="a.io")) as (_, port), client(port) as c:
        got = await c.ask(b"GET /<script> HTTP/1.1\r\nHost: a'b\r\nAccept: text/html\r\n\r\n")
        assert b"<script>" not in got.body


# Limits and time

FAST = Settings(
    head_timeout=0.2,
    keep_alive_timeout=0.4,
    body_timeout=0.2,
    response_timeout=0.2,
    connect_timeout=0.2,
    linger=0.1,
    max_head=1024,
    max_body=1000,
    drain_timeout=1,
    tunnel_timeout=0.2,
    upstream_idle=0.2,
)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: " + b"b" * 2000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: " + b"b" * 2000, 431),
        (b"GET /" + b"b" * 2000, 414),
        (b"GET /" + b"b" * 2000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", 413),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n"
            + b"b" * 1001,
            413,
        ),
        (b"GET / HTTP/1.1\r\nHost: a\r\n", 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab", 408),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"GET /.. HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
async def test_bad_requests_get_their_status_and_a_close(request_: bytes, status: int) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port), FAST) as (_, port):
        async with client(port) as c:
            c.send(request_)
            got = await c.answer()
            assert got.status == status
            assert got.header("connection") == "close"
            assert await c.at_end()


async def test_a_backend_that_does_not_answer_times_out() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port), FAST) as (_, port):
        async with client(port) as c:
            got = await c.ask(GET)
            assert got.status == 504
            assert f"127.0.0.1:{origin.port} did not answer within 0.2 s" in got.body.decode()
            # The client's connection is none the worse.
            assert (await c.ask(GET)).status == 504


async def test_a_response_that_stalls_is_cut() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port), FAST) as (_, port):
        async with client(port) as c:
            c.send(GET)
            with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                await c.answer()


async def test_idle_connections_are_closed_on_both_sides() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port), FAST) as (proxy, port):
        async with client(port) as c:
            await c.ask(GET)
            assert await c.at_end()
        await settled(lambda: not origin._writers)
        async with client(port) as c:
            assert await c.at_end()
        assert not proxy.clients


async def test_a_silent_pipe_is_closed() -> None:
    async with (
        Origin(echo_socket) as origin,
        running_proxy(table_to(origin.port), FAST) as (_, port),
        client(port) as c,
    ):
        c.send(UPGRADE)
        await c.answer()
        await c.reader.readexactly(2)
        assert await c.at_end()


async def test_too_many_clients_are_told_so() -> None:
    settings = Settings(max_connections=1, linger=0.1, drain_timeout=1)
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        async with client(port) as first, client(port) as second:
            assert (await first.ask(GET)).status == 200
            assert (await second.answer()).status == 503


async def test_stopping_lets_requests_finish() -> None:
    go = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await go.wait()
        writer.write(response(b"late"))
        await writer.drain()
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as busy, client(port) as idle:
            busy.send(GET)
            await settled(lambda: origin.connections)
            asyncio.get_running_loop().call_later(0.1, go.set)
            await proxy.drain()
            got = await busy.answer()
            assert got.body == b"late"
            assert got.header("connection") == "close"
            assert await idle.at_end()


async def test_rules_change_under_a_connection() -> None:
    async with Origin(response(b"one")) as one, Origin(response(b"two")) as two:
        table = table_to(one.port)
        async with running_proxy(table) as (_, port), client(port) as c:
            assert (await c.ask(GET)).body == b"one"
            old = slice_("web", [endpoint("127.0.0.1")], one.port, name=f"web-{one.port}")
            new = slice_("web", [endpoint("127.0.0.1")], two.port, name=f"web-{one.port}")
            table.set_slice(f"shop/web-{one.port}", old, new)
            assert (await c.ask(GET)).body == b"two"
            table.set_ingress("shop/web", None)
            assert (await c.ask(GET)).status == 404


async def test_requests_are_spread_over_the_pods() -> None:
    async with Origin() as a, Origin() as b, Origin() as c_:
        async with running_proxy(table_to(a.port, b.port, c_.port)) as (_, port), client(port) as c:
            for _ in range(30):
                await c.ask(GET)
        assert [len(origin.requests) for origin in (a, b, c_)] == [10, 10, 10]
