# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""Slow and flooding clients, each with what becomes of it: the table in docs/ingress.md."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest
from hpack import Encoder

from meshkube.ingress.http2_frames import PREFACE
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.settings import Settings
from tests.support.http2 import client as http2_client
from tests.support.ingress import Origin, TestClient, client, response, running_proxy, table_to

QUICK = Settings(
    head_timeout=0.3,
    keep_alive_timeout=0.3,
    body_timeout=0.3,
    response_timeout=5.0,
    linger=0.2,
    drain_timeout=0.5,
)
CALM = struct.pack("!I", 11)


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, number) + payload


def request(number: int, *, end: bool = True, method: str = "GET", **headers: str) -> bytes:
    pseudo = {":method": method, ":scheme": "http", ":authority": "a.io", ":path": "/"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return frame(1, 4 | end, number, Encoder().encode(list({**pseudo, **named}.items())))


def settings(**values: int) -> bytes:
    codes = {"table": 1, "window": 4, "frame": 5}
    return frame(4, 0, 0, b"".join(struct.pack("!HI", codes[k], v) for k, v in values.items()))


async def rest(c: TestClient) -> bytes:
    """All that comes until the end, which must come."""
    got = b""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            while data := await c.reader.read(65536):
                got += data
    return got


async def nobody_left(proxy: Proxy) -> None:
    async with asyncio.timeout(10):
        while proxy.clients:
            await asyncio.sleep(0.02)
    route = proxy.table.match("a.io", "/")
    endpoints = getattr(route.backend.balancer, "endpoints", ())
    assert all(endpoint.active == 0 for endpoint in endpoints)
    # Connections to the pod that are on their way would end after the loop.
    async with asyncio.timeout(10):
        while any(endpoint.attempts for endpoint in endpoints):
            await asyncio.sleep(0.02)
    if endpoints:
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def facing(
    answer: bytes = response(b"ok"), limits: Settings = QUICK
) -> AsyncIterator[tuple[Proxy, int, Origin]]:
    async with Origin(answer) as origin, running_proxy(table_to(origin.port), limits) as found:
        yield *found, origin


GET = b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a.io\r\n"
CHUNKS = POST + b"Transfer-Encoding: chunked\r\n\r\n"
SLOW = {
    "nothing at all": (b"", b"", b""),
    "a head byte by byte": (b"GET / HTTP/1.1\r\nHost: a.io\r\n", b"A", b"HTTP/1.1 408 "),
    "a body that stops": (POST + b"Content-Length: 9\r\n\r\nab", b"", b"HTTP/1.1 408 "),
    "a chunk that stops": (CHUNKS + b"5\r\nab", b"", b"HTTP/1.1 408 "),
    "the preface of HTTP/2 alone": (PREFACE, b"", frame(4, 0, 0)[3:4]),
    "a header list of HTTP/2 without end": (
        PREFACE + settings() + frame(1, 1, 1, b"\x82"), b"", b"",
    ),
    "a body of HTTP/2 that stops": (
        PREFACE + settings() + request(1, end=False, method="POST"), b"", b"application/problem",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("first", "drip", "expected"), SLOW.values(), ids=SLOW)
async def test_slow_clients_are_told_and_left(first: bytes, drip: bytes, expected: bytes) -> None:
    async with facing() as (proxy, port, origin), client(port) as c:
        c.send(first)
        if drip:
            # It does not help to go on very slowly.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5):
                    while proxy.clients:
                        c.send(drip)
                        await asyncio.sleep(0.02)
        got = await rest(c)
        assert expected in got
        await nobody_left(proxy)
        if first.startswith(b"GET"):
            assert not origin.requests


def deaf(port: int) -> socket.socket:
    """A client with a small buffer that will read nothing."""
    plain = socket.socket()
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    plain.connect(("127.0.0.1", port))
    return plain


DEAF = {
    "a large answer": GET,
    "an answer to HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a.io\r\n\r\n",
    "a large answer in HTTP/2": PREFACE + settings(window=2**31 - 1)
    + frame(8, 0, 0, b"\x7f\x00\x00\x00") + request(1),
    "no window": PREFACE + settings(window=0) + request(1),
}  # fmt: skip


@pytest.mark.parametrize("size", [200_000, 6_000_000])
@pytest.mark.parametrize("sent", DEAF.values(), ids=DEAF)
async def test_clients_that_read_nothing_are_left(sent: bytes, size: int) -> None:
    """Also where the pod has long said all, and the rest waits here."""
    async with facing(response(b"x" * size)) as (proxy, port, origin):
        with deaf(port) as plain:
            plain.sendall(sent)
            async with asyncio.timeout(5):
                while not origin.requests:
                    await asyncio.sleep(0.01)
            await nobody_left(proxy)


async def test_a_slow_reader_that_goes_on_reading_gets_it_all() -> None:
    limits = Settings(keep_alive_timeout=0.2, body_timeout=0.4, drain_timeout=0.5)
    answer = response(b"x" * 900_000, "200 OK", "Connection: close")
    async with facing(answer, limits) as (_, port, _), contextlib.AsyncExitStack() as stack:
        plain = stack.enter_context(deaf(port))
        plain.setblocking(False)
        plain.sendall(GET)
        loop = asyncio.get_running_loop()
        got = 0
        async with asyncio.timeout(20):
            while data := await loop.sock_recv(plain, 65_536):
                got += len(data)
                await asyncio.sleep(0.005)
        assert got > 900_000


FLOODS = {
    "pings": frame(6, 0, 0, b"12345678"),
    "acknowledged pings": frame(6, 1, 0, b"12345678"),
    "settings": settings(window=65_535),
    "priorities": frame(2, 0, 5, b"\0\0\0\3\0"),
    "frames of no known kind": frame(77, 0, 0, b"?"),
    "windows": frame(8, 0, 0, b"\0\0\0\1"),
    "empty data": frame(0, 0, 1),
    "data of nothing but padding": frame(0, 8, 1, b"\x05\0\0\0\0\0"),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
async def test_floods_of_frames_end_the_connection(flood: bytes) -> None:
    async with facing() as (proxy, port, _), client(port) as c:
        c.send(PREFACE + settings() + request(1, end=False, method="POST") + flood * 3000)
        assert CALM in (await rest(c))[-50:]
        await nobody_left(proxy)


async def test_a_client_that_makes_us_reset_is_left() -> None:
    """Requests that are broken on purpose (CVE-2025-8671)."""
    async with facing() as (proxy, port, _), client(port) as c:
        c.send(PREFACE + settings())
        for number in range(1, 500, 2):
            c.send(request(number, end=False, method="POST") + frame(8, 0, number, b"\0\0\0\0"))
        assert CALM in (await rest(c))[-50:]
        await nobody_left(proxy)


async def test_pings_beside_the_traffic_they_measure_are_no_flood() -> None:
    """gRPC's clients send one for nearly each piece that they get."""
    async with facing(response(b"x" * 30_000), Settings(drain_timeout=1)) as (_, port, _):
        async with http2_client(port) as c:
            for _ in range(250):
                for _ in range(5):
                    c.h2.ping(b"12345678")
                assert len((await c.ask()).body) == 30_000


HEADS = {
    "thousands of headers": GET[:-2] + b"a: b\r\n" * 20_000,
    "one huge header": GET[:-2] + b"a: " + b"b" * 200_000,
    "a huge target": b"GET /" + b"a" * 200_000,
    "a huge line of a chunk": CHUNKS + b"5;" + b"a" * 200_000,
    "a huge trailer": CHUNKS + b"0\r\na: " + b"b" * 200_000,
}


@pytest.mark.parametrize("sent", HEADS.values(), ids=HEADS)
async def test_what_is_too_large_is_refused_before_its_end(sent: bytes) -> None:
    async with facing() as (proxy, port, _), client(port) as c:
        c.send(sent)
        assert (await rest(c))[9:12] in (b"400", b"414", b"431")
        await nobody_left(proxy)
