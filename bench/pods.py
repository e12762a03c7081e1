"""From apply to Ready for one pod, beside `docker run` of the same two containers, in turns."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import subprocess
import sys
import time

from bench import harness
from meshkube.api.kinds import POD
from meshkube.api.types import Object
from meshkube.client.http import HttpClient
from tests.lab.cluster import IMAGE, running_cluster

ROUNDS = 8
BAR_MILLISECONDS = 200
COMMAND = ["sleep", "9999"]


async def apply_to_running(client: HttpClient, name: str) -> float:
    """Milliseconds from the request to the status that says Ready."""
    container = {"name": "main", "image": IMAGE, "command": COMMAND}
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "terminationGracePeriodSeconds": 0},
    }
    begun = time.monotonic()
    made = await client.create(POD, pod)
    version = made["metadata"]["resourceVersion"]
    events = client.watch(POD, "default", fields=f"metadata.name={name}", resource_version=version)
    async with contextlib.aclosing(events):
        async for event in events:
            if event.object.get("status", {}).get("phase") == "Running":
                break
    taken = (time.monotonic() - begun) * 1000
    await client.delete(POD, name, "default", grace_period=0)
    return taken


def docker_run(engine: str, name: str) -> float:
    """Milliseconds of `docker run` for a container and one that joins its network."""
    begun = time.monotonic()
    _docker(engine, "run", "-d", f"--name={name}-a", "--network=meshkube", IMAGE, *COMMAND)
    _docker(
        engine, "run", "-d", f"--name={name}-b", f"--network=container:{name}-a", IMAGE, *COMMAND
    )
    taken = (time.monotonic() - begun) * 1000
    _docker(engine, "rm", "-f", f"{name}-a", f"{name}-b")
    return taken


def _docker(engine: str, *arguments: str) -> None:
    command = ["docker", "--host", engine, *arguments]
    subprocess.run(command, check=True, capture_output=True)


async def measure(kubeconfig: str, engine: str) -> tuple[list[float], list[float]]:
    """Both, in turns, so that the machine's moods meet both."""
    pods, runs = [], []
    async with HttpClient.from_kubeconfig(kubeconfig) as client:
        for number in range(ROUNDS):
            pods.append(await apply_to_running(client, f"pod-{number}"))
            await asyncio.sleep(0.5)
            runs.append(await asyncio.to_thread(docker_run, engine, f"run-{number}"))
            await asyncio.sleep(0.5)
    return pods, runs


def inside(kubeconfig: str, engine: str) -> None:
    """Measures and prints, in the network of the test host."""
    pods, runs = asyncio.run(measure(kubeconfig, engine))
    rows: list[list[object]] = [
        ["docker run, two containers", min(runs), statistics.median(runs)],
        ["pod: apply to Running", min(pods), statistics.median(pods)],
        ["difference", min(pods) - min(runs), statistics.median(pods) - statistics.median(runs)],
    ]
    harness.print_table(
        f"One pod, in milliseconds (bar: docker run and at most {BAR_MILLISECONDS} more)",
        ["what", "least", "median"],
        rows,
    )


def main() -> int:
    """Starts a cluster on a test host, and measures there."""
    missing = harness.absent("dockerd", "docker", "nft", "nsenter", "busybox")
    if missing:
        print(f"bench.pods: skipped: not on this machine: {', '.join(missing)}")
        return 0
    with running_cluster() as cluster:
        again = (sys.executable, "-m", "bench.pods", cluster.kubeconfig, cluster.host.docker_socket)
        return subprocess.run(cluster.host.command(*again), check=False).returncode


if __name__ == "__main__":
    if len(sys.argv) == 3:
        inside(sys.argv[1], sys.argv[2])
        sys.exit(0)
    sys.exit(main())
