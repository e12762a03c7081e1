"""One node with many real pods: 50 at once beside `docker run` of the same containers, a Deployment
of 100 brought up and rolled, and what the daemon takes while 100 pods do nothing.

`.venv/bin/python -m bench.full_node`, as root, on a test host with a Docker Engine of its own.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from bench import harness
from bench.pods import COMMAND
from meshkube.api.kinds import DEPLOYMENT, POD
from meshkube.api.types import Object
from meshkube.client.http import HttpClient
from tests.lab.cluster import IMAGE, running_cluster

AT_ONCE = 50
REPLICAS = 100
SIDE_BY_SIDE = 8
"""Commands of `docker run` under way together: more makes the Engine no faster."""
IDLE_SECONDS = 20
LIMIT = 240


def pod_spec(text: str) -> Object:
    container = {
        "name": "main",
        "image": IMAGE,
        "command": COMMAND,
        "env": [{"name": "TEXT", "value": text}],
    }
    return {"containers": [container], "terminationGracePeriodSeconds": 0}


async def pods_at_once(client: HttpClient) -> float:
    """Seconds until all that were created together run."""
    names = [f"many-{number}" for number in range(AT_ONCE)]
    begun = time.monotonic()
    await asyncio.gather(
        *(
            client.create(
                POD,
                {
                    "apiVersion": "v1",
                    "kind": "Pod",
                    "metadata": {"name": name, "namespace": "default"},
                    "spec": pod_spec("many"),
                },
            )
            for name in names
        )
    )
    async with asyncio.timeout(LIMIT):
        while True:
            found = await client.list(POD, "default")
            if sum(pod["status"].get("phase") == "Running" for pod in found.items) == AT_ONCE:
                break
            await asyncio.sleep(0.1)
    taken = time.monotonic() - begun
    await asyncio.gather(*(client.delete(POD, n, "default", grace_period=0) for n in names))
    async with asyncio.timeout(LIMIT):
        while True:
            if not (await client.list(POD, "default")).items:
                return taken
            await asyncio.sleep(0.5)


def containers_at_once(engine: str) -> float:
    """Seconds of `docker run` for as many pairs of containers that share a network."""

    def docker(*arguments: str) -> None:
        command = ["docker", "--host", engine, *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def pair(number: int) -> None:
        first = f"run-{number}-a"
        docker("run", "-d", f"--name={first}", "--network=meshkube", IMAGE, *COMMAND)
        network = f"--network=container:{first}"
        docker("run", "-d", f"--name=run-{number}-b", network, IMAGE, *COMMAND)

    begun = time.monotonic()
    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        list(threads.map(pair, range(AT_ONCE)))
    taken = time.monotonic() - begun
    names = [f"run-{number}-{side}" for number in range(AT_ONCE) for side in "ab"]
    docker("rm", "-f", *names)
    return taken


async def deployment(client: HttpClient) -> tuple[float, float]:
    """(seconds until 100 replicas are available, seconds to roll them all)."""
    labels = {"app": "full"}
    obj: Object = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "full", "namespace": "default"},
        "spec": {
            "replicas": REPLICAS,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 5, "maxUnavailable": "25%"}},
            "template": {"metadata": {"labels": labels}, "spec": pod_spec("one")},
        },
    }
    begun = time.monotonic()
    await client.create(DEPLOYMENT, obj)
    await _rolled(client, 1)
    up = time.monotonic() - begun
    begun = time.monotonic()
    patch = {"spec": {"template": {"spec": pod_spec("two")}}}
    await client.patch(DEPLOYMENT, "full", patch, "default")
    await _rolled(client, 2)
    return up, time.monotonic() - begun


async def _rolled(client: HttpClient, generation: int) -> None:
    async with asyncio.timeout(LIMIT):
        while True:
            found = await client.get(DEPLOYMENT, "full", "default")
            status = found.get("status") or {}
            if (
                status.get("observedGeneration", 0) >= generation
                and status.get("updatedReplicas") == REPLICAS
                and status.get("availableReplicas") == REPLICAS
                and status.get("replicas") == REPLICAS
            ):
                return
            await asyncio.sleep(0.2)


async def measure(kubeconfig: str, engine: str, daemon: int) -> None:
    """Prints the tables."""
    async with HttpClient.from_kubeconfig(kubeconfig) as client:
        rows = []
        for _ in range(2):
            runs = await asyncio.to_thread(containers_at_once, engine)
            pods = await pods_at_once(client)
            rows.append([pods, runs, pods - runs])
        header = ["pods, s", "docker run, s", "difference, s"]
        harness.print_table(f"{AT_ONCE} pods at once, two containers each", header, rows)
        up, rolled = await deployment(client)
        header = ["available, s", "rolled, s"]
        harness.print_table(f"A Deployment of {REPLICAS}", header, [[up, rolled]])
        await asyncio.sleep(10)
        before = harness.cpu_seconds(daemon)
        await asyncio.sleep(IDLE_SECONDS)
        used = (harness.cpu_seconds(daemon) - before) / IDLE_SECONDS * 100
        header = ["% of a core", "MB"]
        idle = [[used, harness.resident_megabytes(daemon)]]
        harness.print_table(f"The daemon with {REPLICAS} idle pods", header, idle)


def main() -> int:
    """Starts a cluster on a test host, and measures there."""
    missing = harness.absent("dockerd", "docker", "nft", "nsenter", "busybox")
    if missing:
        print(f"bench.full_node: skipped: not on this machine: {', '.join(missing)}")
        return 0
    with running_cluster() as cluster:
        assert cluster.server is not None
        command = [sys.executable, "-m", "bench.full_node", cluster.kubeconfig]
        again = [*command, cluster.host.docker_socket, str(cluster.server.pid)]
        return subprocess.run(cluster.host.command(*again), check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) == 4:
        asyncio.run(measure(sys.argv[1], sys.argv[2], int(sys.argv[3])))
        sys.exit(0)
    sys.exit(main())
