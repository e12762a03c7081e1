"""Logs and exec, relayed to the node that runs the pod."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.nodes import node_url
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.relay import container_of
from tests.support.api import Served
from tests.support.asking import Asker
from tests.support.fake_node import serving_node

PODS = "/api/v1/namespaces/default/pods"


class Node:
    """A node's side of the contract: the kubelet's paths over HTTPS, for the API server only."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.peers: list[str] = []
        self.more = asyncio.Event()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert")
        subject = {key: value for pairs in certificate["subject"] for key, value in pairs}
        self.peers.append(subject["commonName"])
        self.asked.append(request.raw_path)
        if request.path.startswith("/containerLogs/default/p/missing"):
            return web.Response(status=400, text='container "missing" is waiting to start')
        if request.path.startswith("/containerLogs/"):
            return await self._log(request)
        return await self._exec(request)

    async def _log(self, request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        await response.write(b"one\n")
        await self.more.wait()
        await response.write(b"two\n")
        return response

    async def _exec(self, request: web.BaseRequest) -> web.StreamResponse:
        """Echoes each message, then closes with its own code after `bye`."""
        socket = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await socket.prepare(request)
        async for message in socket:
            if message.data == b"\x00bye":
                await socket.close(code=4001)
            else:
                await socket.send_bytes(b"\x01" + message.data[1:])
        return socket


@pytest.fixture
async def node(served: Served) -> AsyncIterator[Node]:
    """A node of the cluster, with a pod `p` on it."""
    node = Node()
    async with serving_node(served, node.handle) as client:
        containers = [{"name": "c", "image": "x"}, {"name": "missing", "image": "x"}]
        pod = {
            "metadata": {
                "name": "p",
                "namespace": "default",
                "annotations": {"kubectl.kubernetes.io/default-container": "c"},
            },
            "spec": {"containers": containers, "nodeName": "n1"},
        }
        await client.create(kinds.POD, pod)
        yield node


async def test_a_log_is_streamed_as_it_comes(ask: Asker, node: Node) -> None:
    path = f"{PODS}/p/log?follow=true&tailLines=5&pretty=true"
    async with asyncio.timeout(20), ask("GET", path) as log:
        assert log.content_type == "text/plain"
        assert await log.content.readline() == b"one\n"
        node.more.set()
        assert await log.content.read() == b"two\n"
    assert node.asked == ["/containerLogs/default/p/c?follow=true&tailLines=5"]
    assert node.peers == ["kube-apiserver-kubelet-client"]


@pytest.mark.parametrize(
    ("offered", "kind", "first"),
    [
        ((), aiohttp.WSMsgType.BINARY, b"one\n"),
        (("binary.k8s.io",), aiohttp.WSMsgType.BINARY, b"one\n"),
        (("base64.binary.k8s.io",), aiohttp.WSMsgType.TEXT, "b25lCg=="),
    ],
)
async def test_a_log_comes_over_a_web_socket(
    served: Served, node: Node, offered: tuple[str, ...], kind: Any, first: Any
) -> None:
    connector = aiohttp.TCPConnector(ssl=served.tls)
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(f"{served.url}{PODS}/p/log?container=c", protocols=offered) as socket,
    ):
        assert socket.protocol == (offered[0] if offered else None)
        message = await socket.receive()
        assert (message.type, message.data) == (kind, first)
        node.more.set()
        assert len((await socket.receive()).data) >= 4
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 1000


async def test_what_the_node_refuses_is_told(ask: Asker, node: Node) -> None:
    status = await ask.json("GET", f"{PODS}/p/log?container=missing", 400)
    assert status["message"] == 'container "missing" is waiting to start'


async def test_frames_pass_both_ways_untouched(served: Served, node: Node) -> None:
    url = f"{served.url}{PODS}/p/exec?command=sh&command=-c&stdin=true&stdout=true"
    connector = aiohttp.TCPConnector(ssl=served.tls)
    async with (
        asyncio.timeout(20),
        aiohttp.ClientSession(connector=connector) as session,
        session.ws_connect(url, protocols=("v5.channel.k8s.io", "v4.channel.k8s.io")) as socket,
    ):
        assert socket.protocol == "v5.channel.k8s.io"
        big = bytes(range(256)) * 1000
        for data in (b"hello", big, b""):
            await socket.send_bytes(b"\x00" + data)
            assert await socket.receive_bytes() == b"\x01" + data
        await socket.send_bytes(b"\x00bye")
        assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
        assert socket.close_code == 4001
    assert node.asked == ["/exec/default/p/c?stdin=true&stdout=true&command=sh&command=-c"]


