# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""Pods that speak HTTP/2: real ones on loopback, asked by clients in either version."""

import asyncio
import contextlib
from typing import Any

import pytest
from h2.errors import ErrorCodes

from meshkube.ingress.routes import RouteTable, compile
from meshkube.ingress.settings import Settings
from meshkube.ingress.upstream_http2 import STREAM_WINDOW
from meshkube.ingress.upstream_stream import AHEAD
from tests.support import http2, http2_origin
from tests.support.http2_origin import Call, Http2Origin
from tests.support.ingress import (
    Origin,
    client,
    endpoint,
    ingress,
    ingress_class,
    path,
    running_proxy,
    service,
    slice_,
)

GET = b"GET /x HTTP/1.1\r\nHost: a.io\r\n\r\n"
GRPC = (b"content-type", b"application/grpc")


async def silent(call: Call) -> None:
    await asyncio.Event().wait()


def table(*ports: int, protocol: str = "GRPC", app: str = "") -> RouteTable:
    annotations = {"nginx.ingress.kubernetes.io/backend-protocol": protocol} if protocol else {}
    slices = [slice_("web", [endpoint("127.0.0.1")], port, name=f"web-{port}") for port in ports]
    rule = ingress("web", {"": [path("/", "web")]}, annotations=annotations)
    port = {"port": 80, **({"appProtocol": app} if app else {})}
    return compile([rule], [ingress_class()], [service("web", [port])], slices)


@pytest.mark.parametrize(
    ("protocol", "app"), [("GRPC", ""), ("HTTP2", ""), ("", "kubernetes.io/h2c")]
)
async def test_a_client_in_http1_and_a_pod_in_http2(protocol: str, app: str) -> None:
    async with Http2Origin() as pod:
        async with running_proxy(table(pod.port, protocol=protocol, app=app)) as (_, port):
            async with client(port) as c:
                answer = await c.ask(GET)
                assert (answer.status, answer.body) == (200, b"hello")
                assert answer.header("transfer-encoding") == "chunked"
                post = b"POST / HTTP/1.1\r\nHost: a.io\r\nContent-Length: 3\r\n\r\nabc"
                assert (await c.ask(post)).body == b"abc"
    headers = pod.calls[0].headers
    assert [headers[name] for name in (b":method", b":scheme", b":authority", b":path")] == [
        b"GET", b"http", b"a.io", b"/x",
    ]  # fmt: skip
    assert (headers[b"te"], headers[b"x-forwarded-for"]) == (b"trailers", b"127.0.0.1")
    assert len(pod.connections) == 1


async def test_the_service_decides_again_when_it_changes() -> None:
    async with Origin() as old, Http2Origin() as new:
        routes = table(old.port, protocol="")
        async with running_proxy(routes) as (_, port):
            async with client(port) as c:
                assert (await c.ask(GET)).body == b"ok"
                piece = slice_("web", [endpoint("127.0.0.1")], new.port, name=f"web-{old.port}")
                routes.set_service(
                    "shop/web",
                    service("web", [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]),
                )
                routes.set_slice(f"shop/web-{old.port}", piece, piece)
                assert (await c.ask(GET)).body == b"hello"


async def test_grpc_messages_are_passed_on_one_by_one_with_trailers_both_ways() -> None:
    async def chat(call: Call) -> None:
        call.respond(200, GRPC)
        while (piece := await call.pieces.get()) is not None:
            await call.send(piece.upper())
        call.end((b"grpc-status", b"0"))

    async with Http2Origin(chat) as pod, running_proxy(table(pod.port)) as (_, port):
        async with http2.client(port) as c:
            number = c.open("POST", "/svc/Chat", GRPC, (b"te", b"trailers"))
            stream = c.streams[number]
            for message in (b"one", b"two"):
                c.h2.send_data(number, message)
                c.flush()
                async with asyncio.timeout(10):
                    while not stream.body.endswith(message.upper()):
                        assert await c.step()
            c.h2.send_headers(number, [(b"x-checksum", b"7")], end_stream=True)
            c.flush()
            assert (await c.answer(number)).trailers == {b"grpc-status": b"0"}
            assert stream.body == b"ONETWO"
            assert pod.calls[0].trailers == {b"x-checksum": b"7"}


async def test_a_status_without_a_message_ends_in_the_head() -> None:
    async def refuse(call: Call) -> None:
        call.respond(200, GRPC, (b"grpc-status", b"5"), end=True)

    async with Http2Origin(refuse) as pod, running_proxy(table(pod.port)) as (_, port):
        async with http2.client(port) as c:
            stream = await c.ask("POST", "/svc/Get", GRPC, body=b"m")
            assert stream.headers[b"grpc-status"] == b"5"
            assert b"content-length" not in stream.headers
            assert stream.bare


