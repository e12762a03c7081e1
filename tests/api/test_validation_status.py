"""Faults of a new status."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.validation import validate_status_update

ENDED = {"name": "c", "state": {"terminated": {"exitCode": 0}}}
FAILED = {"name": "c", "state": {"terminated": {"exitCode": 1}}}
RUNNING = {"name": "c", "state": {"running": {}}}
AGAIN = (
    "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
)


def faults(
    kind: Kind, old: dict[str, Any], new: dict[str, Any], spec: dict[str, Any] | None = None
) -> list[str]:
    meta = {"name": "x", **({"namespace": "default"} if kind.namespaced else {})}
    objects = [{"metadata": meta, "spec": spec or {}, "status": each} for each in (new, old)]
    return [str(fault) for fault in validate_status_update(kind, *objects)]


@pytest.mark.parametrize(
    ("kind", "old", "new", "wanted"),
    [
        (kinds.DEPLOYMENT, {}, {"replicas": 2, "readyReplicas": 2, "availableReplicas": 1}, []),
        (
            kinds.DEPLOYMENT,
            {"collisionCount": 2},
            {"replicas": 1, "readyReplicas": 2, "collisionCount": 1},
            [
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
                "status.collisionCount: Invalid value: 1: cannot be decremented",
            ],
        ),
        (
            kinds.REPLICA_SET,
            {},
            {"replicas": 1, "readyReplicas": -1},
            [
                "status.readyReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.availableReplicas: Invalid value: 0: cannot be greater than readyReplicas",
            ],
        ),
        (kinds.POD, {"qosClass": "Burstable"}, {"qosClass": "Burstable"}, []),
        (
            kinds.POD,
            {"qosClass": "Burstable"},
            {"qosClass": "Guaranteed"},
            ['status.qosClass: Invalid value: "Guaranteed": field is immutable'],
        ),
        (
            kinds.POD,
            {"podIPs": [{"ip": "old"}]},
            {"podIPs": [{"ip": "old"}, {"ip": "new"}]},
            [
                'status.podIPs[1]: Invalid value: "new": must be a valid IP address, (e.g. 10.9.8.7'
                " or 2001:db8::ffff)"
            ],
        ),
        (
            kinds.INGRESS,
            {},
            {"loadBalancer": {"ingress": [{"hostname": "10.0.0.1"}]}},
            [
                'status.loadBalancer.ingress[0].hostname: Invalid value: "10.0.0.1": must be a DNS'
                " name, not an IP address"
            ],
        ),
        (kinds.NAMESPACE, {"phase": "Active"}, {"phase": "Active"}, []),
        (
            kinds.NAMESPACE,
            {"phase": "Active"},
            {"phase": "Terminating"},
            [
                "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if"
                " `deletionTimestamp` is empty"
            ],
        ),
        (
            kinds.NODE,
            {},
            {"capacity": {"cpu": "-1"}},
            ['status.capacity.cpu: Invalid value: "-1": must be greater than or equal to 0'],
        ),
        (kinds.LEASE, {}, {}, []),
    ],
)
def test_status(kind: Kind, old: dict[str, Any], new: dict[str, Any], wanted: list[str]) -> None:
    assert faults(kind, old, new) == wanted


@pytest.mark.parametrize(
    ("policy", "before", "wanted"),
    [
        ("Always", ENDED, []),
        ("Never", ENDED, [AGAIN]),
        ("OnFailure", ENDED, [AGAIN]),
        ("OnFailure", FAILED, []),
        ("Never", RUNNING, []),
    ],
)
def test_a_container_that_ended_for_good_does_not_run_again(
    policy: str, before: dict[str, Any], wanted: list[str]
) -> None:
    old, new = {"containerStatuses": [before]}, {"containerStatuses": [RUNNING]}
    assert faults(kinds.POD, old, new, {"restartPolicy": policy}) == wanted


def test_only_load_balancers_have_load_balancer_addresses() -> None:
    status = {"loadBalancer": {"ingress": [{"ip": "10.0.0.1", "ipMode": "VIP"}]}}
    assert faults(kinds.SERVICE, {}, status, {"type": "LoadBalancer"}) == []
    assert faults(kinds.SERVICE, {}, status, {"type": "ClusterIP"}) == [
        "status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is"
        " 'LoadBalancer'"
    ]
