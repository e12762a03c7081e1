"""CPU of the API server per request, beside the plain aiohttp server it stands on: one run.

Both serve TLS with client certificates in a process of their own on one core; the load comes from
another process. What counts is the CPU of the server's process, so the load's own speed does not.
`bench/api.py` also says what the watch cache costs in memory, and what aiohttp alone costs when it
answers the same bytes from a dict: no API server on aiohttp can be below that.
"""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import aiohttp
import uvloop
from aiohttp import web

from bench import harness
from meshkube import credentials
from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.server import ApiServer
from meshkube.store.sqlite import SqliteStore

PODS = 10_000
GETS = 10_000
CREATES = 2_000
LISTS = 10
WATCHERS = 500
CHANGES = 100
CONNECTIONS = 16


def pod(number: int) -> Object:
    """A pod of a usual size, with a status as a node writes it (2.5 kB)."""
    name = f"web-{number:05d}"
    state = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
    container = {
        "name": "app",
        "image": "registry.example/shop/app:1.2.3",
        "ports": [{"containerPort": 8080, "name": "http"}],
        "env": [{"name": f"VARIABLE_{n}", "value": f"value-{n}"} for n in range(8)],
        "resources": {
            "requests": {"cpu": "100m", "memory": "64Mi"},
            "limits": {"cpu": "500m", "memory": "128Mi"},
        },
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app": f"app-{number % 100}", "pod-template-hash": "5d4f8c7b9"},
        },
        "spec": {"containers": [container], "nodeName": f"node-{number % 50}"},
        "status": {
            "phase": "Running",
            "podIP": f"10.42.{number // 250}.{number % 250 + 1}",
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                for kind in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
            ],
            "containerStatuses": [
                {
                    "name": "app",
                    "image": container["image"],
                    "imageID": "sha256:0",
                    "ready": True,
                    "restartCount": 0,
                    "state": state,
                }
            ],
        },
    }


async def serve(directory: Path) -> None:
    """The API server and, on another port, plain aiohttp; until it is ended."""
    keys = _keys(directory)
    tls = keys.server_context("api-server", require_client=False)
    store = await SqliteStore.open(directory / "store.db")
    registry = Registry(store=store, clock=SystemClock())
    api = ApiServer(registry=registry, listen=("127.0.0.1", 0), tls=tls)
    loaded, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(registry.run(loaded.set))
        await loaded.wait()
        group.create_task(api.run(ready.set))
        await ready.wait()
        plain = await _plain(tls)
        print(api.port, plain, flush=True)