async def test_trailers_pass_between_all_versions() -> None:
    async def serve(call: Call) -> None:
        await call.whole.wait()
        call.respond()
        await call.send(bytes(call.body))
        call.end((b"x-sum", call.trailers.get(b"x-sum", b"none")))

    body = b"POST / HTTP/1.1\r\nHost: a.io\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with client(port) as c:
            c.send(body + b"2\r\nab\r\n0\r\nX-Sum: 3\r\n\r\n")
            async with asyncio.timeout(10):
                got = await c.reader.readuntil(b"\r\n\r\n")
                assert b"chunked" in got
                assert await c.reader.readuntil(b"\r\n\r\n") == (
                    b"2\r\nab\r\n0\r\nx-sum: 3\r\n\r\n"
                )

    answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with Origin(answer + b"2\r\nab\r\n0\r\nX-Sum: 9\r\n\r\n") as old:
        async with running_proxy(table(old.port, protocol="")) as (_, port):
            async with http2.client(port) as c2:
                stream = await c2.ask()
                assert (stream.body, stream.trailers) == (b"ab", {b"x-sum": b"9"})


async def test_many_requests_share_one_connection() -> None:
    together = asyncio.Event()

    async def serve(call: Call) -> None:
        if len(pod.calls) == 50:
            together.set()
        await together.wait()
        await http2_origin.hello(call)

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with http2.client(port) as c:
            numbers = [c.request(path=f"/{n}") for n in range(50)]
            for number in numbers:
                assert (await c.answer(number)).body == b"hello"
    assert len(pod.connections) == 1


async def test_no_more_requests_on_a_connection_than_the_pod_allows() -> None:
    release = asyncio.Event()

    async def serve(call: Call) -> None:
        await release.wait()
        await http2_origin.hello(call)

    async with Http2Origin(serve, streams=2) as pod, running_proxy(table(pod.port)) as (_, port):
        async with http2.client(port) as c:
            numbers = [c.request() for _ in range(5)]
            async with asyncio.timeout(10):
                while len(pod.calls) < 5:
                    await asyncio.sleep(0.01)
            assert len(pod.connections) == 3
            release.set()
            for number in numbers:
                assert (await c.answer(number)).body == b"hello"


async def test_large_bodies_pass_both_ways() -> None:
    body = bytes(range(256)) * 8000
    async with Http2Origin() as pod, running_proxy(table(pod.port)) as (_, port):
        async with http2.client(port) as c:
            assert (await c.upload("/", body)).body == body
        async with client(port) as c1:
            c1.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
            c1.send(body)
            assert (await c1.answer()).body == body


async def test_a_client_that_does_not_read_holds_its_own_stream_back_alone() -> None:
    async def serve(call: Call) -> None:
        call.respond()
        await call.send(b"x" * (12_000_000 if call.headers[b":path"] == b"/large" else 5))
        call.end()

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with client(port) as slow, client(port) as quick:
            slow.writer.transport.pause_reading()
            slow.send(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
            before = -1
            async with asyncio.timeout(10):
                while not pod.connections or pod.connections[0].sent != before:
                    before = pod.connections[0].sent if pod.connections else -1
                    await asyncio.sleep(0.2)
            assert before < 12_000_000
            for _ in range(3):
                assert (await quick.ask(GET)).body == b"xxxxx"
            assert len(pod.connections) == 1
            slow.writer.transport.resume_reading()
            assert len((await slow.answer()).body) == 12_000_000
    assert STREAM_WINDOW < 1_000_000


async def test_a_pod_that_does_not_read_holds_the_client_back() -> None:
    async def serve(call: Call) -> None:
        await call.whole.wait()

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        pod.takes_data = False
        async with client(port) as c:
            c.writer.transport.set_write_buffer_limits(high=0)
            c.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000000\r\n\r\n")
            sent = 0
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.7):
                    for _ in range(900):
                        c.send(b"x" * 100_000)
                        await c.writer.drain()
                        sent += 100_000
            assert sent < 80_000_000
            (call,) = pod.calls
            assert len(call.body) <= 65_535
    assert AHEAD < 1_000_000


async def test_a_connection_that_goes_away_lets_requests_finish_and_loses_none() -> None:
    release = asyncio.Event()

    async def serve(call: Call) -> None:
        if len(pod.calls) == 1:
            call.connection.go_away(call.number)
            await release.wait()
        await http2_origin.hello(call)

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with http2.client(port) as c:
            first = c.request()
            async with asyncio.timeout(10):
                while not pod.calls:
                    await asyncio.sleep(0.01)
            second = c.request("POST", body=b"new")
            assert (await c.answer(second)).body == b"new"
            assert len(pod.connections) == 2
            release.set()
            assert (await c.answer(first)).body == b"hello"


