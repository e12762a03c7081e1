"""Thousands of hollow pods on a hundred hollow nodes: how fast they settle, and the API meanwhile.

`.venv/bin/python -m bench.scale [PODS]`, as root; 2,000 pods by default. One server holds the API,
the controllers and the scheduler; the nodes' agents run in a process of their own, over HTTPS, with
runtimes that start nothing. While Deployments of 100 pods each come up, a client reads or writes
one of many ConfigMaps 20 times a second, as at rest before. At the end one Deployment is rolled.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import uvloop

from bench import harness
from meshkube import log
from meshkube.api.errors import ApiError
from meshkube.api.kinds import CONFIG_MAP, DEPLOYMENT, NODE
from meshkube.api.types import Object
from meshkube.client.http import HttpClient
from meshkube.control.auth.users import NODE_PREFIX, NODES
from meshkube.node.agent import NodeAgent
from meshkube.node.hollow import HollowRuntime
from tests.lab.cluster import running_cluster

EACH = 100
PODS_OF_A_NODE = 105
PERIOD, PROBES = 0.05, 100
REST_SECONDS, IDLE_SECONDS = 5, 15
LIMIT_SECONDS = 400
LEAST = 0.02
COUNTED = {
    "meshkube_api_requests_total": "requests over HTTP",
    "meshkube_api_changes_total": "changes in the store",
    "meshkube_api_watch_events_total": "events told to watches",
}
TOLD_SECONDS = 10
SPACE = "default"


def deployment(number: int) -> Object:
    labels = {"app": f"app-{number}"}
    container = {
        "name": "main",
        "image": "hollow:1",
        "resources": {"requests": {"cpu": "1m", "memory": "1Mi"}},
    }
    strategy = {"rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"app-{number}", "namespace": SPACE},
        "spec": {
            "replicas": EACH,
            "selector": {"matchLabels": labels},
            "strategy": strategy,
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
            },
        },
    }


async def agents(kubeconfig: str, count: int) -> None:
    """Nodes, until this process is ended. Each is a user of its own, as real ones are."""
    log.set_up("text", "WARNING")
    with tempfile.TemporaryDirectory() as directory:
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for number in range(count):
                # Each with connections of its own, as on a host of its own.
                opened = HttpClient.from_kubeconfig(kubeconfig)
                client = await stack.enter_async_context(opened)
                agent = NodeAgent(
                    client=client.acting_as(f"{NODE_PREFIX}hollow-{number}", NODES),
                    runtime=HollowRuntime(),
                    node_name=f"hollow-{number}",
                    node_ip=f"10.99.{number // 250}.{number % 250 + 1}",
                    data_dir=Path(directory) / str(number),
                    cluster_dns="",
                )
                group.create_task(agent.run(lambda: None))


@contextlib.asynccontextmanager
async def probing(client: HttpClient, pid: int) -> AsyncIterator[list[tuple[float, float]]]:
    """Milliseconds of each read and each write of one object, on the clock and of the time that the
    server's main thread worked meanwhile: what it would be where nobody else uses the machine."""
    taken: list[tuple[float, float]] = []

    async def one(number: int) -> None:
        started, worked = time.perf_counter(), harness.thread_seconds(pid)
        name = f"probe-{number % PROBES}"
        with contextlib.suppress(ApiError):  # no answer at all counts for as long as that took
            if number % 2:
                await client.get(CONFIG_MAP, name, SPACE)
            else:
                await client.patch(CONFIG_MAP, name, {"data": {"n": str(number)}}, SPACE)
        worked = harness.thread_seconds(pid) - worked
        taken.append(((time.perf_counter() - started) * 1000, worked * 1000))

    async def ask() -> None:
        number = 0
        while True:
            group.create_task(one(number))
            number += 1
            await asyncio.sleep(PERIOD)

    async with asyncio.TaskGroup() as group:
        asking = group.create_task(ask())
        try:
            yield taken
        finally:
            asking.cancel()


