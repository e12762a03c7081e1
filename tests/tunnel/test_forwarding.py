"""Requests passed on: a client, the proxy and its target, each over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from meshkube import pki
from meshkube.tunnel.forwarding import Forwarder, Head, Rewrite, Target, Unreachable
from meshkube.tunnel.verifying import unverified

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@contextlib.asynccontextmanager
async def listening(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server on loopback; its URL."""
    runner = web.ServerRunner(web.Server(handler), shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    scheme = "https" if tls else "http"
    try:
        yield f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Middle:
    """The proxy under test."""

    def __init__(self, forwarder: Forwarder, target: str) -> None:
        self._forwarder = forwarder
        self._target = target
        self.failures: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        target = Target(self._target + request.raw_path, None, [("X-Added", "1")], {"x-secret"})
        try:
            return await self._forwarder.forward(request, target, self._look)
        except Unreachable as error:
            self.failures.append(str(error))
            return web.Response(status=503)

    def _look(self, head: Head) -> Rewrite | None:
        head.headers["X-Seen"] = str(head.status)
        return None


@contextlib.asynccontextmanager
async def proxied(handler: Handler) -> AsyncIterator[tuple[aiohttp.ClientSession, Middle]]:
    """A client whose requests reach `handler` through a proxy."""
    forwarder = Forwarder()
    async with asyncio.timeout(30), contextlib.AsyncExitStack() as stack:
        middle = Middle(forwarder, await stack.enter_async_context(listening(handler)))
        stack.push_async_callback(forwarder.aclose)
        url = await stack.enter_async_context(listening(middle.handle))
        yield await stack.enter_async_context(aiohttp.ClientSession(url)), middle


async def tell(request: web.BaseRequest) -> web.StreamResponse:
    """What arrived."""
    body = await request.read()
    headers = {name.lower(): value for name, value in request.headers.items()}
    told = {
        "method": request.method,
        "target": request.raw_path,
        "headers": headers,
        "size": len(body),
    }
    return web.json_response(told, status=207, headers={"X-Own": "a", "Keep-Alive": "timeout=5"})


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_any_method_with_its_path_query_and_body(method: str) -> None:
    async with proxied(tell) as (session, _):
        body = None if method == "GET" else b"x" * 300_000
        headers = {"X-Secret": "1", "Connection": "keep-alive, x-hop", "X-Hop": "1", "X-Kept": "1"}
        url = "/a%2Fb/../c?d=%26&d=2&e"
        async with session.request(
            method, aiohttp.client.URL(url, encoded=True), data=body, headers=headers
        ) as response:
            told = await response.json()
            assert (response.status, response.headers["X-Seen"]) == (207, "207")
            assert response.headers["X-Own"] == "a"
            assert "Keep-Alive" not in response.headers
    assert told["method"] == method
    assert told["target"].endswith("c?d=%26&d=2&e")
    assert told["size"] == (300_000 if body else 0)
    assert told["headers"]["x-added"] == told["headers"]["x-kept"] == "1"
    assert not {"x-secret", "x-hop"} & told["headers"].keys()


async def test_bodies_pass_as_they_come() -> None:
    more = asyncio.Event()

    async def slowly(request: web.BaseRequest) -> web.StreamResponse:
        first = await request.content.readany()
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"got " + first)
        await more.wait()
        await response.write(b" and the rest")
        return response

    async def sending() -> AsyncIterator[bytes]:
        yield b"one"
        await more.wait()
        yield b"two"

    async with proxied(slowly) as (session, _), session.post("/", data=sending()) as response:
        assert await response.content.readany() == b"got one"
        more.set()
        assert await response.content.read() == b" and the rest"


async def test_a_body_that_breaks_off_does_not_look_whole() -> None:
    async def breaking(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"some")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with proxied(breaking) as (session, _), session.get("/") as response:
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_a_web_socket_passes_both_ways() -> None:
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        socket = web.WebSocketResponse(protocols=["p"])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_bytes(message.data)
        return socket

    async with (
        proxied(echo) as (session, _),
        session.ws_connect("/", protocols=["p"], max_msg_size=0) as socket,
    ):
        assert socket.protocol == "p"
        big = bytes(range(256)) * 4000
        for data in (b"hello", big):
            await socket.send_bytes(data)
            assert await socket.receive_bytes() == data


async def test_an_upgrade_that_is_declined_is_an_answer() -> None:
    async with proxied(tell) as (session, _):
        headers = {"Connection": "Upgrade", "Upgrade": "other"}
        async with session.get("/", headers=headers) as response:
            told = await response.json()
            assert (response.status, told["headers"]["upgrade"]) == (207, "other")


async def test_who_does_not_answer_is_named() -> None:
    async with asyncio.timeout(20):
        forwarder = Forwarder()
        middle = Middle(forwarder, "http://127.0.0.1:1")
        async with listening(middle.handle) as url, aiohttp.ClientSession(url) as session:
            async with session.get("/") as response:
                assert response.status == 503
            async with session.get(
                "/", headers={"Connection": "upgrade", "Upgrade": "x"}
            ) as response:
                assert response.status == 503
        await forwarder.aclose()
    assert middle.failures == ["dial 127.0.0.1:1: connection refused"] * 2


async def test_a_target_may_speak_tls(tmp_path: Path) -> None:
    authority = pki.new_authority("test")
    pki.save(pki.issue(authority, "target", names=["127.0.0.1"]), tmp_path / "target")
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    await asyncio.to_thread(
        server.load_cert_chain, tmp_path / "target.crt", tmp_path / "target.key"
    )
    trusting = ssl.create_default_context(cadata=authority.certificate.decode())
    wary = await asyncio.to_thread(ssl.create_default_context)
    whoever = unverified()
    forwarder = Forwarder()

    async def middle(request: web.BaseRequest) -> web.StreamResponse:
        tls = {"/trusted": trusting, "/whoever": whoever}.get(request.path, wary)
        try:
            return await forwarder.forward(request, Target(target + "/", tls))
        except Unreachable:
            return web.Response(status=503)

    async with (
        asyncio.timeout(20),
        listening(tell, server) as target,
        listening(middle) as url,
        aiohttp.ClientSession(url) as session,
    ):
        for headers in ({}, {"Connection": "Upgrade", "Upgrade": "x"}):
            for path in ("/trusted", "/whoever"):
                async with session.get(path, headers=headers) as response:
                    assert response.status == 207
            async with session.get("/other", headers=headers) as response:
                assert response.status == 503
        await forwarder.aclose()
