"""What HttpClient puts on the wire and takes from it, against a server that speaks by script."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web

from meshkube import pki
from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.api.kinds import CONFIG_MAP, DEPLOYMENT, NODE, POD
from meshkube.client.http import HttpClient

PATIENCE = 60.0
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Scripted:
    """A server that notes requests and answers as `handler` does."""

    url: str = ""
    handler: Handler | None = None
    requests: list[tuple[str, str, dict[str, str], Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        noted = orjson.loads(body) if body else None
        self.requests.append((request.method, request.raw_path.partition("?")[0],
                              dict(request.query), noted))  # fmt: skip
        self.headers.append(dict(request.headers))
        assert self.handler is not None
        return await self.handler(request)

    def answers(self, body: Any, status: int = 200) -> None:
        async def handler(request: web.Request) -> web.StreamResponse:
            content = body if isinstance(body, bytes) else orjson.dumps(body)
            return web.Response(body=content, status=status)

        self.handler = handler

    def streams(self, *pieces: bytes | float, abort: bool = False) -> None:
        """Sends the pieces; a number is a pause in seconds."""

        async def handler(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for piece in pieces:
                if isinstance(piece, bytes):
                    await response.write(piece)
                else:
                    await asyncio.sleep(piece)
            if abort:
                assert request.transport is not None
                request.transport.abort()
            return response

        self.handler = handler


@contextlib.asynccontextmanager
async def serving(scripted: Scripted, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", scripted.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port = runner.addresses[0][1]
        yield f"{'https' if context else 'http'}://127.0.0.1:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    scripted = Scripted()
    async with serving(scripted) as scripted.url:
        yield scripted


@pytest.fixture
async def client(server: Scripted) -> AsyncIterator[HttpClient]:
    async with HttpClient(server.url + "/", token="secret") as client:
        yield client


async def failed(attempt: Awaitable[object]) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await attempt
    return raised.value


async def drained(events: AsyncIterator[Any]) -> list[Any]:
    async with asyncio.timeout(PATIENCE):
        return [event async for event in events]


MAP = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "namespace": "ns", "resourceVersion": "7"},
}


# Requests


async def test_get(server: Scripted, client: HttpClient) -> None:
    server.answers(MAP)
    assert await client.get(CONFIG_MAP, "a", "ns") == MAP
    await client.get(NODE, "n1")
    await client.get(DEPLOYMENT, "web", "ns")
    assert [path for _, path, _, _ in server.requests] == [
        "/api/v1/namespaces/ns/configmaps/a",
        "/api/v1/nodes/n1",
        "/apis/apps/v1/namespaces/ns/deployments/web",
    ]
    assert server.headers[0]["Authorization"] == "Bearer secret"
    assert server.headers[0]["Accept"] == "application/json"
    assert server.headers[0]["User-Agent"].startswith("meshkube/")


async def test_names_cannot_leave_their_place_in_the_path(
    server: Scripted, client: HttpClient
) -> None:
    server.answers(MAP)
    await client.get(CONFIG_MAP, "../secrets/x?y", "n/s")
    assert server.requests[0][1] == "/api/v1/namespaces/n%2Fs/configmaps/..%2Fsecrets%2Fx%3Fy"


async def test_list(server: Scripted, client: HttpClient) -> None:
    server.answers(
        {
            "kind": "ConfigMapList",
            "apiVersion": "v1",
            "metadata": {"resourceVersion": "9", "continue": "next"},
            "items": [{"metadata": {"name": "a"}}],
        }
    )
    page = await client.list(
        CONFIG_MAP,
        "ns",
        labels="app in (a,b)",
        fields="metadata.name=a",
        limit=1,
        continue_token="token=",
        resource_version="5",
    )
    assert page.items == [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}]
    assert (page.resource_version, page.continue_token) == ("9", "next")
    assert server.requests[0][2] == {
        "labelSelector": "app in (a,b)",
        "fieldSelector": "metadata.name=a",
        "limit": "1",
        "continue": "token=",
        "resourceVersion": "5",
    }
    server.answers({"kind": "ConfigMapList", "metadata": {}, "items": None})
    assert (await client.list(CONFIG_MAP)).items == []
    assert server.requests[1][1:3] == ("/api/v1/configmaps", {})


async def test_create(server: Scripted, client: HttpClient) -> None:
    server.answers(MAP, 201)
    assert await client.create(CONFIG_MAP, MAP) == MAP
    binding = {"metadata": {"name": "p"}, "target": {"name": "n1"}}
    await client.create(POD, binding, "ns", subresource="binding")
    assert server.requests == [
        ("POST", "/api/v1/namespaces/ns/configmaps", {}, MAP),
        ("POST", "/api/v1/namespaces/ns/pods/p/binding", {}, binding),
    ]
    assert server.headers[0]["Content-Type"] == "application/json"


async def test_update(server: Scripted, client: HttpClient) -> None:
    server.answers(MAP)
    await client.update(CONFIG_MAP, MAP)
    await client.update(CONFIG_MAP, MAP, subresource="status")
    assert server.requests == [
        ("PUT", "/api/v1/namespaces/ns/configmaps/a", {}, MAP),
        ("PUT", "/api/v1/namespaces/ns/configmaps/a/status", {}, MAP),
    ]


@pytest.mark.parametrize(
    ("type", "content_type"),
    [
        ("json", "application/json-patch+json"),
        ("merge", "application/merge-patch+json"),
        ("strategic", "application/strategic-merge-patch+json"),
        ("apply", "application/apply-patch+yaml"),
    ],
)
async def test_patch(server: Scripted, client: HttpClient, type: Any, content_type: str) -> None:
    server.answers(MAP)
    patch = [{"op": "remove", "path": "/data"}] if type == "json" else {"data": None}
    await client.patch(
        CONFIG_MAP,
        "a",
        patch,
        "ns",
        type=type,
        subresource="status",
        field_manager="me",
        force=True,
    )
    query = {"fieldManager": "me", "force": "true"}
    assert server.requests == [("PATCH", "/api/v1/namespaces/ns/configmaps/a/status", query, patch)]
    assert server.headers[0]["Content-Type"] == content_type


async def test_delete(server: Scripted, client: HttpClient) -> None:
    server.answers({"kind": "Status", "status": "Success"})
    await client.delete(CONFIG_MAP, "a", "ns")
    await client.delete(
        POD,
        "p",
        "ns",
        propagation="Foreground",
        grace_period=0,
        uid="u",
        resource_version="5",
    )
    base = {"apiVersion": "v1", "kind": "DeleteOptions"}
    assert [body for _, _, _, body in server.requests] == [
        base,
        {
            **base,
            "propagationPolicy": "Foreground",
            "gracePeriodSeconds": 0,
            "preconditions": {"uid": "u", "resourceVersion": "5"},
        },
    ]


async def test_raw(server: Scripted, client: HttpClient) -> None:
    server.answers(b"not json")
    assert await client.get_raw("/metrics", {"a": "b c"}) == b"not json"
    assert server.requests == [("GET", "/metrics", {"a": "b c"}, None)]


async def test_a_stream_is_passed_on_as_it_comes(server: Scripted, client: HttpClient) -> None:
    server.streams(b"one\n", 30.0)
    async with contextlib.aclosing(client.stream("/log", {"follow": "true"})) as pieces:
        async with asyncio.timeout(PATIENCE):
            assert await anext(pieces) == b"one\n"
    assert server.requests[0][2] == {"follow": "true"}


# Errors


async def test_a_status_becomes_its_error(server: Scripted, client: HttpClient) -> None:
    sent = errors.not_found("", "configmaps", "a")
    server.answers(sent.status(), 404)
    error = await failed(client.get(CONFIG_MAP, "a", "ns"))
    assert (error.code, error.reason, error.message, error.details) == (
        404,
        "NotFound",
        'configmaps "a" not found',
        sent.details,
    )


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"", b"[1]", b"\xff"])
async def test_an_error_that_is_no_status_keeps_its_code(
    server: Scripted, client: HttpClient, body: bytes
) -> None:
    server.answers(body, 502)
    assert (await failed(client.get(CONFIG_MAP, "a", "ns"))).code == 502


@pytest.mark.parametrize("body", [b"hello", b"[1]", b"", b"null"])
async def test_a_good_answer_that_is_no_object_is_an_error(
    server: Scripted, client: HttpClient, body: bytes
) -> None:
    server.answers(body)
    assert (await failed(client.get(CONFIG_MAP, "a", "ns"))).code == 500


async def test_redirects_are_not_followed(server: Scripted, client: HttpClient) -> None:
    server.answers(b"", 302)
    assert (await failed(client.get(CONFIG_MAP, "a", "ns"))).code == 302


async def test_a_server_that_is_not_there_is_503(server: Scripted) -> None:
    async with HttpClient("http://127.0.0.1:1") as client:
        error = await failed(client.get(CONFIG_MAP, "a", "ns"))
        assert (error.code, error.reason) == (503, "ServiceUnavailable")
        assert "127.0.0.1:1" in error.message
        assert (await failed(drained(client.watch(CONFIG_MAP)))).code == 503
        assert (await failed(drained(client.stream("/x")))).code == 503


async def test_a_closed_client_is_503(client: HttpClient) -> None:
    await client.aclose()
    await client.aclose()
    assert "closed" in (await failed(client.get(CONFIG_MAP, "a", "ns"))).message


async def test_an_answer_that_breaks_off_is_503(server: Scripted, client: HttpClient) -> None:
    server.streams(b'{"kind":', abort=True)
    assert (await failed(client.get(CONFIG_MAP, "a", "ns"))).code == 503


# Watches


def line(type: str, obj: Any) -> bytes:
    return orjson.dumps({"type": type, "object": obj}) + b"\n"


async def test_watch(server: Scripted, client: HttpClient) -> None:
    bookmark = {"metadata": {"resourceVersion": "9"}}
    server.streams(line("ADDED", MAP), line("MODIFIED", MAP) + line("BOOKMARK", bookmark))
    events = await drained(
        client.watch(CONFIG_MAP, "ns", labels="a=b", fields="c=d", resource_version="5")
    )
    assert events == [("ADDED", MAP), ("MODIFIED", MAP), ("BOOKMARK", bookmark)]
    method, path, query, _ = server.requests[0]
    assert (method, path) == ("GET", "/api/v1/namespaces/ns/configmaps")
    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "labelSelector": "a=b",
        "fieldSelector": "c=d",
        "resourceVersion": "5",
    }


async def test_events_arrive_as_they_are_sent_however_they_are_cut(
    server: Scripted, client: HttpClient
) -> None:
    whole = line("ADDED", MAP)
    server.streams(whole[:10], 0.02, whole[10:40], 0.02, whole[40:], 30.0)
    async with contextlib.aclosing(client.watch(CONFIG_MAP, bookmarks=False)) as events:
        async with asyncio.timeout(PATIENCE):
            assert await anext(events) == ("ADDED", MAP)
    assert "allowWatchBookmarks" not in server.requests[0][2]


async def test_an_event_may_be_of_any_size(server: Scripted, client: HttpClient) -> None:
    big = {**MAP, "data": {"x": "y" * 8_000_000}}
    server.streams(line("ADDED", big), line("MODIFIED", MAP))
    assert await drained(client.watch(CONFIG_MAP)) == [("ADDED", big), ("MODIFIED", MAP)]


async def test_an_error_event_is_raised(server: Scripted, client: HttpClient) -> None:
    server.streams(line("ADDED", MAP), line("ERROR", errors.gone("too old").status()))
    seen = []

    async def follow() -> None:
        async for event in client.watch(CONFIG_MAP):
            seen.append(event)  # noqa: PERF401

    error = await failed(follow())
    assert (error.code, error.reason) == (410, "Expired")
    assert len(seen) == 1


async def test_a_watch_that_is_refused(server: Scripted, client: HttpClient) -> None:
    server.answers(errors.gone("too old").status(), 410)
    assert (await failed(drained(client.watch(CONFIG_MAP)))).code == 410


async def test_a_watch_that_breaks_off_is_503(server: Scripted, client: HttpClient) -> None:
    server.streams(line("ADDED", MAP), b'{"type":"ADD', abort=True)
    assert (await failed(drained(client.watch(CONFIG_MAP)))).code == 503


@pytest.mark.parametrize("sent", [b"nonsense\n", b"[]\n", b'{"type":"ADDED"}\n'])
async def test_what_is_no_event_is_an_error(
    server: Scripted, client: HttpClient, sent: bytes
) -> None:
    server.streams(sent)
    assert (await failed(drained(client.watch(CONFIG_MAP)))).code == 500


async def test_a_watch_that_is_closed_gives_its_connection_up(
    server: Scripted, client: HttpClient
) -> None:
    gone = asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line("ADDED", MAP))
        try:
            while True:
                await response.write(b"\n")
                await asyncio.sleep(0.02)
        except (ConnectionError, asyncio.CancelledError):
            gone.set()
        return response

    server.handler = handler
    async with contextlib.aclosing(client.watch(CONFIG_MAP)) as events:
        await anext(events)
    async with asyncio.timeout(PATIENCE):
        await gone.wait()


async def test_many_watches_and_requests_at_once(server: Scripted, client: HttpClient) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        if "watch" not in request.query:
            return web.json_response(MAP)
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(line("ADDED", MAP))
        await asyncio.sleep(30)
        return response

    server.handler = handler
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
        watches = [
            await stack.enter_async_context(contextlib.aclosing(client.watch(CONFIG_MAP)))
            for _ in range(150)
        ]
        await asyncio.gather(*(anext(watch) for watch in watches))
        assert await client.get(CONFIG_MAP, "a", "ns") == MAP


# TLS


async def test_tls_with_a_client_certificate(tmp_path: Path) -> None:
    authority = pki.new_authority("test")
    pki.save(pki.issue(authority, "api", names=["127.0.0.1"]), tmp_path / "server")
    pki.save(pki.issue(authority, "me"), tmp_path / "me")
    pki.save(authority, tmp_path / "ca")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.crt")
    context.load_cert_chain(tmp_path / "server.crt", tmp_path / "server.key")
    context.verify_mode = ssl.CERT_REQUIRED
    scripted = Scripted()
    scripted.answers(MAP)
    async with serving(scripted, context) as url:
        config = tmp_path / "kubeconfig.yaml"
        config.write_text(
            "clusters: [{name: c, cluster: {certificate-authority: ca.crt,"
            f" server: '{url}'}}}}]\n"
            "users: [{name: u, user: {client-certificate: me.crt, client-key: me.key}}]\n"
            "contexts: [{name: x, context: {cluster: c, user: u}}]\n"
            "current-context: x\n"
        )
        async with HttpClient.from_kubeconfig(config) as client:
            assert await client.get(CONFIG_MAP, "a", "ns") == MAP
        async with HttpClient(url) as stranger:
            error = await failed(stranger.get(CONFIG_MAP, "a", "ns"))
    assert error.code == 503
    assert "certificate" in error.message
