"""The in-process Client against a real store."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.metrics import REGISTRY
from tests.support.api import running_api


def config_map(name: str, **data: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": data,
    }


async def test_writes_are_read_back_with_a_new_resource_version(tmp_path: Path) -> None:
    async with running_api(tmp_path) as client:
        made = await client.create(kinds.CONFIG_MAP, config_map("a", k="1"))
        assert made["metadata"]["uid"]
        again = await client.get(kinds.CONFIG_MAP, "a", "default")
        assert again is made
        changed = await client.update(kinds.CONFIG_MAP, {**made, "data": {"k": "2"}})
        assert int(meta.resource_version(changed)) > int(meta.resource_version(made))
        assert (await client.get(kinds.CONFIG_MAP, "a", "default"))["data"] == {"k": "2"}
        with pytest.raises(ApiError) as stale:
            await client.update(kinds.CONFIG_MAP, {**made, "data": {"k": "3"}})
        assert stale.value.reason == "Conflict"
        await client.delete(kinds.CONFIG_MAP, "a", "default")
        with pytest.raises(ApiError) as missing:
            await client.get(kinds.CONFIG_MAP, "a", "default")
        assert missing.value.message == 'configmaps "a" not found'


async def test_a_watch_sees_every_change_in_order(tmp_path: Path) -> None:
    async with running_api(tmp_path) as client, asyncio.timeout(10):
        start = await client.list(kinds.CONFIG_MAP)
        seen = []
        made = await client.create(kinds.CONFIG_MAP, config_map("a", k="1"))
        watch = client.watch(kinds.CONFIG_MAP, resource_version=start.resource_version)
        await client.update(kinds.CONFIG_MAP, {**made, "data": {"k": "2"}})
        await client.delete(kinds.CONFIG_MAP, "a", "default")
        async for event in watch:
            seen.append((event.type, event.object["data"]["k"]))
            if len(seen) == 3:
                break
        await watch.aclose()
        assert seen == [("ADDED", "1"), ("MODIFIED", "2"), ("DELETED", "2")]


async def test_the_cluster_starts_with_its_namespaces_and_services(tmp_path: Path) -> None:
    async with running_api(tmp_path, api_address=("192.0.2.7", 6443)) as client:
        names = [meta.name(one) for one in (await client.list(kinds.NAMESPACE)).items]
        assert names == ["default", "kube-node-lease", "kube-public", "kube-system"]
        dns = await client.get(kinds.SERVICE, "kube-dns", "kube-system")
        assert dns["spec"]["clusterIP"] == "10.43.0.10"
        slice_ = await client.get(kinds.ENDPOINT_SLICE, "kubernetes", "default")
        assert slice_["endpoints"][0]["addresses"] == ["192.0.2.7"]
    async with running_api(tmp_path, api_address=("192.0.2.8", 6443)) as client:
        slice_ = await client.get(kinds.ENDPOINT_SLICE, "kubernetes", "default")
        assert slice_["endpoints"][0]["addresses"] == ["192.0.2.8"]


async def test_how_far_a_watch_in_this_process_is_behind_is_told(tmp_path: Path) -> None:
    def lag() -> float:
        text = generate_latest(REGISTRY).decode()
        name = 'meshkube_api_local_watch_lag_seconds{resource="configmaps"} '
        return max(
            (float(line[len(name) :]) for line in text.splitlines() if name in line), default=0
        )

    async with running_api(tmp_path) as client:
        watch = client.watch(kinds.CONFIG_MAP, "default", resource_version="0")
        async with contextlib.aclosing(watch) as events:
            await client.create(kinds.CONFIG_MAP, config_map("a"))
            await anext(events)
            await asyncio.sleep(0.05)
            assert lag() >= 0.05, "it works on what it took that long ago"
            asked = asyncio.create_task(anext(events))
            await client.create(kinds.CONFIG_MAP, config_map("b"))
            await asked
            await client.create(kinds.CONFIG_MAP, config_map("c"))
            await anext(events)
            assert lag() < 0.05
        assert lag() == 0.0
