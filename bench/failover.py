"""A host dies, or its link to the store: how long until somebody leads, traffic moves and pods run.

On test hosts of this machine: three servers on an etcd member each, and an agent, as they come (no
time-out is shortened, save how long pods put up with a node that is away). Kubernetes' own defaults
stand beside: 15 s of lease for its leaders, 40 s until a silent node counts, 300 s for its pods.
"""

from __future__ import annotations

import sys
import time
from statistics import median

from bench import harness
from tests.lab.hosts import LEASE, Hosts, running_hosts
from tests.lab.node import Node
from tests.lab.shell import wait_for
from tests.lab.traffic import Traffic

ROUNDS = 5
TOLERATION = 5
"""Seconds; 300 by default."""
SERVICE = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"


def next_write(hosts: Hosts, old: Node) -> float:
    """Seconds from now until another leader has written its first object: the Lease."""
    began = time.monotonic()
    others = [node for node in hosts.servers if node is not old]

    def taken() -> bool:
        found = (node.read(LEASE, limit=1) for node in others)
        spec = (next((lease for lease in found if lease), None) or {}).get("spec") or {}
        return spec.get("holderIdentity") not in (None, "", old.name)

    wait_for(taken, 60, "the next leader's first write")
    return time.monotonic() - began


def leaders() -> list[list[object]]:
    """How soon another one leads, by what happened to the last."""
    rows: list[list[object]] = []
    with running_hosts() as hosts:
        for what, happen in (
            ("host's power lost, with its etcd member", Node.power_off),
            ("daemon cut off from every etcd member", Node.cut_from_store),
            ("daemon stopped in the middle (SIGSTOP)", Node.freeze),
        ):
            taken = []
            for _ in range(ROUNDS):
                old = hosts.wait_for_leader()
                happen(old)
                taken.append(next_write(hosts, old))
                hosts.heal()
                if not old.on:
                    hosts.revive(old)
                wait_for(hosts.all_ready, 60, "every node Ready")
            rows.append([what, median(taken), max(taken)])
    return rows


def ready_places(hosts: Hosts) -> set[str]:
    """The nodes of the endpoints that Services lead to."""
    found = (hosts.read(SERVICE) or {"items": []})["items"]
    return {
        endpoint["nodeName"]
        for piece in found
        if piece["metadata"]["labels"].get("kubernetes.io/service-name") == "user"
        for endpoint in piece.get("endpoints") or ()
        if endpoint["conditions"].get("ready")
    }


def moved() -> list[list[object]]:
    """A node dies under load through the ingress of the others."""
    with running_hosts(
        f"--default-toleration-seconds={TOLERATION}", agents=1, docker=True
    ) as hosts:
        hosts.api.apply_quickstart()
        place = hosts.pods("shop", "app.kubernetes.io/name=user")[0]["spec"]["nodeName"]
        dead = hosts.named(place)
        assert dead is not None
        urls = [f"http://{node.host.address}/user" for node in hosts.nodes if node is not dead]
        with Traffic(hosts.client, urls, rate=50, limit=30) as traffic:
            wait_for(lambda: len(traffic.pods()) == 2, 30, "answers of both pods")
            time.sleep(2)
            dead.power_off()
            died = time.monotonic()
            wait_for(lambda: place not in ready_places(hosts), 90, "the withdrawal")
            withdrawn = time.monotonic()
            wait_for(lambda: len(ready_places(hosts)) == 2, 120, "a pod elsewhere")
            elsewhere = time.monotonic()
            time.sleep(2)
        outcomes = [one for one in traffic.outcomes() if one.at >= died - 1]
    waited = [one for one in outcomes if one.took > 1]
    last = max((one.at for one in waited), default=died)
    return [
        ["withdrawn from every Service, after", withdrawn - died],
        [f"pods elsewhere, after (toleration {TOLERATION} s)", elsewhere - died],
        ["last request that waited for the dead host, after", last - died],
        ["slowest answer", max(one.took for one in outcomes)],
        ["requests that took longer than 1 s", len(waited)],
        ["requests failed", sum(bool(one.error) for one in outcomes)],
        ["requests in all", len(outcomes)],
    ]


def main() -> int:
    """Prints the tables."""
    missing = harness.absent("dockerd", "docker", "nft", "curl", "etcd", "nsenter", "busybox")
    if missing:
        print(f"bench.failover: skipped: not on this machine: {', '.join(missing)}")
        return 0
    harness.print_table(
        f"Seconds to the next leader's first write, {ROUNDS} rounds (bar: 3; Kubernetes: 15)",
        ["the leader's", "median", "longest"],
        leaders(),
    )
    harness.print_table(
        "A node with one of two pods dies under 50 requests a second through the other nodes",
        ["what", "seconds, or number"],
        moved(),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