async def test_what_a_pod_says_it_has_not_touched_is_sent_again_even_a_post() -> None:
    async def serve(call: Call) -> None:
        if len(pod.calls) == 1:
            call.reset(ErrorCodes.REFUSED_STREAM)
        else:
            await http2_origin.hello(call)

    async with Http2Origin(serve) as pod, Http2Origin() as other:
        async with running_proxy(table(pod.port, other.port)) as (_, port):
            async with client(port) as c:
                post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nm"
                answers = [await c.ask(post) for _ in range(3)]
                assert [answer.body for answer in answers] == [b"m"] * 3


async def test_a_call_that_a_pod_has_not_touched_is_sent_again_with_its_messages() -> None:
    async def refuse(call: Call) -> None:
        call.reset(ErrorCodes.REFUSED_STREAM)

    async def serve(call: Call) -> None:
        await call.whole.wait()
        call.respond(200, GRPC)
        await call.send(bytes(call.body))
        call.end((b"grpc-status", b"0"))

    async with Http2Origin(refuse) as pod, Http2Origin(serve) as other:
        async with running_proxy(table(pod.port, other.port)) as (_, port):
            async with http2.client(port) as c:
                for _ in range(3):
                    number = c.open("POST", "/svc/Get", GRPC)
                    c.h2.send_data(number, b"one")
                    c.flush()
                    await asyncio.sleep(0.05)
                    c.h2.send_data(number, b"two", end_stream=True)
                    c.flush()
                    answer = await c.answer(number)
                    assert (answer.body, answer.trailers) == (b"onetwo", {b"grpc-status": b"0"})
    assert (bool(pod.calls), len(other.calls)) == (True, 3)


async def test_a_reset_after_the_beginning_breaks_the_response_off() -> None:
    async def serve(call: Call) -> None:
        call.respond()
        await call.send(b"abc")
        call.reset(ErrorCodes.INTERNAL_ERROR)

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with client(port) as c:
            c.send(GET)
            async with asyncio.timeout(10):
                got = await c.reader.read()
            assert b"0\r\n\r\n" not in got
        async with http2.client(port) as c2:
            assert (await c2.ask()).reset == ErrorCodes.INTERNAL_ERROR


async def test_a_client_that_resets_ends_the_pods_work() -> None:
    async with Http2Origin(silent) as pod:
        async with running_proxy(table(pod.port)) as (_, port):
            async with http2.client(port) as c:
                number = c.request()
                async with asyncio.timeout(10):
                    while not pod.calls:
                        await asyncio.sleep(0.01)
                    c.h2.reset_stream(number)
                    c.flush()
                    while pod.calls[0].reset_by_client is None:
                        await asyncio.sleep(0.01)
                assert pod.calls[0].reset_by_client == ErrorCodes.CANCEL


async def test_a_pod_that_speaks_something_else_is_said_to() -> None:
    async with Origin(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as origin:
        settings = Settings(connect_timeout=0.5, drain_timeout=1)
        async with running_proxy(table(origin.port), settings) as (_, port):
            async with client(port) as c:
                answer = await c.ask(GET)
                assert answer.status == 502
                assert b"speak HTTP/2" in answer.body or b"no connection within" in answer.body


@pytest.mark.parametrize(
    "headers",
    [
        [(b"x-a", b"1\r\nx-b: 2")],
        [(b"X A", b"1")],
        [(b"transfer-encoding", b"chunked")],
        [(b"connection", b"close")],
        [(b"content-length", b"1"), (b"content-length", b"2")],
        [(b"content-length", b"-1")],
    ],
)
async def test_a_head_that_would_be_another_in_http1_is_a_bad_gateway(headers: Any) -> None:
    async def serve(call: Call) -> None:
        call.respond(200, *headers)
        await call.send(b"x")
        call.end()

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == 502


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_without_a_body(status: int) -> None:
    async def serve(call: Call) -> None:
        call.respond(status, end=True)

    async with Http2Origin(serve) as pod, running_proxy(table(pod.port)) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == status
            assert (await c.ask(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")).status == status


async def test_an_idle_connection_is_closed() -> None:
    settings = Settings(upstream_idle=0.1, keep_alive_timeout=0.2, drain_timeout=1)
    async with Http2Origin() as pod, running_proxy(table(pod.port), settings) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).body == b"hello"
            async with asyncio.timeout(10):
                await pod.connections[0].writer.wait_closed()