async def joined(client: HttpClient, count: int) -> None:
    """Waits until there are so many nodes, and a moment longer."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline:
        if len((await client.list(NODE)).items) >= count:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(3)


async def settled(client: HttpClient, count: int) -> int:
    """Waits until all Deployments have all of their pods, new and ready, and no other, or for
    `LIMIT_SECONDS`; gives how many are ready, and tells of them on stderr meanwhile."""
    started = told = time.monotonic()
    while True:
        found = (await client.list(DEPLOYMENT, SPACE, resource_version="0")).items
        ready = sum(map(_ready, found))
        now = time.monotonic()
        if ready == count * EACH or now - started > LIMIT_SECONDS:
            return ready
        if now - told >= TOLD_SECONDS:
            told = now
            print(f"{now - started:.0f} s: {ready} of {count * EACH}", file=sys.stderr, flush=True)
        await asyncio.sleep(0.2)


def _ready(deployment: Object) -> int:
    status = deployment.get("status") or {}
    if status.get("observedGeneration") != deployment["metadata"]["generation"]:
        return 0
    if status.get("replicas") != EACH:
        return 0
    return min(int(status.get(of) or 0) for of in ("updatedReplicas", "readyReplicas"))


async def measure(kubeconfig: str, pid: int, nodes: int, count: int) -> None:
    """Prints, in the network of the test host."""
    async with HttpClient.from_kubeconfig(kubeconfig) as client:
        for number in range(PROBES):
            about = {"name": f"probe-{number}", "namespace": SPACE}
            await client.create(CONFIG_MAP, {"metadata": about, "data": {}})
        await joined(client, nodes + 1)
        async with probing(client, pid) as rest:
            await asyncio.sleep(REST_SECONDS)
        empty, cpu, started = harness.resident_megabytes(pid), harness.cpu_seconds(pid), time.time()
        before = await counted(client)
        async with probing(client, pid) as busy:
            for number in range(count):
                await client.create(DEPLOYMENT, deployment(number))
            pods = await settled(client, count) or 1
            seconds = time.time() - started
        after = await counted(client)
        used, full = harness.cpu_seconds(pid) - cpu, harness.resident_megabytes(pid)
        of = "" if pods == count * EACH else f" (of {count * EACH:,}: the limit)"
        rows: list[list[object]] = [
            [
                f"{pods:,} pods{of} of {count} Deployments, from apply to ready",
                round(seconds, 1),
                "s",
            ],
            ["the same, pods a second", round(pods / seconds), ""],
            ["the server's CPU for each pod", round(used / pods * 1000, 1), "ms"],
            ["the server's memory before", round(empty), "MB"],
            ["and for each pod", round((full - empty) / pods * 1000, 1), "kB"],
            ["API at rest, p50 and p99", _pair(wall for wall, _ in rest), "ms"],
            ["API meanwhile, p50 and p99", _pair(wall for wall, _ in busy), "ms"],
            ["the server's main thread worked meanwhile", _pair(own for _, own in busy), "ms"],
        ]
        if not of:
            rows += await _afterwards(client, pid, count)
    harness.print_table(f"{nodes} hollow nodes", ["what", "", ""], rows)
    each = {what: (after[what] - before.get(what, 0)) / pods for what in after}
    most = sorted(each.items(), key=lambda one: one[0][:11] + f"{99999 - one[1]:011.3f}")
    counts = [[what, f"{count:.2f}"] for what, count in most if count >= LEAST]
    harness.print_table("for each pod", ["what", "how many"], counts)


async def counted(client: HttpClient) -> dict[str, float]:
    """Requests, changes in the store and events told to watches, so far, by resource."""
    text = (await client.get_raw("/metrics")).decode()
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.rpartition(" ")
        family = COUNTED.get(name.partition("{")[0])
        if family:
            labels = dict(re.findall(r'(\w+)="([^"]*)"', name))
            what = f"{family}: {labels.get('verb', '')} {labels['resource']}".replace("  ", " ")
            found[what] = found.get(what, 0) + float(value)
    return found


async def _afterwards(client: HttpClient, pid: int, count: int) -> list[list[object]]:
    """One of the Deployments rolled, and then nothing."""
    changed = deployment(0)["spec"]["template"]
    changed["metadata"]["annotations"] = {"rolled": "yes"}
    started = time.time()
    await client.patch(DEPLOYMENT, "app-0", {"spec": {"template": changed}}, SPACE)
    await settled(client, count)
    rolled = round(time.time() - started, 1)
    await asyncio.sleep(5)
    cpu = harness.cpu_seconds(pid)
    await asyncio.sleep(IDLE_SECONDS)
    idle = (harness.cpu_seconds(pid) - cpu) / IDLE_SECONDS * 100
    return [
        [f"a Deployment of {EACH} rolled", rolled, "s"],
        ["idle with all of them", round(idle, 1), "% of a core"],
    ]


def _pair(taken: Iterable[float]) -> str:
    parts = statistics.quantiles(taken, n=100)
    return f"{parts[49]:.1f}, {parts[98]:.0f}"


def main(pods: int) -> int:
    missing = harness.absent("nft", "nsenter")
    if missing:
        print(f"bench.scale: skipped: not on this machine: {', '.join(missing)}")
        return 0
    count, nodes = pods // EACH, -(-pods // PODS_OF_A_NODE)
    with running_cluster("--disable=ingress", docker=False) as cluster:
        own, host = (sys.executable, "-m", "bench.scale"), cluster.host
        assert cluster.server is not None
        players = host.start(*own, "agents", cluster.kubeconfig, str(nodes), log="agents.log")
        numbers = (str(cluster.server.pid), str(nodes), str(count))
        done = subprocess.run(
            host.command(*own, "inside", cluster.kubeconfig, *numbers), check=False
        )
        host.stop(players)
        return done.returncode


if __name__ == "__main__":
    if sys.argv[1:2] == ["agents"]:
        uvloop.run(agents(sys.argv[2], int(sys.argv[3])))
    elif sys.argv[1:2] == ["inside"]:
        uvloop.run(measure(sys.argv[2], *map(int, sys.argv[3:6])))
    else:
        sys.exit(main(int(sys.argv[1]) if sys.argv[1:] else 2_000))
