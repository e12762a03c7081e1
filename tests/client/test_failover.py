"""Several servers of one cluster: what a client does when the one it uses is gone."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from meshkube.api.errors import ApiError
from meshkube.api.kinds import CONFIG_MAP, NODE
from meshkube.client.http import HttpClient
from meshkube.client.servers import Servers
from tests.client.test_http import Scripted, serving


def node(name: str):
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


@contextlib.asynccontextmanager
async def two(first: Scripted, second: Scripted) -> AsyncIterator[HttpClient]:
    async with serving(first) as one, serving(second) as other, HttpClient([one, other]) as client:
        yield client


@contextlib.contextmanager
def closed_port():
    """A URL where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextlib.contextmanager
def silent_port():
    """A URL where connections are neither taken nor refused: a full backlog."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_the_one_in_use_stays_so_when_the_list_changes():
    servers = Servers(["https://a:1", "https://b:1/"])
    servers.failed("https://a:1")
    servers.failed("https://a:1")
    assert servers.current == "https://b:1"
    servers.replace(["https://c:1", "https://b:1", "https://d:1"])
    assert servers.urls[0] == "https://b:1"
    assert set(servers.urls) == {"https://b:1", "https://c:1", "https://d:1"}
    servers.replace([])
    assert len(servers.urls) == 3
    with pytest.raises(ValueError, match="no server"):
        Servers([])


async def test_a_server_that_refuses_costs_nothing_and_writes_go_on_elsewhere():
    there = Scripted()
    there.answers(node("n1"))
    with closed_port() as gone:
        async with serving(there) as url, HttpClient([gone, url]) as client:
            assert (await client.create(NODE, node("n1")))["metadata"]["name"] == "n1"
            assert client.server == url
    assert [method for method, *_ in there.requests] == ["POST"]


async def test_a_silent_server_costs_one_short_timeout():
    there = Scripted()
    there.answers(node("n1"))
    with silent_port() as gone:
        async with serving(there) as url, HttpClient([gone, url]) as client:
            started = time.monotonic()
            await client.get(NODE, "n1")
            await client.get(NODE, "n1")
            assert 1.5 < time.monotonic() - started < 8.0


async def test_a_broken_connection_repeats_reads_and_never_writes():
    breaks, there = Scripted(), Scripted()
    there.answers(node("n1"))

    async def breaking(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    breaks.handler = breaking
    async with two(breaks, there) as client:
        await client.get(NODE, "n1")
        assert len(there.requests) == 1
    async with two(breaks, there) as client:
        with pytest.raises(ApiError) as raised:
            await client.create(NODE, node("n1"))
        assert raised.value.code == 503
        assert len(there.requests) == 1
        # But whoever tries again is heard elsewhere.
        await client.create(NODE, node("n1"))
        assert len(there.requests) == 2


async def test_a_server_without_its_store_is_left_for_another():
    without, there = Scripted(), Scripted()
    without.answers({"kind": "Status", "code": 503, "message": "no quorum"}, 503)
    there.answers(node("n1"))
    async with two(without, there) as client:
        await client.get(NODE, "n1")
        await client.get(NODE, "n1")
        assert (len(without.requests), len(there.requests)) == (1, 2)


async def test_when_none_answers_the_error_is_that_of_the_last():
    with closed_port() as one, closed_port() as other:
        async with HttpClient([one, other]) as client:
            with pytest.raises(ApiError) as raised:
                await client.get(NODE, "n1")
    assert raised.value.code == 503
    assert other in raised.value.message


async def test_a_watch_goes_on_elsewhere_once_its_server_takes_no_connection():
    """The server's host is gone: a watch would wait for minutes, a request finds out."""
    watched, there = Scripted(), Scripted()
    watched.streams(60.0)
    there.answers(node("n1"))
    with silent_port() as gone:
        async with serving(watched) as first, serving(there) as second:
            client = HttpClient([first, second])
            events = client.watch(CONFIG_MAP)
            waiting = asyncio.create_task(anext(events))
            while not watched.requests:
                await asyncio.sleep(0.01)
            # The same server, as seen after its host went: the pool is known by the URL.
            transport = client._transport
            transport._pools[gone] = transport._pools.pop(first)
            transport.servers._urls = [gone, second]
            await client.get(NODE, "n1")
            with pytest.raises(ApiError) as raised:
                await asyncio.wait_for(waiting, 5)
            assert raised.value.code == 503
            await client.aclose()


async def test_a_server_that_hangs_is_left_when_callers_give_up():
    hangs, there = Scripted(), Scripted()
    there.answers(node("n1"))
    forever = asyncio.Event()

    async def hanging(request: web.Request) -> web.StreamResponse:
        await forever.wait()
        return web.Response()

    hangs.handler = hanging
    async with two(hangs, there) as client:
        events = client.watch(CONFIG_MAP)
        watching = asyncio.create_task(anext(events))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.7):
                await client.create(NODE, node("n1"))
        await client.create(NODE, node("n1"))
        # What else waited for it need not wait for ever.
        with pytest.raises((ApiError, StopAsyncIteration)):
            await asyncio.wait_for(watching, 5)
        forever.set()
    assert [method for method, *_ in there.requests][:1] == ["POST"]


async def test_acting_as_another_user_shares_the_connections():
    there = Scripted()
    there.answers(node("n1"))
    async with serving(there) as url, HttpClient(url) as client:
        await client.acting_as("system:kube-proxy").get(NODE, "n1")
        await client.get(NODE, "n1")
    assert [one.get("Impersonate-User") for one in there.headers] == ["system:kube-proxy", None]


async def test_renewed_connections_leave_what_is_under_way_alone():
    there = Scripted()
    there.streams(b"a", 0.3, b"b")
    async with serving(there) as url, HttpClient(url) as client:
        pieces = []
        async with contextlib.aclosing(client.stream("/x")) as chunks:
            async for chunk in chunks:
                pieces.append(chunk)
                if len(pieces) == 1:
                    await client.renew()
        assert b"".join(pieces) == b"ab"
