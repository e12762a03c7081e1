"""What objects use of quotas, and which quotas they fall under."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.control import amounts, quota

NOW = datetime(2026, 1, 10, 12, tzinfo=UTC)


def container(name: str = "c", **resources: Any) -> Object:
    return {"name": name, "resources": resources}


def pod(*containers: Object, status: Object | None = None, **spec: Any) -> Object:
    return {
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"containers": list(containers) or [container()], **spec},
        "status": status or {},
    }


def test_a_pod_asks_for_the_sum_or_for_what_it_needs_to_begin() -> None:
    spec = pod(
        container(requests={"cpu": "100m"}),
        container(requests={"cpu": "200m", "memory": "1Gi"}),
        initContainers=[
            container(requests={"cpu": "50m"}) | {"restartPolicy": "Always"},
            container(requests={"cpu": "2"}),
        ],
        overhead={"cpu": "10m"},
    )["spec"]
    assert amounts.of_pod(spec, "requests") == {"cpu": "2060m", "memory": "1Gi"}


def test_what_a_pod_uses() -> None:
    used = quota.usage(
        kinds.POD, pod(container(requests={"cpu": "1"}, limits={"memory": "2Gi"})), NOW
    )
    assert used == {
        "count/pods": "1",
        "pods": "1",
        "cpu": "1",
        "requests.cpu": "1",
        "limits.memory": "2Gi",
    }


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_pod_that_ended_is_only_counted(phase: str) -> None:
    assert quota.usage(kinds.POD, pod(status={"phase": phase}), NOW) == {"count/pods": "1"}


def test_services_and_claims() -> None:
    service = {"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}
    assert quota.usage(kinds.SERVICE, service, NOW) == {
        "count/services": "1",
        "services": "1",
        "services.nodeports": "2",
        "services.loadbalancers": "1",
    }
    claim = {
        "spec": {"storageClassName": "fast", "resources": {"requests": {"storage": "3Gi"}}},
    }
    used = quota.usage(kinds.PERSISTENT_VOLUME_CLAIM, claim, NOW)
    assert used["requests.storage"] == "3Gi"
    assert used["fast.storageclass.storage.k8s.io/requests.storage"] == "3Gi"
    assert used["fast.storageclass.storage.k8s.io/persistentvolumeclaims"] == "1"


BURSTABLE = pod(container(requests={"cpu": "1"}))
PLAIN = pod()
ENDING = pod(activeDeadlineSeconds=5)
HIGH = pod(priorityClassName="high")
AFFINITY = {
    "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"namespaces": ["x"]}]}
}


@pytest.mark.parametrize(
    ("spec", "matching", "other"),
    [
        ({"scopes": ["BestEffort"]}, PLAIN, BURSTABLE),
        ({"scopes": ["NotBestEffort"]}, BURSTABLE, PLAIN),
        ({"scopes": ["Terminating"]}, ENDING, PLAIN),
        ({"scopes": ["NotTerminating"]}, PLAIN, ENDING),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [
                        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
                    ]
                }
            },
            HIGH,
            PLAIN,
        ),
        ({"scopes": ["CrossNamespacePodAffinity"]}, pod(affinity=AFFINITY), PLAIN),
    ],
)
def test_scopes_tell_pods_apart(spec: Object, matching: Object, other: Object) -> None:
    assert quota.matches({"spec": spec}, kinds.POD, matching)
    assert not quota.matches({"spec": spec}, kinds.POD, other)
    assert not quota.matches({"spec": spec}, kinds.SERVICE, {})


def test_totals_are_of_what_is_limited_alone() -> None:
    uses = [quota.usage(kinds.POD, BURSTABLE, NOW)] * 3
    assert quota.total({"requests.cpu": "2", "pods": "9", "secrets": "1"}, uses) == {
        "requests.cpu": "3",
        "pods": "3",
        "secrets": "0",
    }


def test_containers_that_do_not_say_what_a_quota_limits() -> None:
    found = quota.unnamed(BURSTABLE, ["cpu", "limits.cpu", "pods", "requests.cpu"])
    assert found == {"limits.cpu": ["c"]}
