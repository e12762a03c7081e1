# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""HTTP/2 at the ingress: real clients on loopback, over TLS and with prior knowledge."""

import asyncio
import ssl
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.ingress import http2, http2_frames, http2_head
from meshkube.ingress.http1 import CHUNKED, HeadError
from meshkube.ingress.http2_stream import AHEAD
from meshkube.ingress.routes import compile
from meshkube.ingress.settings import Settings
from tests.ingress.test_tls import https, loaded, trusting
from tests.support.http2 import client
from tests.support.ingress import (
    Origin,
    ingress,
    ingress_class,
    path,
    read_body,
    response,
    running_proxy,
    service,
    table_to,
)

FAST = Settings(
    head_timeout=0.5, body_timeout=0.3, response_timeout=0.3, keep_alive_timeout=0.3, max_body=1000,
    drain_timeout=1,
)  # fmt: skip


async def test_alpn_chooses_http2_and_the_backend_is_asked_in_http1() -> None:
    async with Origin() as origin, https(loaded(), origin) as (_, port):
        async with client(port, trusting()) as c:
            ssl_object: ssl.SSLObject = c.writer.get_extra_info("ssl_object")
            assert ssl_object.selected_alpn_protocol() == "h2"
            answer = await c.ask("GET", "/x?y=1", (b"cookie", b"a=1"), (b"cookie", b"b=2"))
            assert (answer.status, answer.body) == (200, b"ok")
            assert answer.headers[b"content-length"] == b"2"
    lines = origin.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /x?y=1 HTTP/1.1"
    assert {"Host: a.io", "cookie: a=1; b=2", "X-Forwarded-Proto: https"} <= set(lines)


async def test_prior_knowledge_in_cleartext_in_any_split_of_the_preface() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            assert (await c.ask("GET", "/", scheme="http")).body == b"ok"
            assert len(proxy.clients) == 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for at in range(0, len(http2_frames.PREFACE), 5):
            writer.write(http2_frames.PREFACE[at : at + 5])
            await asyncio.sleep(0.01)
        writer.write(b"\0\0\0\4\0\0\0\0\0")
        assert (await reader.readexactly(9))[3] == 4
        writer.transport.abort()


async def test_requests_go_side_by_side_over_one_connection() -> None:
    both = asyncio.Event()
    seen = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        head = await reader.readuntil(b"\r\n\r\n")
        seen += 1
        if seen == 2:
            both.set()
        await both.wait()
        writer.write(response(head.split(b" ")[1]))

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            first, second = c.request(path="/1"), c.request(path="/2")
            assert (await c.answer(first)).body == b"/1"
            assert (await c.answer(second)).body == b"/2"


@pytest.mark.parametrize("length", [True, False])
async def test_bodies_pass_both_ways(length: bool) -> None:
    body = bytes(range(256)) * 2000

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        got = await read_body(reader, head)
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(got), 50_000):
            piece = got[at : at + 50_000]
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        writer.write(b"0\r\n\r\n")
        await writer.drain()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            headers = [(b"content-length", b"%d" % len(body))] if length else []
            assert (await c.upload("/", body, *headers)).body == body


async def test_a_client_that_does_not_read_holds_the_pod_back() -> None:
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.set_write_buffer_limits(high=0)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n")
        for _ in range(200):
            writer.write(b"x" * 100_000)
            await writer.drain()
            sent += 100_000

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.takes_data = False
            number = c.request()
            for _ in range(20):
                with pytest.raises(TimeoutError):
                    await c.answer(number, timeout=0.05)
            # What the windows hold, what waits here, and what the sockets hold.
            assert len(c.streams[number].body) <= 65_535
            assert sent < 14_000_000 + AHEAD
            c.takes_data = True
            c.h2.acknowledge_received_data(len(c.streams[number].body), number)
            c.flush()
            assert len((await c.answer(number, timeout=30)).body) == 20_000_000


async def test_the_pod_that_does_not_read_holds_the_client_back() -> None:
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        await release.wait()
        writer.write(response(b"%d" % len(await read_body(reader, head))))

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            upload = asyncio.ensure_future(c.upload("/", b"x" * 12_000_000))
            await asyncio.sleep(0.5)
            (number,) = c.streams
            # The window stays shut: the client could not send its last byte.
            assert c.h2.local_flow_control_window(number) == 0
            release.set()
            assert (await upload).body == b"12000000"


