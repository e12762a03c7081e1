"""The `proxy` sub-resources, with a node's side of the contract on a real socket."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from meshkube.api import kinds
from meshkube.api.types import Object
from tests.support.api import Served
from tests.support.asking import Asker
from tests.support.fake_node import serving_node

BASE = "/api/v1/namespaces/default"
PAGE = b'<html><a href="/x">x</a><a href="http://10.1.0.5:8080/y">y</a></html>'


class Node:
    """Tells what it was asked; some paths have an answer of their own."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append((request.method, request.raw_path))
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        headers = {"Access-Control-Allow-Origin": "*", "X-Own": "1"}
        if request.path.endswith("/away"):
            why = "dial 10.1.0.5:8080: connection refused"
            return web.Response(status=503, headers={"X-Meshkube-Unreachable": why})
        if request.path.endswith("/moved"):
            return web.Response(status=302, headers={"Location": "/there", **headers})
        if request.path.endswith("/page"):
            headers["Content-Encoding"] = "gzip"
            body = gzip.compress(PAGE)
            return web.Response(body=body, content_type="text/html", headers=headers)
        return web.Response(body=await request.read(), headers=headers)


def pod(name: str, address: str = "") -> Object:
    container = {"name": "c", "image": "x", "ports": [{"name": "web", "containerPort": 8080}]}
    obj: Object = {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "nodeName": "n1"},
    }
    if address:
        obj["status"] = {"podIP": address, "podIPs": [{"ip": address}]}
    return obj


def endpoints(service: str, address: str, pod: str) -> Object:
    endpoint = {
        "addresses": [address],
        "conditions": {"ready": True},
        "nodeName": "n1",
        "targetRef": {"kind": "Pod", "name": pod},
    }
    return {
        "metadata": {
            "name": f"{service}-1",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "endpoints": [endpoint],
        "ports": [{"name": "web", "port": 8080, "protocol": "TCP"}],
    }


def service(name: str) -> Object:
    ports = [{"name": "web", "port": 80, "targetPort": 8080}]
    return {"metadata": {"name": name, "namespace": "default"}, "spec": {"ports": ports}}


@pytest.fixture
async def node(served: Served) -> AsyncIterator[Node]:
    node = Node()
    async with serving_node(served, node.handle) as client:
        await client.create(kinds.POD, pod("p"))
        await client.patch(
            kinds.POD,
            "p",
            {"status": pod("p", "10.1.0.5")["status"]},
            "default",
            subresource="status",
        )
        await client.create(kinds.POD, pod("new"))
        for name in ("inside", "nobody"):
            await client.create(kinds.SERVICE, service(name))
        await client.create(kinds.ENDPOINT_SLICE, endpoints("inside", "10.1.0.5", "p"))
        yield node


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (f"{BASE}/pods/p/proxy/a?b=%26", "/proxy/default/p/http/8080/a?b=%26"),
        (f"{BASE}/pods/https:p:web/proxy/", "/proxy/default/p/https/8080/"),
        (f"{BASE}/pods/p:81/proxy/a%2Fb//c", "/proxy/default/p/http/81/a%2Fb//c"),
        (f"{BASE}/services/inside/proxy/", "/proxy/default/p/http/8080/"),
        (f"{BASE}/services/https:inside:80/proxy/x", "/proxy/default/p/https/8080/x"),
        ("/api/v1/nodes/n1/proxy/stats/summary?x", "/stats/summary?x"),
    ],
)
async def test_where_it_leads(ask: Asker, node: Node, path: str, asked: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        async with ask(method, path, data=b"body") as response:
            assert (response.status, await response.read()) == (200, b"body")
        assert node.asked.pop() == (method, asked)


async def test_credentials_stay_here(ask: Asker, node: Node) -> None:
    headers = {
        "Authorization": "Bearer x",
        "Impersonate-User": "eve",
        "Impersonate-Group": "system:masters",
        "X-Forwarded-For": "192.0.2.9",
        "Cookie": "a=b",
    }
    async with ask("GET", f"{BASE}/pods/p/proxy/", headers=headers) as response:
        assert response.status == 200
        assert response.headers["X-Own"] == "1"
        # What is proxied may not open this API to pages from elsewhere.
        assert "Access-Control-Allow-Origin" not in response.headers
    assert not {"authorization", "impersonate-user", "impersonate-group"} & node.headers.keys()
    assert node.headers["cookie"] == "a=b"
    assert node.headers["x-forwarded-for"] == "192.0.2.9, 127.0.0.1"
    assert node.headers["x-forwarded-uri"] == f"{BASE}/pods/p/proxy/"


async def test_pages_lead_back_through_the_proxy(ask: Asker, node: Node) -> None:
    path = f"{BASE}/services/inside/proxy"
    async with ask("GET", path, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (301, f"{path}/")
    async with ask("GET", f"{path}?a=b", allow_redirects=False) as response:
        assert response.headers["Location"] == f"{path}/?a=b"
    async with ask("GET", f"{path}/moved", allow_redirects=False) as response:
        assert response.headers["Location"] == f"{path}/there"
    async with ask("GET", f"{path}/page") as response:
        led = await response.text()
    assert led == f'<html><a href="{path}/x">x</a><a href="{path}/y">y</a></html>'


@pytest.mark.parametrize(
    ("path", "code", "why"),
    [
        (f"{BASE}/pods/p/proxy/away", 503, "dial 10.1.0.5:8080: connection refused"),
        (f"{BASE}/pods/new/proxy/", 400, "address not allowed"),
        (f"{BASE}/pods/none/proxy/", 404, 'pods "none" not found'),
        (f"{BASE}/pods/ftp:p:1/proxy/", 400, "invalid request"),
        (f"{BASE}/pods/p:other/proxy/", 400, "no port 'other'"),
        (f"{BASE}/services/nobody/proxy/", 503, 'no endpoints available for service "nobody"'),
        (f"{BASE}/services/inside:81/proxy/", 503, "no service port 81"),
        ("/api/v1/nodes/n1:1/proxy/", 503, "dial 127.0.0.1:1: connection refused"),
        ("/api/v1/nodes/n1:x/proxy/", 400, "'x' is not a port"),
    ],
)
async def test_why_it_leads_nowhere(ask: Asker, node: Node, path: str, code: int, why: str) -> None:
    status = await ask.json("GET", path, code)
    assert why in status["message"]


async def test_a_method_that_http_does_not_name(ask: Asker, node: Node) -> None:
    await ask.json("TRACE", f"{BASE}/pods/p/proxy/", 405)
