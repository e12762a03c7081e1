"""Connections through a cluster IP, with 10,000 Services loaded: beside the pod itself and beside a
chain per Service, in one run.

One test host with two pods. Client and server are small Python programs in the pods' network
namespaces: what counts is the ratio, on the same work. The first packet's way is what a connection
to a port costs more than one to the pod. Both tables are loaded, so each pays the other's lookup.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

from bench import harness
from bench import service_layouts as layouts
from meshkube.api.types import Object
from meshkube.dataplane import libnft, rules, script
from meshkube.dataplane.services import Settings
from tests.lab.host import lab
from tests.lab.pods import Pod, inside, pods

SERVICES = 10_000
ROUNDS = 7
CONNECTIONS = 1500
OURS, PEER = "10.64.250.1", "10.65.250.1"

_SERVER = """
import socket
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(("", 8080)); s.listen(1024)
print("ready", flush=True)
while True:
    c, _ = s.accept(); c.close()
"""
_CLIENT = """
import json, socket, struct, sys, time
place, count, took = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), []
began = time.perf_counter()
for _ in range(count):
    c = socket.socket(); at = time.perf_counter(); c.connect(place)
    took.append(time.perf_counter() - at)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)); c.close()
print(json.dumps([count / (time.perf_counter() - began), sorted(took)[count // 2] * 1e6]))
"""


def run(client: Pod, address: str, port: int) -> tuple[float, float]:
    """Connections a second, and the median microseconds that one takes to be made."""
    command = [
        "nsenter", f"--net=/run/netns/{client.namespace}", sys.executable, "-c", _CLIENT,
        address, str(port), str(CONNECTIONS),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rate, took = json.loads(done.stdout)
    return rate, took


def load(nft: libnft.Nft, backend: str) -> None:
    """Our layout and the peer's, side by side: what one translates, the other never sees."""
    services = [layouts.service(number) for number in range(SERVICES)]
    slices = [layouts.endpoint_slice(n, layouts.pods_of(n)) for n in range(SERVICES)]
    asked: Object = layouts.service(0)
    asked["metadata"]["name"], asked["spec"]["clusterIP"] = "asked", OURS
    answering = layouts.endpoint_slice(0, [backend])
    answering["metadata"]["labels"]["kubernetes.io/service-name"] = "asked"
    settings = Settings(
        node_name="h1",
        pod_cidrs=("10.42.0.0/16", layouts.PODS),
        service_cidrs=(layouts.CLUSTER,),
    )
    wanted = rules.compile([*services, asked], [*slices, answering], settings)
    nft.run(script.load(wanted, settings))
    peer = [
        *layouts.chain_per_service(SERVICES),
        "add chain ip peer endpoint-asked",
        f"add rule ip peer endpoint-asked meta l4proto tcp dnat to {backend}:8080",
        "add chain ip peer service-asked",
        "add rule ip peer service-asked numgen random mod 1 vmap { 0 : goto endpoint-asked }",
        f"add element ip peer service-ips {{ {PEER} . tcp . 80 : goto service-asked }}",
    ]
    nft.run("\n".join(peer))


def main() -> int:
    """Prints the table."""
    if os.geteuid() != 0 or harness.absent("nft"):
        print("bench.service_traffic: skipped: needs root and nft")
        return 0
    with lab(1) as (host,), pods(host, "10.42.0", 2) as (client, server):
        host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        command = ["nsenter", f"--net=/run/netns/{server.namespace}", sys.executable, "-c", _SERVER]
        serving = subprocess.Popen(command, stdout=subprocess.PIPE)
        server.processes.append(serving)
        assert serving.stdout is not None
        serving.stdout.readline()
        with inside(host.name):
            load(libnft.Command(), server.address)
        ways = {
            "the pod itself": (server.address, 8080),
            "meshkube's cluster IP": (OURS, 80),
            "a chain per Service": (PEER, 80),
        }
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, place in ways.items():
                found[name].append(run(client, *place))
    medians = {
        name: tuple(statistics.median(each) for each in zip(*figures, strict=True))
        for name, figures in found.items()
    }
    direct = medians["the pod itself"]
    harness.print_table(
        f"Connections from a pod to a pod of its host, {SERVICES} Services loaded",
        ["way", "connections/s", "x", "to connect us", "more than directly us"],
        [
            [name, rate, rate / direct[0], took, took - direct[1]]
            for name, (rate, took) in medians.items()
        ],
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
