"""The scheduler's rate at 1,000 nodes: what one decision takes, by what the pods ask for.

`python -m bench.scheduler [ROW]`. Pure: each pod is decided on what the ones before it took, as the
scheduler's loop does, without API. Two thirds of the pods are there before the clock runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from bench import harness
from meshkube.api.types import Object
from meshkube.control.scheduler.model import PodInfo, Snapshot
from meshkube.control.scheduler.schedule import schedule

NODES = 1000
ZONES = 10
BEFORE, MEASURED = 2000, 1000
APPS = 30
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
Spec = Callable[[str], Object]
"""What a pod of an app asks for, beside its requests."""


def node(number: int) -> Object:
    name = f"node-{number}"
    labels = {HOSTNAME: name, ZONE: f"zone-{number % ZONES}", "kubernetes.io/os": "linux"}
    room = {"cpu": "8", "memory": "32Gi", "pods": "110", "ephemeral-storage": "100Gi"}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {},
        "status": {"allocatable": room, "capacity": room},
    }


def pod(number: int, spec: Spec) -> Object:
    app = f"app-{number % APPS}"
    container = {
        "name": "main",
        "image": f"registry.example/{app}:1",
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    return {
        "metadata": {
            "name": f"pod-{number}",
            "namespace": "default",
            "uid": f"uid-{number}",
            "labels": {"app": app},
        },
        "spec": {"containers": [container], **spec(app)},
    }


def _term(app: str, key: str) -> Object:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key}


def _spread(key: str, when: str) -> Spec:
    return lambda app: {
        "topologySpreadConstraints": [
            {"maxSkew": 1, "whenUnsatisfiable": when, **_term(app, key)},
        ]
    }


ROWS: dict[str, Spec] = {
    "requests alone": lambda app: {},
    "a node selector": lambda app: {"nodeSelector": {ZONE: "zone-3"}},
    "node affinity, required and preferred": lambda app: {
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [
                            {"key": ZONE, "operator": "In", "values": ["zone-1", "zone-2"]}
                        ]}
                    ]
                },
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 5, "preference": {"matchExpressions": [
                        {"key": ZONE, "operator": "In", "values": ["zone-1"]}
                    ]}}
                ],
            }
        }
    },
    "spread over zones, required": _spread(ZONE, "DoNotSchedule"),
    "spread over hosts, preferred": _spread(HOSTNAME, "ScheduleAnyway"),
    "anti-affinity to its own app on a host": lambda app: {
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [_term(app, HOSTNAME)]
            }
        }
    },
    "affinity to its own app in a zone": lambda app: {
        "affinity": {
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [_term(app, ZONE)]}
        }
    },
    "anti-affinity preferred, as charts have it": lambda app: {
        "affinity": {
            "podAntiAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 100, "podAffinityTerm": _term(app, HOSTNAME)}
                ]
            }
        }
    },
    "fits nowhere": lambda app: {"nodeSelector": {ZONE: "none"}},
}  # fmt: skip


def measure(spec: Spec) -> tuple[float, float, int]:
    """Microseconds of CPU of a decision in the mean, the longest in ms, and how many found a
    node."""
    snapshot = Snapshot()
    for number in range(NODES):
        snapshot.set_node(node(number))
    known = snapshot.known()
    start = placed = 0
    longest = total = 0.0
    for number in range(BEFORE + MEASURED):
        content = pod(number, spec)
        begun = time.thread_time()
        info = PodInfo.of(content)
        decision = schedule(info, known, start, namespaces={"default": {}})
        start = (start + decision.looked_at) % NODES
        if decision.node:
            snapshot.assume(info, decision.node)
        if number >= BEFORE:
            taken = time.thread_time() - begun
            total, longest = total + taken, max(longest, taken)
            placed += bool(decision.node)
    return total / MEASURED * 1e6, longest * 1e3, placed


def main() -> None:
    rows: list[list[object]] = []
    for name, spec in ROWS.items():
        if sys.argv[1:] and not name.startswith(sys.argv[1]):
            continue
        micros, longest, placed = measure(spec)
        rows.append([name, round(micros), round(1e6 / micros), round(longest, 1), placed])
    harness.print_table(
        f"Scheduler: {MEASURED:,} pods after {BEFORE:,} on {NODES:,} nodes, one core",
        ["the pods ask for", "µs each", "a second", "longest, ms", "placed"],
        rows,
    )


if __name__ == "__main__":
    main()
