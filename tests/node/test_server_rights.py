"""Whoever the node's server does not know: the API says who a token is of, and what they may."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from meshkube import pki
from meshkube.api import errors, kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.node import permission
from meshkube.node.hollow import HollowRuntime
from meshkube.node.server import NodeServer
from tests.node.world import World
from tests.support.api import running_registry


class Away(LocalClient):
    """The node's Client, of an API that may be away."""

    away = False
    asked = 0

    async def create(self, kind: Kind, *rest: Any, **more: Any) -> Object:
        if kind in kinds.REVIEWS:
            self.asked += 1
            if self.away:
                raise errors.unavailable("the API is away")
        return await super().create(kind, *rest, **more)


class Node:
    """Asks a node's server as somebody."""

    def __init__(self, registry: Registry, client: Away, base: str, directory: Path) -> None:
        self.registry = registry
        self.api = client
        self._base = base
        self._directory = directory

    async def status(
        self, path: str, token: str = "", *, holder: str = "", method: str = "GET"
    ) -> int:
        tls = ssl.create_default_context(cafile=self._directory / "ca.crt")
        if holder:
            tls.load_cert_chain(
                self._directory / f"{holder}.crt", self._directory / f"{holder}.key"
            )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = aiohttp.TCPConnector(ssl=tls)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, self._base + path, headers=headers) as response,
        ):
            return response.status

    async def token(self, name: str, *subresources: str) -> str:
        """Of a new service account that may get these of all nodes."""
        admin = LocalClient(self.registry)
        made = {"metadata": {"name": name, "namespace": "default"}}
        await admin.create(kinds.SERVICE_ACCOUNT, made)
        if subresources:
            await self.allow("ServiceAccount", name, *subresources)
        asked: Object = {**made, "spec": {"audiences": []}}
        answer = await admin.create(kinds.SERVICE_ACCOUNT, asked, "default", subresource="token")
        return str(answer["status"]["token"])

    async def allow(self, kind: str, name: str, *subresources: str) -> None:
        admin = LocalClient(self.registry)
        resources = [f"nodes/{each}" for each in subresources]
        rules = [{"apiGroups": [""], "resources": resources, "verbs": ["get"]}]
        await admin.create(kinds.CLUSTER_ROLE, {"metadata": {"name": name}, "rules": rules})
        subject = {"kind": kind, "name": name}
        if kind == "ServiceAccount":
            subject["namespace"] = "default"
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
        await admin.create(
            kinds.CLUSTER_ROLE_BINDING,
            {"metadata": {"name": name}, "roleRef": role, "subjects": [subject]},
        )


def certificates(directory: Path) -> ssl.SSLContext:
    """The server's; those of its clients are put beside it."""
    authority = pki.new_authority("test")
    (directory / "ca.crt").write_bytes(authority.certificate)
    pki.save(pki.issue(authority, "node", names=["127.0.0.1"]), directory / "server")
    pki.save(pki.issue(authority, "anna"), directory / "anna")
    pki.save(pki.issue(authority, "api", organizations=["system:masters"]), directory / "api")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=directory / "ca.crt")
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_cert_chain(directory / "server.crt", directory / "server.key")
    return tls


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    tls = await asyncio.to_thread(certificates, tmp_path)
    async with running_registry(tmp_path) as registry:
        client = Away(registry, "system:node:n1")
        world = World(LocalClient(registry), lambda: HollowRuntime(SystemClock()), tmp_path / "n")
        await world.start_agent()
        server = NodeServer(
            runtime=world.runtime,
            records=world.agent.records,
            images=world.agent.images,
            pods=world.agent.pods,
            client=client,
            node_name="n1",
            tls=tls,
            host="127.0.0.1",
            port=0,
        )
        ready = asyncio.Event()
        task = asyncio.create_task(server.run(ready.set))
        try:
            await asyncio.wait_for(ready.wait(), 10)
            assert server.address is not None
            base = f"https://127.0.0.1:{server.address[1]}"
            yield Node(registry, client, base, tmp_path)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await world.stop_agent()


async def test_strangers_are_turned_away(node: Node) -> None:
    assert await node.status("/healthz") == 401
    assert await node.status("/healthz", "no.such.token") == 401
    assert await node.status("/healthz", "x" * 6000) == 401
    assert await node.status("/pods", await node.token("nobody")) == 403


@pytest.mark.parametrize(
    ("subresource", "may", "may_not"),
    [
        ("metrics", ["/metrics", "/metrics/resource", "/metrics/cadvisor"], ["/stats/summary"]),
        ("stats", ["/stats/summary"], ["/metrics", "/pods", "/healthz"]),
        ("pods", ["/pods", "/runningpods/"], ["/metrics", "/healthz"]),
        ("healthz", ["/healthz"], ["/pods", "/run/default/p/c"]),
        ("configz", [], ["/healthz"]),
        ("proxy", ["/healthz", "/pods"], ["/metrics", "/stats/summary", "/images"]),
    ],
)
async def test_a_token_opens_what_its_user_may_get(
    node: Node, subresource: str, may: list[str], may_not: list[str]
) -> None:
    token = await node.token("robot", subresource)
    for path in may:
        assert (path, await node.status(path, token)) == (path, 200)
    for path in may_not:
        assert (path, await node.status(path, token)) == (path, 403)


async def test_a_right_to_get_is_none_to_create(node: Node) -> None:
    token = await node.token("robot", "proxy")
    assert await node.status("/run/default/p/c", token, method="POST") == 403


async def test_the_holder_of_another_certificate_is_asked_about_by_name(node: Node) -> None:
    assert await node.status("/pods", holder="api") == 200
    assert await node.status("/pods", holder="anna") == 403
    await node.allow("User", "anna", "stats")
    assert await node.status("/stats/summary", holder="anna") == 200


async def test_answers_are_kept_while_the_api_is_away(node: Node) -> None:
    token, other = await node.token("robot", "metrics"), await node.token("late", "metrics")
    assert await node.status("/metrics", token) == 200
    asked = node.api.asked
    node.api.away = True
    assert await node.status("/metrics", token) == 200
    assert node.api.asked == asked
    assert await node.status("/metrics", other) == 503


@pytest.mark.parametrize("path", ["/proxy/default/p/http/80/", "/images", "/IMAGES/archive"])
def test_what_no_kubelet_has_is_for_the_clusters_own(path: str) -> None:
    assert permission.questions("n1", "GET", path) == []


@pytest.mark.parametrize(
    ("header", "token"),
    [("Bearer abc", "abc"), ("bearer  abc", "abc"), ("Basic abc", ""), ("Bearer", ""), ("", "")],
)
def test_bearer_tokens(header: str, token: str) -> None:
    assert permission.bearer(header) == token
