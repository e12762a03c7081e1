"""Requests that the API's benches share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson

from bench.api_servers import Target
from meshkube.api.types import Object

CONNECTIONS = 16
PODS = "/api/v1/namespaces/default/pods"
APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}
JSON_PATCH = {"Content-Type": "application/json-patch+json"}
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


async def ask(
    target: Target,
    method: str,
    path: str,
    body: Object | list[Object] | None = None,
    **headers: Any,
) -> bytes:
    """The body of an answer that must be good."""
    data = orjson.dumps(body) if body is not None else None
    headers = {"Content-Type": "application/json", **headers}
    async with target.client.request(
        method, target.url + path, data=data, headers=headers
    ) as response:
        content = await response.read()
        assert response.status < 300, content[:1000]
        return content


async def create_all(target: Target, path: str, objects: Iterable[Object]) -> None:
    """Several at a time."""
    left = iter(objects)

    async def worker() -> None:
        for obj in left:
            await ask(target, "POST", path, obj)

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(worker())
