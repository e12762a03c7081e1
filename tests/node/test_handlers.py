"""Probes against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

from meshkube.api.types import Object
from meshkube.node.grpc_probe import request, response_status
from meshkube.node.handlers import Handlers
from meshkube.node.hollow import HollowRuntime
from meshkube.node.probes import Answer
from meshkube.node.runtime import PodRef, Record

RECORD = Record(
    id="x",
    pod=PodRef("ns", "p", "u"),
    name="c",
    attempt=0,
    state="running",
    created=datetime(2026, 1, 1, tzinfo=UTC),
)
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Reachable(HollowRuntime):
    """Pods without processes, but somebody answers at their addresses."""

    answers = True


@contextlib.asynccontextmanager
async def listening(serve: Serve) -> AsyncIterator[int]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def probe(action: Object, timeout: float = 2.0, container: Object | None = None) -> Answer:
    handlers = Handlers(Reachable())
    return await handlers.probe(action, container or {}, RECORD, "127.0.0.1", timeout)


def answering(text: bytes, seen: list[bytes] | None = None) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(head)
        writer.write(text)
        await writer.drain()

    return serve


@pytest.mark.parametrize(
    ("answer", "good", "message"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", True, ""),
        (b"HTTP/1.1 302 Found\r\n\r\n", True, "terminated redirects"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\n\r\n", False, "stopped after 10 redirects"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://x:y\r\n\r\n", False, "failed to parse"),
        (b"HTTP/1.0 404 Not Found\r\n\r\n", False, "HTTP probe failed with statuscode: 404"),
        (b"HTTP/1.1 500 Oh\r\n\r\n", False, "statuscode: 500"),
        (b"SSH-2.0 hello\r\n", False, "malformed HTTP response"),
        (b"", False, "EOF"),
    ],
)
async def test_http(answer: bytes, good: bool, message: str) -> None:
    async with listening(answering(answer)) as port:
        found = await probe({"httpGet": {"port": port, "path": "/h"}})
    assert found.good == good
    assert message in found.message


async def test_http_sends_what_was_asked_for() -> None:
    seen: list[bytes] = []
    headers = [{"name": "host", "value": "web.example"}, {"name": "X-A", "value": "1\r\nEvil: 1"}]
    async with listening(answering(b"HTTP/1.1 200 OK\r\n\r\n", seen)) as port:
        action = {"httpGet": {"port": "web", "path": "a?b=c", "httpHeaders": headers}}
        container = {"ports": [{"name": "web", "containerPort": port}]}
        assert (await probe(action, container=container)).good
    lines = seen[0].decode().split("\r\n")
    assert lines[0] == "GET /a?b=c HTTP/1.1"
    assert "host: web.example" in lines
    assert "X-A: 1Evil: 1" in lines
    assert "User-Agent: kube-probe/1.33" in lines


@pytest.mark.parametrize("location", ["/healthz?a=b", "http://127.0.0.1:{port}/healthz?a=b"])
@pytest.mark.parametrize(("status", "good"), [("200 OK", True), ("500 Oh", False)])
async def test_redirects_within_the_host_are_followed(
    location: str, status: str, good: bool
) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        if b"/healthz" in asked[-1]:
            writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        else:
            to = location.format(port=port)
            writer.write(f"HTTP/1.1 302 Found\r\nLocation: {to}\r\n\r\n".encode())
        await writer.drain()

    headers = [{"name": "Host", "value": "web.example"}, {"name": "X-A", "value": "1"}]
    async with listening(serve) as port:
        found = await probe({"httpGet": {"port": port, "path": "/r", "httpHeaders": headers}})
    assert (found.good, found.warning) == (good, False)
    first, second = asked
    assert b"GET /healthz?a=b HTTP/1.1" in second
    assert b"X-A: 1" in second
    assert b"Host: web.example" in first
    assert (b"Host: web.example" in second) is location.startswith("/")


async def test_a_redirect_to_another_host_is_good_with_a_warning() -> None:
    away = b"HTTP/1.1 302 Found\r\nLocation: http://0.0.0.0/\r\nContent-Length: 4\r\n\r\naway!"
    async with listening(answering(away)) as port:
        found = await probe({"httpGet": {"port": port}})
    message = "Probe terminated redirects, Response body: away"
    assert found == Answer(True, message, warning=True)


async def test_what_hangs_is_bounded() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        for action in ({"httpGet": {"port": port}}, {"grpc": {"port": port}}):
            async with asyncio.timeout(1.5):
                found = await probe(action, timeout=0.2)
            assert not found.good


async def test_tcp() -> None:
    async with listening(answering(b"")) as port:
        assert (await probe({"tcpSocket": {"port": port}})).good
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        found = await probe({"tcpSocket": {"port": port}})
    assert not found.good
    assert found.message == f"dial tcp 127.0.0.1:{port}: connect: connection refused"


async def test_bad_ports_and_actions_are_told() -> None:
    assert (await probe({"tcpSocket": {"port": "no"}})).message == "couldn't find port: no"
    assert (await probe({})).message == "missing probe handler"


async def test_hollow_pods_pass_every_probe() -> None:
    handlers = Handlers(HollowRuntime())
    action = {"httpGet": {"port": 1}}
    assert (await handlers.probe(action, {}, RECORD, "192.0.2.1", 1)).good


def health_server(status: int, code: str = "0") -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        http = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        http.initiate_connection()
        while data := await reader.read(65536):
            for event in http.receive_data(data):
                if isinstance(event, RequestReceived):
                    headers = dict(event.headers)
                    assert headers[":path"] == "/grpc.health.v1.Health/Check"
                if isinstance(event, StreamEnded):
                    message = bytes([8, status])
                    stream = event.stream_id
                    http.send_headers(
                        stream, [(":status", "200"), ("content-type", "application/grpc")]
                    )
                    http.send_data(stream, struct.pack(">BI", 0, len(message)) + message)
                    http.send_headers(stream, [("grpc-status", code)], end_stream=True)
            writer.write(http.data_to_send())
            await writer.drain()

    return serve


@pytest.mark.parametrize(
    ("status", "code", "good", "message"),
    [
        (1, "0", True, ""),
        (2, "0", False, 'service unhealthy (responded with "NOT_SERVING")'),
        (1, "12", False, "does not implement the grpc health protocol"),
        (1, "5", False, "grpc-status 5"),
    ],
)
async def test_grpc(status: int, code: str, good: bool, message: str) -> None:
    async with listening(health_server(status, code)) as port:
        found = await probe({"grpc": {"port": port, "service": "shop"}})
    assert found.good == good
    assert message in found.message


def test_grpc_messages() -> None:
    assert request("") == b"\0\0\0\0\0"
    assert request("ab") == b"\0\0\0\0\x04\x0a\x02ab"
    assert response_status(b"\0\0\0\0\0") == 0
    with pytest.raises(ValueError, match="cut short"):
        response_status(b"\0")