async def _plain(tls: ssl.SSLContext) -> int:
    """aiohttp at its barest: what was posted to a path is what a GET of it answers."""
    bodies: dict[str, bytes] = {}
    headers = {"Content-Type": "application/json"}

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        path = request.raw_path
        if request.method == "POST":
            bodies[path] = await request.read()
            return web.Response(status=201, headers=headers)
        if request.method == "PUT":  # so many bytes: a list is above aiohttp's limit of a body
            bodies[path] = bytes(int(await request.read()))
            return web.Response(status=201, headers=headers)
        return web.Response(body=bodies[path], headers=headers)

    runner = web.ServerRunner(web.Server(handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    return int(runner.addresses[0][1])


def _keys(directory: Path) -> credentials.Credentials:
    return credentials.ensure(
        directory / "pki", node_name="bench", addresses=[], domain="cluster.local"
    )


class Bench(NamedTuple):
    """The server under load and a session to it."""

    pid: int
    api: str
    plain: str
    session: aiohttp.ClientSession

    async def post(self, url: str, body: Object) -> None:
        async with self.session.post(url, json=body) as response:
            await response.read()
            assert response.status == 201, await response.text()

    async def get(self, url: str) -> int:
        """The size of the answer."""
        async with self.session.get(url) as response:
            assert response.status == 200
            return len(await response.read())


class Cost(NamedTuple):
    """What a number of requests took."""

    micros: float
    """CPU of the server for each."""
    rate: float
    """Requests a second, as the load saw it."""


async def measured(bench: Bench, count: int, request: Callable[[int], Awaitable[object]]) -> Cost:
    """`count` requests, several at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await request(number)

    before, started = harness.cpu_seconds(bench.pid), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONNECTIONS, count)):
            group.create_task(worker())
    seconds = time.perf_counter() - started
    return Cost((harness.cpu_seconds(bench.pid) - before) / count * 1e6, count / seconds)


async def run(bench: Bench) -> list[list[object]]:
    """The rows of the table."""
    pods = f"{bench.api}/api/v1/namespaces/default/pods"
    rows = []
    empty = harness.resident_megabytes(bench.pid)
    ours = await measured(bench, PODS, lambda n: bench.post(pods, pod(n)))
    plain = await measured(bench, CREATES, lambda n: bench.post(f"{bench.plain}/{n}", pod(n)))
    rows.append(_row("create a pod", ours, plain))
    grown = harness.resident_megabytes(bench.pid) - empty
    ours = await measured(bench, GETS, lambda n: bench.get(f"{pods}/web-{n % PODS:05d}"))
    plain = await measured(bench, GETS, lambda n: bench.get(f"{bench.plain}/{n % CREATES}"))
    rows.append(_row("get a pod", ours, plain))
    size = await bench.get(pods)
    ours = await measured(bench, LISTS, lambda n: bench.get(pods))
    async with bench.session.put(f"{bench.plain}/list", data=str(size)) as response:
        assert response.status == 201
    plain = await measured(bench, LISTS, lambda n: bench.get(f"{bench.plain}/list"))
    rows.append(_row(f"list {PODS:,} pods ({size / 1e6:.0f} MB)", ours, plain))
    rows.append(await _fan_out(bench, pods))
    print(f"memory for {PODS:,} pods: {grown:.0f} MB ({size / 1e6:.0f} MB of JSON)")
    return rows


async def _fan_out(bench: Bench, pods: str) -> list[object]:
    """One change seen by every watcher: the CPU of one delivered event."""
    seen = 0
    done, all_open = asyncio.Event(), asyncio.Event()
    started = 0

    async def watch() -> None:
        nonlocal seen, started
        async with bench.session.get(f"{pods}?watch=1&fieldSelector=metadata.name%3Dbeat") as got:
            started += 1
            if started == WATCHERS:
                all_open.set()
            async for _ in got.content:
                seen += 1
                if seen == WATCHERS * CHANGES:
                    done.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch()) for _ in range(WATCHERS)]
        await all_open.wait()
        before, at = harness.cpu_seconds(bench.pid), time.perf_counter()
        beat = pod(0)
        beat["metadata"]["name"] = "beat"
        await bench.post(pods, beat)
        for number in range(CHANGES - 1):
            patch = {"metadata": {"annotations": {"beat": str(number)}}}
            headers = {"Content-Type": "application/merge-patch+json"}
            url = f"{pods}/beat"
            async with bench.session.patch(url, json=patch, headers=headers) as response:
                assert response.status == 200
        await done.wait()
        events = WATCHERS * CHANGES
        cost = Cost(
            (harness.cpu_seconds(bench.pid) - before) / events * 1e6,
            events / (time.perf_counter() - at),
        )
        for task in tasks:
            task.cancel()
    return [f"an event to one of {WATCHERS} watchers", cost.micros, "", round(cost.rate)]


def _row(name: str, ours: Cost, plain: Cost) -> list[object]:
    return [name, ours.micros, plain.micros, round(ours.rate)]


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        keys = await asyncio.to_thread(_keys, directory)
        server = subprocess.Popen(  # noqa: ASYNC220
            [sys.executable, "-m", "bench.api", "serve", name], stdout=subprocess.PIPE
        )
        try:
            assert server.stdout is not None
            line = await asyncio.to_thread(server.stdout.readline)
            api, plain = line.split()
            connector = aiohttp.TCPConnector(ssl=keys.client_context("admin"), limit=0)
            async with aiohttp.ClientSession(connector=connector) as session:
                bench = Bench(
                    server.pid,
                    f"https://127.0.0.1:{int(api)}",
                    f"https://127.0.0.1:{int(plain)}",
                    session,
                )
                rows = await run(bench)
        finally:
            server.terminate()
            server.wait()
    header = ["", "µs of CPU", "plain aiohttp", "a second"]
    harness.print_table("API server: CPU of one request, TLS, one core", header, rows)


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvloop.run(serve(Path(sys.argv[2])))
    else:
        uvloop.run(main())