async def test_errors_have_a_reason_and_an_id() -> None:
    async with running_proxy(compile([], [ingress_class()], [], [])) as (_, port):
        async with client(port) as c:
            answer = await c.ask("GET", "/", (b"x-request-id", b"mine"))
            assert answer.status == 404
            assert b"there is no Ingress" in answer.body
            assert answer.headers[b"x-request-id"] == b"mine"
            assert answer.headers[b"content-type"] == b"application/problem+json"
            assert (await c.ask("HEAD", "/")).body == b""


async def test_policies_hold_in_http2() -> None:
    annotations = {"nginx.ingress.kubernetes.io/permanent-redirect": "https://new.test$request_uri"}
    rule = ingress("moved", {"": [path("/", "web")]}, annotations=annotations)
    table = compile([rule], [ingress_class()], [service("web")], [])
    async with running_proxy(table) as (_, port):
        async with client(port) as c:
            answer = await c.ask("GET", "/a")
            assert (answer.status, answer.headers[b"location"]) == (301, b"https://new.test/a")


async def test_a_body_too_large_is_refused_and_the_connection_lives() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port), FAST) as (_, port):
        async with client(port) as c:
            answer = await c.ask("POST", "/", (b"content-length", b"1001"), body=b"x" * 1001)
            assert answer.status == 413
            number = c.request("POST", "/", body=b"x" * 1001)
            assert (await c.answer(number)).status == 413
            assert (await c.ask("POST", "/", body=b"x" * 1000)).status == 200
    assert origin.bodies == [b"x" * 1000]


async def test_a_response_that_breaks_off_is_reset() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            answer = await c.ask()
            assert (answer.body, answer.reset) == (b"half", 2)
            assert c.goaway is None


async def test_a_reset_by_the_client_ends_the_pods_work() -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        gone.set()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            number = c.request()
            while not origin.connections:
                await asyncio.sleep(0.01)
            c.h2.reset_stream(number)
            c.flush()
            async with asyncio.timeout(5):
                await gone.wait()
        route = proxy.table.match("a.io", "/")
        assert all(endpoint.active == 0 for endpoint in route.backend.balancer.endpoints)


async def test_rapid_resets_end_the_connection() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            for _ in range(150):
                number = c.request()
                c.h2.reset_stream(number)
                c.flush()
            await c.until_closed()
            assert c.goaway == 11
        async with asyncio.timeout(5):
            while proxy.clients:
                await asyncio.sleep(0.01)
        # Connections to the pod that were on their way.
        await asyncio.sleep(0.2)


async def test_no_more_streams_than_agreed() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            await c.step()
            assert c.h2.remote_settings.max_concurrent_streams == http2.STREAMS


async def test_time_outs_are_told_on_the_stream() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with Origin(serve) as origin, running_proxy(table_to(origin.port), FAST) as (_, port):
        async with client(port) as c:
            assert (await c.ask()).status == 504
            await c.until_closed()
            assert c.goaway == 0


async def test_draining_lets_requests_finish() -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await release.wait()
        writer.write(response(b"late"))

    async with Origin(serve) as origin, running_proxy(table_to(origin.port)) as (proxy, port):
        async with client(port) as c:
            number = c.request()
            await begun.wait()
            draining = asyncio.ensure_future(proxy.drain())
            await asyncio.sleep(0.05)
            release.set()
            assert (await c.answer(number)).body == b"late"
            await c.until_closed()
            assert c.goaway == 0
            await draining


CASES: list[tuple[list[tuple[bytes, bytes]], dict[str, Any], int]] = [
    ([(b"transfer-encoding", b"chunked")], {}, 0),
    ([(b"connection", b"close")], {}, 0),
    ([(b"x", b"a\r\nX-Evil: 1")], {}, 0),
    ([(b"x: 1\r\nevil", b"a")], {}, 0),
    ([(b"x", b"a\0b")], {}, 0),
    ([(b"content-length", b"5")], {"body": b"abc"}, 0),
    ([(b"content-length", b"5"), (b"content-length", b"6")], {"body": b"abcde"}, 0),
    ([(b"host", b"other.io")], {}, 0),
    ([], {"path": "no-slash"}, 0),
    ([], {"path": "/a b"}, 400),
    ([], {"path": "/\r\nX-Evil: 1"}, 0),
    ([], {"path": "/.."}, 400),
    ([], {"method": "GET /x HTTP/1.1\r\nevil:"}, 0),
    ([], {"authority": "a b"}, 400),
    ([(b"expect", b"x")], {}, 417),
]


