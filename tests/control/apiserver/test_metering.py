"""The resource metrics API over a node's real socket."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.client.base import Client
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.metering import Metering
from tests.support.api import Served, serving_api
from tests.support.asking import asking
from tests.support.cluster import pod
from tests.support.fake_node import serving_node

TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}


class QuickClock:
    """Real time of day; waits are short, and counted as what they stand for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0.02)
        self.seconds += seconds


class Node:
    """Uses a tenth of a core itself, its pod web a quarter of one in each of two containers."""

    def __init__(self) -> None:
        self.asked = 0
        self.began = time.time()

    async def answer(self, request: web.BaseRequest) -> web.Response:
        assert request.path_qs == "/stats/summary?only_cpu_and_memory=true"
        self.asked += 1
        containers = [{"name": name, **self._use(0.25)} for name in ("a", "b")]
        ref = {"namespace": "default", "name": "web", "uid": "u"}
        node = {"nodeName": "n1", **self._use(0.1)}
        return web.json_response(
            {"node": node, "pods": [{"podRef": ref, "containers": containers}]}
        )

    def _use(self, cores: float) -> dict[str, Any]:
        now = time.time()
        moment = meta.micro_timestamp(datetime.fromtimestamp(now, UTC))
        cpu = int((now - self.began + 100) * cores * 1e9)
        return {
            "startTime": "2026-01-01T00:00:00Z",
            "cpu": {"time": moment, "usageCoreNanoSeconds": cpu},
            "memory": {"time": moment, "workingSetBytes": 1 << 20},
        }


@contextlib.asynccontextmanager
async def measuring(tmp_path: Path, node: Node) -> AsyncIterator[tuple[Served, Client]]:
    async with serving_api(tmp_path) as served, serving_node(served, node.answer) as client:
        for name, app in (("web", "web"), ("silent", "other")):
            await client.create(kinds.POD, pod(name, {"app": app}, nodeName="n1"))
        metering = Metering(
            lookup=served.registry.access.lookup,
            tls=served.credentials.client_context("api-client"),
            clock=QuickClock(),
            offer=functools.partial(setattr, served.registry, "metering"),
        )
        ready = asyncio.Event()
        task = asyncio.create_task(metering.run(ready.set))
        try:
            await ready.wait()
            yield served, client
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_what_nodes_and_pods_use(tmp_path: Path) -> None:
    node = Node()
    async with measuring(tmp_path, node) as (served, client):
        assert node.asked == 0, "nobody has asked yet"
        [found] = (await client.list(kinds.POD_METRICS, "default")).items
        assert meta.name(found) == "web"
        assert meta.labels(found) == {"app": "web"}
        names = [one["name"] for one in found["containers"]]
        assert names == ["a", "b"]
        cpu = found["containers"][0]["usage"]["cpu"]
        assert int(cpu.removesuffix("n")) == pytest.approx(250_000_000, rel=0.02)
        assert found["containers"][0]["usage"]["memory"] == "1Mi"
        own = await client.get(kinds.NODE_METRICS, "n1")
        assert int(own["usage"]["cpu"].removesuffix("n")) == pytest.approx(100_000_000, rel=0.02)
        assert (await client.list(kinds.POD_METRICS, labels="app=other")).items == []
        assert len((await client.list(kinds.POD_METRICS, labels="app=web")).items) == 1
        for name, namespace in (("silent", "default"), ("nope", "default")):
            with pytest.raises(ApiError, match="not found"):
                await client.get(kinds.POD_METRICS, name, namespace)
        async with asking(served) as ask:
            base = "/apis/metrics.k8s.io/v1beta1"
            shown = await ask.json("GET", f"{base}/pods", headers=TABLE)
            columns = [column["name"] for column in shown["columnDefinitions"]]
            assert columns == ["Name", "cpu", "memory", "Window"]
            assert shown["rows"][0]["cells"][::2] == ["web", "2Mi"]
            only = f"{base}/namespaces/default/pods?fieldSelector=metadata.name%3Dx"
            assert (await ask.json("GET", only))["items"] == []
            await ask.json("GET", f"{base}/pods?watch=1", 405)
            await ask.json("POST", f"{base}/namespaces/default/pods", 405, body={})
            await ask.json("DELETE", f"{base}/namespaces/default/pods/web", 405)


async def test_nodes_are_left_alone_when_nobody_asks_any_more(tmp_path: Path) -> None:
    node = Node()
    async with measuring(tmp_path, node) as (_, client):
        await client.list(kinds.NODE_METRICS)
        # After 0, 1, 16, 31 and 46 seconds.
        await until(lambda: node.asked == 5)
        await asyncio.sleep(0.3)
        assert node.asked == 5
        await client.list(kinds.NODE_METRICS)
        assert node.asked == 7, "the first two looks again"


async def test_a_server_without_the_part_says_so(tmp_path: Path) -> None:
    async with serving_api(tmp_path) as served, asking(served) as ask:
        await ask.json("GET", "/apis/metrics.k8s.io/v1beta1/nodes", 503)


async def test_viewers_of_a_namespace_may_see_its_metrics(tmp_path: Path) -> None:
    node = Node()
    async with measuring(tmp_path, node) as (served, client):
        binding = {
            "metadata": {"name": "v", "namespace": "default"},
            "roleRef": {
                "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "system:aggregated-metrics-reader",
            },
            "subjects": [
                {"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}
            ],
        }  # fmt: skip
        await client.create(kinds.ROLE_BINDING, binding)
        ann = LocalClient(served.registry, "ann")
        assert (await ann.list(kinds.POD_METRICS, "default")).items
        with pytest.raises(ApiError, match="forbidden"):
            await ann.list(kinds.NODE_METRICS)
