"""CPU of the API server per request: ours, plain aiohttp, kube-apiserver with etcd.

One run, the same objects and requests for all, TLS with client certificates, servers in processes
of their own. What counts is the CPU of the servers' processes (etcd's with kube-apiserver's), so
the load's own speed does not. `hold` is the longest that our loop was kept, in ms of CPU, with 16
such requests at a time; for single requests there is a second table (`bench.api_holds`).
`python -m bench.api --no-peer` leaves kube-apiserver out, which is built once and takes minutes.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import uvloop

from bench import api_holds, api_servers, harness
from bench.api_objects import pod
from bench.api_requests import APPLY, CONNECTIONS, MERGE, TABLE, ask
from bench.api_requests import PODS as PATH
from bench.api_servers import Target
from meshkube.api.types import Object

PODS = 10_000
GETS = 5_000
WRITES = 2_000
LISTS = 10
WATCHERS = 500
CHANGES = 100
MANY = 50_000


class Cost(NamedTuple):
    """What one kind of request took."""

    micros: float
    """CPU of the servers for each."""
    rate: float
    """Requests a second, as the load saw it."""
    hold: float | None


Request = Callable[[Target, int], Awaitable[object]]
Results = dict[str, dict[str, Cost]]
"""By row, then by target."""


async def measured(target: Target, count: int, request: Request) -> Cost:
    """`count` requests, several at a time."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await request(target, number)

    target.hold()
    before, started = target.cpu(), time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(CONNECTIONS, count)):
            group.create_task(worker())
    seconds = time.perf_counter() - started
    return Cost((target.cpu() - before) / count * 1e6, count / seconds, target.hold())


def name(number: int) -> str:
    return f"{PATH}/web-{number:05d}"


async def create(target: Target, number: int) -> None:
    path = PATH if target.name != "aiohttp" else name(number)
    await ask(target, "POST", path, pod(number))


async def get(target: Target, number: int) -> None:
    await ask(target, "GET", name(number % WRITES))


async def update(target: Target, number: int) -> None:
    obj = pod(number)
    obj["metadata"]["labels"]["changed"] = "yes"
    obj["spec"] = {**FILLED[target.name], "nodeName": obj["spec"]["nodeName"]}
    await ask(target, "PUT", name(number), obj)


async def apply(target: Target, number: int) -> None:
    config = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"web-{number:05d}", "labels": {"applied": "yes"}},
    }
    await ask(target, "PATCH", f"{name(number)}?fieldManager=bench&force=true", config, **APPLY)


FILLED: dict[str, Object] = {"aiohttp": pod(0)["spec"]}
"""A pod's spec as each server filled it in: an update must repeat that."""


async def _learn(target: Target) -> None:
    FILLED[target.name] = orjson.loads(await ask(target, "GET", name(0)))["spec"]


def listed(path: str, accept: str = "application/json") -> Request:
    async def request(target: Target, number: int) -> None:
        await ask(target, "GET", path, Accept=accept)

    return request


LISTED: dict[str, Request] = {
    f"list {PODS:,} pods": listed(PATH),
    "list 100 of them by a label": listed(f"{PATH}?labelSelector=app%3Dapp-7"),
    "list 200 of them by their node": listed(f"{PATH}?fieldSelector=spec.nodeName%3Dnode-7"),
    "list 500 as a table (kubectl's page)": listed(f"{PATH}?limit=500", TABLE),
    "list all as a table": listed(PATH, TABLE),
}


async def run(target: Target, results: Results) -> None:
    """Every row of one API server."""
    steps: list[tuple[str, int, Request]] = [
        ("create a pod", PODS, create),
        ("get a pod", GETS, get),
        ("update a pod", WRITES, update),
        ("server-side apply of a label", WRITES, apply),
        *((row, LISTS, request) for row, request in LISTED.items()),
    ]
    empty = target.megabytes()
    for row, count, request in steps:
        if request is get:
            await _learn(target)
        results.setdefault(row, {})[target.name] = await measured(target, count, request)
        if request is create:
            size = len(await ask(target, "GET", PATH))
            grown = target.megabytes() - empty
            print(
                f"{target.name}: {grown / PODS * 1e3:.1f} kB of memory for each pod of "
                f"{size / PODS / 1e3:.1f} kB"
            )
    row = f"an event to one of {WATCHERS} watchers"
    results.setdefault(row, {})[target.name] = await _fan_out(target)