async def test_a_client_that_goes_ends_the_session_on_the_node(served: Served, node: Node) -> None:
    connector = aiohttp.TCPConnector(ssl=served.tls)
    async with asyncio.timeout(20), aiohttp.ClientSession(connector=connector) as session:
        url = f"{served.url}{PODS}/p/attach?stdin=true"
        socket = await session.ws_connect(url, protocols=("v5.channel.k8s.io",))
        await socket.send_bytes(b"\x00x")
        assert await socket.receive_bytes() == b"\x01x"
        await socket.close()
    assert node.asked == ["/attach/default/p/c?stdin=true"]


async def test_exec_wants_a_web_socket(ask: Asker, node: Node) -> None:
    status = await ask.json("POST", f"{PODS}/p/exec?command=sh", 400)
    assert "v5.channel.k8s.io" in status["message"]


async def test_a_pod_without_a_node_has_no_log(served: Served, ask: Asker) -> None:
    await ask.make(
        PODS, {"metadata": {"name": "q"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    )
    status = await ask.json("GET", f"{PODS}/q/log", 400)
    assert status["message"] == "pod q does not have a host assigned"


async def test_a_node_that_is_away_is_an_error_with_its_address(
    served: Served, ask: Asker, node: Node
) -> None:
    client = LocalClient(served.registry)
    patch = {"status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}}
    await client.patch(kinds.NODE, "n1", patch, subresource="status")
    status = await ask.json("GET", f"{PODS}/p/log", 500)
    assert "error dialing the node at 127.0.0.1:1" in status["message"]


def pod(*names: str, init: tuple[str, ...] = (), default: str = "") -> Object:
    annotations = {"kubectl.kubernetes.io/default-container": default} if default else {}
    return {
        "metadata": {"name": "p", "annotations": annotations},
        "spec": {
            "containers": [{"name": name} for name in names],
            "initContainers": [{"name": name} for name in init],
        },
    }


@pytest.mark.parametrize(
    ("obj", "asked", "found"),
    [
        (pod("a"), "", "a"),
        (pod("a", "b"), "b", "b"),
        (pod("a", init=("i",)), "i", "i"),
        (pod("a", "b", default="b"), "", "b"),
    ],
)
def test_the_container_that_is_meant(obj: Object, asked: str, found: str) -> None:
    assert container_of(obj, asked) == found


@pytest.mark.parametrize(
    ("obj", "asked", "message"),
    [
        (pod("a", "b"), "", "a container name must be specified for pod p, choose one of: [a b]"),
        (
            pod("a", "b", init=("i",)),
            "",
            "a container name must be specified for pod p, choose one of: [a b] or one of the init "
            "containers: [i]",
        ),
        (pod("a"), "x", "container x is not valid for pod p"),
    ],
)
def test_an_open_choice_is_a_bad_request(obj: Object, asked: str, message: str) -> None:
    with pytest.raises(ApiError) as error:
        container_of(obj, asked)
    assert (error.value.code, error.value.message) == (400, message)


@pytest.mark.parametrize(
    ("addresses", "port", "url"),
    [
        ([("Hostname", "h"), ("InternalIP", "10.0.0.1")], 7, "https://10.0.0.1:7"),
        ([("InternalIP", "fd00::1")], 0, "https://[fd00::1]:10250"),
        ([("InternalIP", "10.0.0.1"), ("InternalIP", "fd00::1")], 7, "https://10.0.0.1:7"),
    ],
)
def test_where_a_node_listens(addresses: Any, port: int, url: str) -> None:
    status = {
        "addresses": [{"type": kind, "address": address} for kind, address in addresses],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
    assert node_url({"metadata": {"name": "n"}, "status": status}) == url
