"""The ingress' latency while 2,000 pods come and go in the API, beside itself at rest.

`.venv/bin/python -m bench.churn [--seconds S] [--workers N]`, as root. One `meshkube server` on a
test host holds everything: the API, the controllers, 40 Services over 2,000 pods of which each is
replaced once a minute (deleted, made anew, made ready), and the ingress. 16 clients ask it 50 times
a second each, in turns at rest and in the churn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import re
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

from bench import harness
from meshkube.api.kinds import ENDPOINT_SLICE, INGRESS, POD, SERVICE
from meshkube.api.types import Object
from meshkube.client.http import HttpClient
from tests.lab.cluster import running_cluster

PODS, SERVICES = 2000, 40
REPLACED_A_SECOND = PODS / 60
ROUNDS, WORKERS = 3, 4
BAR = 3.0
SPACE = "default"
PACE = "function delay() return 20 end\n"


def pod(number: int) -> Object:
    """A pod of one of the Services, that nobody schedules: its state is ours to set."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"pod-{number}",
            "namespace": SPACE,
            "labels": {"app": f"app-{number % SERVICES}"},
        },
        "spec": {
            "schedulerName": "nobody",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "x"}],
        },
    }


def ready(number: int) -> Object:
    address = f"10.42.{number // 250 % 250 + 1}.{number % 250 + 2}"
    return {
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }
    }


def service(name: str, **spec: object) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {"ports": [{"port": 80}], **spec},
    }


async def make(client: HttpClient, number: int) -> None:
    await client.create(POD, pod(number))
    await client.patch(POD, f"pod-{number}", ready(number), SPACE, subresource="status")


async def prepare(client: HttpClient, address: str, port: int) -> None:
    """The Services and their pods, and the one Ingress that is asked."""
    await client.create(SERVICE, service("web"))
    await client.create(
        ENDPOINT_SLICE,
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "web-1",
                "namespace": SPACE,
                "labels": {"kubernetes.io/service-name": "web"},
            },
            "addressType": "IPv4",
            "ports": [{"port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        },
    )
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    await client.create(
        INGRESS,
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "web", "namespace": SPACE},
            "spec": {"ingressClassName": "meshkube", "rules": [{"http": {"paths": paths}}]},
        },
    )
    for number in range(SERVICES):
        await client.create(
            SERVICE, service(f"app-{number}", selector={"app": f"app-{number}"}, clusterIP="None")
        )
    for start in range(0, PODS, 20):
        await asyncio.gather(*(make(client, start + number) for number in range(20)))


@contextlib.asynccontextmanager
async def churn(client: HttpClient) -> AsyncIterator[list[int]]:
    """Replaces pod after pod, a few at a time; the list holds those replaced so far."""
    done: list[int] = []
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    turns = itertools.count()

    async def replace() -> None:
        while not stop.is_set():
            turn = next(turns)
            await asyncio.sleep(begun + turn / REPLACED_A_SECOND - loop.time())
            await client.delete(POD, f"pod-{turn % PODS}", SPACE, grace_period=0)
            await make(client, turn % PODS)
            done.append(turn)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(replace())
        try:
            yield done
        finally:
            stop.set()


async def latencies(script: str, seconds: float) -> tuple[float, float]:
    """`(p50, p99)` in milliseconds."""
    process = await asyncio.create_subprocess_exec(
        *("wrk", "-t1", "-c16", f"-d{seconds:g}s", "--latency", f"-s{script}", "http://127.0.0.1/"),
        stdout=subprocess.PIPE,
    )
    out = (await process.communicate())[0].decode()
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"requests failed:\n{out}")
    return _milliseconds(out, "50%"), _milliseconds(out, "99%")


def _milliseconds(out: str, row: str) -> float:
    match = re.search(rf"{row}\s+([\d.]+)(us|ms|s)", out)
    assert match is not None, out
    return float(match[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[match[2]]


async def measure(kubeconfig: str, address: str, port: int, script: str, seconds: float) -> None:
    rest, busy, replaced = [], [], 0
    async with HttpClient.from_kubeconfig(kubeconfig) as client:
        await prepare(client, address, port)
        await asyncio.sleep(3)
        for _ in range(ROUNDS):
            rest.append(await latencies(script, seconds))
            async with churn(client) as done:
                busy.append(await latencies(script, seconds))
                replaced += len(done)
            await asyncio.sleep(1)
    rows: list[list[object]] = [
        [name, statistics.median(p50 for p50, _ in found), statistics.median(p for _, p in found)]
        for name, found in (("at rest", rest), ("in the churn", busy))
    ]
    harness.print_table("ingress, milliseconds at 800 requests a second", ("", "p50", "p99"), rows)
    ratio = statistics.median(p for _, p in busy) / statistics.median(p for _, p in rest)
    print(f"  {replaced / ROUNDS / seconds:.0f} pods replaced a second, of {PODS}")
    met = "met" if ratio <= BAR else "NOT met"
    print(f"  bar: p99 at most {BAR:g} x itself at rest; measured {ratio:.2f}: {met}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run of wrk")
    parser.add_argument("--workers", type=int, default=0, help="of the ingress; 0: the daemon")
    options = parser.parse_args()
    if missing := harness.absent("wrk", "nginx", "nft"):
        raise SystemExit(f"this needs {', '.join(missing)}")
    with running_cluster(f"--ingress-workers={options.workers}", docker=False) as cluster:
        host, port = cluster.host, 8088
        directory: Path = host.directory
        (directory / "pace.lua").write_text(PACE)
        (directory / "origin.conf").write_text(
            f"worker_processes 1; daemon off; pid {directory}/origin.pid; events {{ }} http {{"
            " access_log off; keepalive_requests 1000000000; server {"
            f' listen 0.0.0.0:{port}; location / {{ return 200 "hello world\\n"; }} }} }}'
        )
        host.start("nginx", "-e", "stderr", "-c", str(directory / "origin.conf"), log="origin.log")
        root = Path(__file__).resolve().parents[1]
        arguments = [cluster.kubeconfig, host.address, str(port), str(directory / "pace.lua")]
        command = [sys.executable, "-m", "bench.churn", "inside", *arguments]
        subprocess.run(
            host.command(*command, str(options.seconds)), cwd=root, check=True, timeout=600
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["inside"]:
        kubeconfig, address, port, script, seconds = sys.argv[2:7]
        asyncio.run(measure(kubeconfig, address, int(port), script, float(seconds)))
    else:
        main()
