"""How long single requests hold the API server's loop: the longest time that no other request gets
its turn, in ms of CPU. The bar is 50 ms.

`python -m bench.api_holds`; `bench.api` prints the same table over the pods it has made.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import orjson
import uvloop

from bench import api_servers, harness
from bench.api_objects import config_map, definition, pod
from bench.api_requests import APPLY, JSON_PATCH, MERGE, PODS, TABLE, ask, create_all
from bench.api_servers import Target
from meshkube.api.types import Object

BAR_MILLISECONDS = 50
PODS_MADE = 10_000
DEFINITIONS = 200
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MAPS = "/api/v1/namespaces/default/configmaps"
ALL_MAPS = "/api/v1/namespaces/many/configmaps"
V2 = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
PARTIAL = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
MANY_TOKENS = "%2C".join(f"app-{number}" for number in range(40))
TOO_MANY = "%2C".join(f"app-{number}" for number in range(7, 20_007))
RULES_REVIEW = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
Requests = Callable[[Target], Awaitable[object]]


def reading(path: str, accept: str = "application/json", **headers: Any) -> Requests:
    async def request(target: Target) -> None:
        await ask(target, "GET", path, Accept=accept, **headers)

    return request


def sending(
    method: str, path: str, body: Object | list[Object] | None = None, **headers: Any
) -> Requests:
    async def request(target: Target) -> None:
        await ask(target, method, path, body, **headers)

    return request


async def _define(target: Target) -> None:
    for number in range(DEFINITIONS):
        await ask(target, "POST", CRDS, definition(number))


async def _fill(target: Target) -> None:
    """10,000 small objects in a namespace of their own."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}}
    await ask(target, "POST", "/api/v1/namespaces", namespace)
    maps = (config_map(f"m{number}", 1) for number in range(PODS_MADE))
    await create_all(target, ALL_MAPS, maps)


def watching(query: str, count: int) -> Requests:
    """A watch that starts with so many objects."""

    async def request(target: Target) -> None:
        seen = 0
        async with target.client.get(f"{target.url}{PODS}?watch=1&{query}") as got:
            async for _ in got.content:
                seen += 1
                if seen == count:
                    return

    return request


async def _too_large(target: Target) -> None:
    """What is larger than may be stored."""
    body = orjson.dumps(config_map("huge", 2800))
    headers = {"Content-Type": "application/json"}
    async with target.client.post(target.url + MAPS, data=body, headers=headers) as answer:
        assert answer.status in (413, 422), await answer.text()


async def _pages(target: Target) -> None:
    """All pods in pages of 500, as `kubectl get` asks for them."""
    token = ""
    while True:
        answer = await ask(target, "GET", f"{PODS}?limit=500&continue={token}")
        token = orjson.loads(answer)["metadata"].get("continue", "")
        if not token:
            return


def _large(kilobytes: int) -> Object:
    """Many small values, which take longer than one large one."""
    return config_map("large", kilobytes)


def requests() -> list[tuple[str, Requests]]:
    """Everything a single request may do that looks long; the order matters."""
    big = [{"op": "add", "path": f"/data/more{n:05d}", "value": "x" * 100} for n in range(1000)]
    return [
        (
            "a watch of those with a label, all unread",
            watching("labelSelector=app%3Dapp-7", PODS_MADE // 100),
        ),
        ("list of 10,000 pods", reading(PODS)),
        ("the same, gzip", reading(PODS, **{"Accept-Encoding": "gzip"})),
        ("the same as a table", reading(PODS, TABLE)),
        ("the same as metadata", reading(PODS, PARTIAL)),
        ("the same as YAML, 500 of them", reading(f"{PODS}?limit=500", "application/yaml")),
        ("in pages of 500", _pages),
        ("by a label", reading(f"{PODS}?labelSelector=app%3Dapp-7")),
        ("by a set of labels", reading(f"{PODS}?labelSelector=app+notin+({MANY_TOKENS})")),
        ("by a field", reading(f"{PODS}?fieldSelector=spec.nodeName%3Dnode-7")),
        ("by a label of 20,000 values", reading(f"{PODS}?labelSelector=app+in+({TOO_MANY})")),
        ("a watch that starts with all of them", watching("", PODS_MADE)),
        ("a watch of those with a label", watching("labelSelector=app%3Dapp-8", PODS_MADE // 100)),
        ("create with 2.8 MB, refused", _too_large),
        ("create with 1 MB", sending("POST", MAPS, _large(1000))),
        ("update with 1 MB", sending("PUT", f"{MAPS}/large", _large(1000))),
        ("merge patch of 1 MB", sending("PATCH", f"{MAPS}/large", _large(900), **MERGE)),
        ("JSON patch with 1,000 steps", sending("PATCH", f"{MAPS}/large", big, **JSON_PATCH)),
        (
            "apply of 1 MB",
            sending("PATCH", f"{MAPS}/large?fieldManager=b&force=1", _large(900), **APPLY),
        ),
        (
            "apply of 1 MB, new",
            sending("PATCH", f"{MAPS}/new?fieldManager=b", config_map("new", 1000), **APPLY),
        ),
        ("get of 1 MB as YAML", reading(f"{MAPS}/new", "application/yaml")),
        ("delete of 1 MB", sending("DELETE", f"{MAPS}/new")),
        ("OpenAPI v2, built", reading("/openapi/v2", V2)),
        ("OpenAPI v3, the index", reading("/openapi/v3")),
        (f"create each of {DEFINITIONS} definitions", _define),
        ("discovery with them", reading("/apis", DISCOVERY)),
        ("discovery with them, of old", reading("/apis")),
        ("OpenAPI v2 with them", reading("/openapi/v2", V2)),
        ("OpenAPI v3 with them, the index", reading("/openapi/v3")),
        (
            "change of one definition",
            sending("PATCH", f"{CRDS}/things3.bench.example", RENAMED, **MERGE),
        ),
        ("delete of one definition", sending("DELETE", f"{CRDS}/things4.bench.example")),
        ("metrics", reading("/metrics", "text/plain")),
        ("what may I do", sending("POST", RULES_REVIEW, {"spec": {"namespace": "default"}})),
        ("10,000 config maps created", _fill),
        ("10,000 config maps deleted at once", sending("DELETE", ALL_MAPS)),
    ]


RENAMED: Object = {"spec": {"names": {"shortNames": ["thg"]}}}


async def measure(target: Target) -> None:
    """Prints the table for a server that holds the pods."""
    rows: list[list[object]] = []
    for row, request in requests():
        target.hold()
        cpu, started = target.cpu(), perf_counter()
        await request(target)
        took, used = perf_counter() - started, target.cpu() - cpu
        hold = target.hold()
        assert hold is not None
        rows.append(
            [
                row,
                round(hold),
                "" if hold < BAR_MILLISECONDS else "over",
                round(used * 1000),
                round(took * 1000),
            ]
        )
    harness.print_table(
        f"How long one request holds the API server's loop (bar: {BAR_MILLISECONDS} ms)",
        ["request", "hold, ms", "", "CPU, ms", "time, ms"],
        rows,
    )


async def main() -> None:
    with tempfile.TemporaryDirectory() as path:
        directory = Path(path)
        await asyncio.to_thread(api_servers.keys, directory)
        async with api_servers.session(directory) as client:
            with api_servers.ours(directory, client) as (own, _):
                await create_all(own, PODS, map(pod, range(PODS_MADE)))
                await measure(own)


if __name__ == "__main__":
    uvloop.run(main())