async def run_plain(target: Target, results: Results, list_bytes: int) -> None:
    """The rows that aiohttp alone can answer."""
    for row, count, request in (
        ("create a pod", WRITES, create),
        ("get a pod", GETS, get),
        ("update a pod", WRITES, update),
        ("server-side apply of a label", WRITES, apply),
        (f"list {PODS:,} pods", LISTS, listed(f"/bytes/{list_bytes}")),
    ):
        results[row][target.name] = await measured(target, count, request)


async def _fan_out(target: Target) -> Cost:
    """One change seen by every watcher: the CPU of one delivered event."""
    seen = started = 0
    done, all_open = asyncio.Event(), asyncio.Event()
    url = f"{target.url}{PATH}?watch=1&fieldSelector=metadata.name%3Dbeat"

    async def watch() -> None:
        nonlocal seen, started
        async with target.client.get(url) as got:
            started += 1
            if started == WATCHERS:
                all_open.set()
            async for _ in got.content:
                seen += 1
                if seen == WATCHERS * CHANGES:
                    done.set()

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(watch()) for _ in range(WATCHERS)]
        await asyncio.sleep(1)  # kube-apiserver sends no head before the first event
        if target.name == "meshkube":
            await all_open.wait()
        else:
            await asyncio.sleep(5)
        target.hold()
        before, at = target.cpu(), time.perf_counter()
        beat = pod(0)
        beat["metadata"]["name"] = "beat"
        await ask(target, "POST", PATH, beat)
        for number in range(CHANGES - 1):
            patch = {"metadata": {"annotations": {"beat": str(number)}}}
            await ask(target, "PATCH", f"{PATH}/beat", patch, **MERGE)
        await done.wait()
        events = WATCHERS * CHANGES
        rate = events / (time.perf_counter() - at)
        cost = Cost((target.cpu() - before) / events * 1e6, rate, target.hold())
        for task in tasks:
            task.cancel()
    return cost


async def _start_with_many(directory: Path) -> None:
    """How long a server takes to serve what a full store holds."""
    async with api_servers.session(directory) as client:
        with api_servers.ours(directory, client) as (target, _):
            for start in range(PODS, MANY, 1000):
                numbers = iter(range(start, start + 1000))

                async def worker(numbers: Any = numbers) -> None:
                    for number in numbers:
                        await create(target, number)

                async with asyncio.TaskGroup() as group:
                    for _ in range(CONNECTIONS):
                        group.create_task(worker())
    started = time.perf_counter()
    async with api_servers.session(directory) as client:
        with api_servers.ours(directory, client) as (target, _):
            await ask(target, "GET", name(0))
            seconds = time.perf_counter() - started
            print(
                f"start with {MANY:,} pods in the store: {seconds:.1f} s to the first answer, "
                f"{target.megabytes():.0f} MB resident, loop held {target.hold():.0f} ms"
            )


def _rows(results: Results) -> list[list[object]]:
    rows: list[list[object]] = []
    for row, costs in results.items():
        own, plain, peer = (costs.get(n) for n in ("meshkube", "aiohttp", "kube-apiserver"))
        assert own is not None
        rows.append(
            [
                row,
                round(own.micros),
                round(plain.micros) if plain else "",
                round(peer.micros) if peer else "",
                f"{peer.micros / own.micros:.2f} x" if peer else "",
                round(own.rate),
                f"{own.hold:.0f} ms" if own.hold is not None else "",
            ]
        )
    return rows


async def main(*, peer: bool, many: bool) -> None:
    """Prints the table."""
    results: Results = {}
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        await asyncio.to_thread(api_servers.keys, directory)
        client = await stack.enter_async_context(api_servers.session(directory))
        with api_servers.ours(directory, client) as (own, plain):
            await run(own, results)
            size = len(await ask(own, "GET", PATH))
            await run_plain(plain, results, size)
            await api_holds.measure(own)
        why = "left out" if not peer else await asyncio.to_thread(api_servers.why_no_peer)
        if why:
            print(f"kube-apiserver is not measured: {why}")
        else:
            async with api_servers.kube_apiserver(directory, client) as other:
                await run(other, results)
        if many:
            await _start_with_many(directory)
    header = ["", "µs of CPU", "aiohttp", "kube-apiserver", "its CPU to ours", "a second", "hold"]
    harness.print_table("API server: CPU of one request, TLS", header, _rows(results))


if __name__ == "__main__":
    uvloop.run(main(peer="--no-peer" not in sys.argv, many="--no-many" not in sys.argv))
