"""From the start of `meshkube server` to its first answers, and what it costs when nothing happens.

On a test host of its own with real Docker and the quickstart's pods, whose image is present. A cold
start has an empty data directory and no pods; a warm one finds both. The bars stand beside what
minikube's own published comparison says of k3d, kind and minikube, and k3s' documents of k3s.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable

from bench import harness
from tests.lab.cluster import QUICKSTART, Cluster
from tests.lab.host import lab

IDLE_SECONDS = 60
ROUNDS = 3
BAR_START, BAR_MEGABYTES, BAR_CPU = 3.0, 120.0, 0.5
PUBLISHED = [["k3d", 19.9], ["kind", 33.0], ["minikube", 50.8]]


def seconds_until(cluster: Cluster, answers: Callable[[], bool], limit: float = 60) -> float:
    """Starts the daemon; seconds until `answers` is true."""
    begun = time.monotonic()
    cluster.server = cluster.host.start(*cluster.command, log="meshkube.log")
    while not answers():
        if time.monotonic() - begun > limit:
            raise TimeoutError(cluster.log[-3000:])
        time.sleep(0.02)
    return time.monotonic() - begun


def ingress_and_dns(cluster: Cluster) -> bool:
    """True once the application answers through the ingress, and its name is known."""
    answer = cluster.curl("http://shop.example/user", "-f", "-m", "1", check=False)
    if answer.returncode != 0:
        return False
    name = "user.shop.svc.cluster.local"
    asked = cluster.host.run(
        "dig", "+short", "+tries=1", "+time=1", "@10.43.0.10", name, check=False
    )
    return bool(asked.stdout.strip())


def cold(cluster: Cluster) -> float:
    """An empty host: until the application, applied as soon as the API takes it, answers."""

    def answers() -> bool:
        if not applied and cluster.ready():
            cluster.meshkube("apply", "-f", str(QUICKSTART / "namespace.yaml"))
            cluster.meshkube("apply", "-f", str(QUICKSTART))
            applied.append(True)
        return bool(applied) and ingress_and_dns(cluster)

    applied: list[bool] = []
    return seconds_until(cluster, answers)


def idle(cluster: Cluster) -> tuple[float, float]:
    """(MB resident, percent of a core) of the daemon while nothing happens."""
    assert cluster.server is not None
    pid = cluster.server.pid
    time.sleep(10)
    before = harness.cpu_seconds(pid)
    time.sleep(IDLE_SECONDS)
    used = harness.cpu_seconds(pid) - before
    return harness.resident_megabytes(pid), used / IDLE_SECONDS * 100


def main() -> int:
    """Prints the tables."""
    missing = harness.absent("dockerd", "docker", "nft", "curl", "dig", "nsenter", "busybox")
    if missing:
        print(f"bench.start: skipped: not on this machine: {', '.join(missing)}")
        return 0
    with lab(1, docker=True) as (host,):
        cluster = Cluster(host, f"--docker={host.docker_socket}")
        cluster.build_image()
        ready = []
        for _ in range(ROUNDS):
            ready.append(seconds_until(cluster, cluster.ready))
            megabytes, percent = (0.0, 0.0) if len(ready) < ROUNDS else idle(cluster)
            cluster.stop()
            shutil.rmtree(cluster.data_dir)
        whole = cold(cluster)
        with_pods = idle(cluster)
        cluster.stop()
        warm = min(_again(cluster) for _ in range(ROUNDS))
    rows = [
        ["meshkube, empty host, every part ready", min(ready)],
        ["meshkube, running pods found, ingress and DNS answer", warm],
        ["meshkube, empty host, two applications applied and answering", whole],
        *PUBLISHED,
    ]
    harness.print_table(
        f"Start, in seconds (bar: {BAR_START:.0f} s; below the line: minikube's published table)",
        ["what", "seconds"],
        rows,
    )
    harness.print_table(
        f"Idle, one process for all (bars: {BAR_MEGABYTES:.0f} MB, {BAR_CPU} % of a core)",
        ["what", "MB resident", "% of a core"],
        [
            ["empty", megabytes, percent],
            ["4 pods with probes", *with_pods],
            ["k3s (its docs)", 500, 5],
        ],
    )
    return 0


def _again(cluster: Cluster) -> float:
    taken = seconds_until(cluster, lambda: ingress_and_dns(cluster))
    cluster.stop()
    return taken


if __name__ == "__main__":
    sys.exit(main())
