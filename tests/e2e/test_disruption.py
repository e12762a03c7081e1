"""kubectl drains a node no further than a disruption budget allows, and says what quota is full."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, running_cluster
from tests.lab.host import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.kubectl,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("kubectl"),
]


@pytest.fixture(scope="module")
def hollow(_machine: None) -> Iterator[Cluster]:
    with running_cluster(docker=False) as running:
        yield running


def budget(cluster: Cluster) -> dict[str, int]:
    found = json.loads(cluster.kubectl("get", "pdb", "web", "-o", "json").stdout)
    return found.get("status") or {}


def test_drain_stops_where_the_budget_does(hollow: Cluster) -> None:
    hollow.kubectl("create", "deployment", "web", "--image=x", "--replicas=3")
    hollow.kubectl("create", "pdb", "web", "--selector=app=web", "--min-available=2")
    wait_for(lambda: budget(hollow).get("disruptionsAllowed") == 1, 30, "one disruption is allowed")
    node = json.loads(hollow.kubectl("get", "nodes", "-o", "json").stdout)["items"][0]
    name = node["metadata"]["name"]
    drained = hollow.kubectl("drain", name, "--pod-selector=app=web", "--timeout=4s", check=False)
    assert drained.returncode != 0
    assert "evicted" in drained.stdout
    assert "Cannot evict pod as it would violate the pod's disruption budget." in drained.stderr
    pods = json.loads(hollow.kubectl("get", "pods", "-l", "app=web", "-o", "json").stdout)["items"]
    assert sum(pod["status"]["phase"] == "Running" for pod in pods) == 2
    hollow.kubectl("uncordon", name)
    wait_for(lambda: budget(hollow).get("disruptionsAllowed") == 1, 30, "a new pod is ready")


def test_a_full_quota_is_shown(hollow: Cluster) -> None:
    hollow.kubectl("create", "namespace", "small")
    hollow.kubectl("create", "quota", "q", "--hard=configmaps=2", "-n", "small")

    def counted() -> bool:
        found = json.loads(hollow.kubectl("get", "quota", "q", "-n", "small", "-o", "json").stdout)
        # The cluster's CA is published in every namespace.
        return (found.get("status") or {}).get("used") == {"configmaps": "1"}

    wait_for(counted, 20, "the quota is counted")
    hollow.kubectl("create", "configmap", "a", "-n", "small")
    refused = hollow.kubectl("create", "configmap", "b", "-n", "small", check=False)
    assert "exceeded quota: q, requested: configmaps=1, used: configmaps=2" in refused.stderr