@pytest.mark.parametrize(("headers", "request_", "status"), CASES)
async def test_what_would_be_something_else_in_http1_is_refused(
    headers: list[tuple[bytes, bytes]], request_: dict[str, Any], status: int
) -> None:
    """A status, or (0) the end of the stream or connection; never a word to the pod."""
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            asked = {"method": "POST" if "body" in request_ else "GET", "path": "/", **request_}
            number = c.request(asked.pop("method"), asked.pop("path"), *headers, **asked)
            try:
                answer = await c.answer(number)
                assert answer.status == status if status else answer.status >= 400
                if not status:
                    # It says why, and that the head was malformed (RFC 9113, section 8.1.1).
                    assert answer.reset == 1
                    assert b'"status":400' in answer.body
            except (ConnectionError, KeyError):
                assert status == 0
    assert not any(b"evil" in head.lower() for head in origin.requests)
    assert not origin.requests


async def test_a_request_for_no_host_says_who_asks_too() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask("GET", "/", authority="")).status == 200
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in origin.requests[0]


async def test_too_many_headers_are_refused_on_their_stream_alone() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            cookies = [(b"cookie", b"%d=" % n + b"v" * 4000) for n in range(10)]
            answer = await c.ask("GET", "/", *cookies)
            assert (answer.status, c.goaway) == (431, None)
            assert b"32768 bytes" in answer.body
            # What it put in the table of headers is known.
            assert (await c.ask("GET", "/", cookies[-1])).status == 200
            unfinished = await c.ask("POST", "/", *cookies, body=b"x" * 10_000)
            assert (unfinished.status, c.goaway) == (431, None)
            assert (await c.ask()).status == 200
    assert len(origin.requests) == 2


async def test_a_body_of_nothing_does_not_keep_a_request_from_another_pod() -> None:
    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        died.append(writer)

    died: list[asyncio.StreamWriter] = []
    async with Origin(die) as bad, Origin() as good:
        async with running_proxy(table_to(bad.port, good.port)) as (_, port):
            async with client(port) as c:
                for method, statuses in (("POST", {200, 502}), ("GET", {200})):
                    numbers = [c.open(method, "/") for _ in range(4)]
                    c.flush()
                    for number in numbers:
                        c.h2.end_stream(number)
                    c.flush()
                    assert {(await c.answer(number)).status for number in numbers} == statuses
    assert died


async def test_a_bomb_of_headers_is_refused() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        async with client(port) as c:
            c.request("GET", "/", *[(b"x-%d" % n, b"v" * 4000) for n in range(100)])
            await c.until_closed()
            assert c.goaway in (1, 11)
    assert not origin.requests


async def test_endless_continuations_are_refused() -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http2_frames.PREFACE + b"\0\0\0\4\0\0\0\0\0")
        writer.write(b"\0\0\1\1\0" + struct.pack("!I", 1) + b"\x82")
        for _ in range(1000):
            writer.write(b"\0\0\0\x09\0" + struct.pack("!I", 1))
        async with asyncio.timeout(5):
            try:
                while await reader.read(65536):
                    pass
            except ConnectionError:
                pass
        writer.transport.abort()


NAMES = st.sampled_from([b"x-a", b"cookie", b"host", b"content-length", b"te", b"X", b"a b", b""])
VALUES = st.binary(max_size=12)


@settings(deadline=None)
@given(st.lists(st.tuples(NAMES, VALUES), max_size=5), st.binary(max_size=10), st.booleans())
def test_any_list_of_headers_is_read_or_refused(
    headers: list[tuple[bytes, bytes]], target: bytes, ended: bool
) -> None:
    pseudo = [(b":method", b"GET"), (b":path", b"/" + target), (b":authority", b"a.io")]
    try:
        found = http2_head.request((*pseudo, *headers), ended)
    except HeadError:
        return
    assert found.fields.kept.count(b"\r\n") == found.fields.kept.count(b"\n")
    assert found.length >= 0 or found.length == CHUNKED
    assert b"\r" not in found.target
