"""Several servers on etcd, without containers: whoever leads, somebody does, and it is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.hosts import QUICK, Hosts, running_hosts
from tests.lab.node import Node
from tests.lab.shell import wait_for

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

TO_NEXT_LEADER = 15.0
"""Generous: machines are shared, and benches measure it."""


@pytest.fixture(scope="module")
def _cluster() -> Iterator[Hosts]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    missing = [tool for tool in ("etcd", "nft", "ip", "curl", "ss") if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    with running_hosts(*QUICK, "--default-toleration-seconds=3") as found:
        yield found


@pytest.fixture
def hosts(_cluster: Hosts) -> Iterator[Hosts]:
    yield _cluster
    _cluster.heal()
    for node in _cluster.nodes:
        if not node.on:
            _cluster.revive(node)
    wait_for(_cluster.all_ready, 60, "every node Ready again")


def next_leader(hosts: Hosts, old: Node) -> Node:
    wait_for(lambda: hosts.leader() not in (None, old), TO_NEXT_LEADER, "another leader")
    return hosts.wait_for_leader()


def test_a_leader_whose_host_dies_is_followed_and_its_host_comes_back(hosts: Hosts):
    old = hosts.wait_for_leader()
    old.power_off()
    new = next_leader(hosts, old)
    assert new.on
    hosts.revive(old)
    wait_for(hosts.all_ready, 60, "every node Ready")


def test_a_leader_cut_off_from_the_store_is_followed_and_its_process_stays(hosts: Hosts):
    old = hosts.wait_for_leader()
    process = old.server
    old.cut_from_store()
    next_leader(hosts, old)
    hosts.heal()
    wait_for(hosts.all_ready, 60, "every node Ready")
    assert old.server is process
    wait_for(old.ready, 30, "the old leader's server")


def test_a_leader_that_froze_is_followed_and_does_not_lead_when_it_wakes(hosts: Hosts):
    old = hosts.wait_for_leader()
    old.freeze()
    new = next_leader(hosts, old)
    old.thaw()
    wait_for(old.ready, 30, "the thawed server")
    assert hosts.wait_for_leader() is new


def test_without_quorum_nothing_is_lost_and_all_goes_on_afterwards(hosts: Hosts):
    hosts.apply(config_map("before"))
    one, other, _ = hosts.nodes
    for node in (one, other):
        assert node.member is not None
        node.member.kill()
    for node in (one, other):
        assert node.member is not None
        node.member.start(hosts.members)
    wait_for(lambda: hosts.leader() is not None, 60, "a leader")
    hosts.apply(config_map("after"))
    found = hosts.read("/api/v1/namespaces/default/configmaps")["items"]
    assert {"before", "after"} <= {item["metadata"]["name"] for item in found}


def test_of_all_these_leaders_no_two_ever_wrote_at_once(hosts: Hosts):
    found = hosts.leaders_history()
    assert found["violations"] == []
    assert found["terms"]
    assert found["leader_writes"] > 0


def test_pods_of_a_dead_host_run_elsewhere_and_no_identity_runs_twice(hosts: Hosts):
    hosts.apply(workload("Deployment", "web", 3), workload("StatefulSet", "db", 3))
    wait_for(lambda: spread(hosts, "web") == spread(hosts, "db") == 3, 60, "pods on every host")
    before = {pod["metadata"]["name"]: pod for pod in hosts.pods(selector="app=db")}
    # Not the leader: that story is told above.
    dead = next(node for node in hosts.nodes if node is not hosts.leader())
    dead.power_off()

    wait_for(lambda: hosts.conditions()[dead.name] == "Unknown", 30, "the node to be missed")
    wait_for(lambda: dead.name not in ready_places(hosts), 10, "its pods out of service")
    wait_for(lambda: running(hosts, "web", dead) == 3, 40, "pods elsewhere")
    identities = [pod["metadata"]["name"] for pod in hosts.pods(selector="app=db")]
    assert sorted(identities) == ["db-0", "db-1", "db-2"]
    (kept,) = (pod for pod in hosts.pods(selector="app=db") if place(pod) == dead.name)
    assert kept["metadata"]["deletionTimestamp"]
    assert kept["metadata"]["uid"] == before[kept["metadata"]["name"]]["metadata"]["uid"]

    hosts.revive(dead)
    wait_for(hosts.all_ready, 60, "the node back")
    wait_for(lambda: len(live(hosts, "db")) == 3, 60, "the identity, made anew")
    wait_for(lambda: len(hosts.pods(selector="app=web")) == 3, 60, "the old pods gone")
    renewed = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in live(hosts, "db")}
    assert renewed[kept["metadata"]["name"]] != kept["metadata"]["uid"]
    remove(hosts, "deployment/web", "statefulset/db")


def test_a_drained_host_gives_up_its_pods_as_fast_as_the_budget_allows(hosts: Hosts, kubectl: None):
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "web"}}},
    }
    hosts.apply(workload("Deployment", "web", 3), budget)
    wait_for(lambda: spread(hosts, "web") == 3, 60, "a pod on every host")
    node = hosts.nodes[2]
    drained = hosts.api.kubectl(
        "drain", node.name, "--ignore-daemonsets", "--timeout=60s", timeout=90
    )
    assert "drained" in drained.stdout
    wait_for(lambda: len(live(hosts, "web")) == 3, 30, "three pods on two hosts")
    assert node.name not in {place(pod) for pod in live(hosts, "web")}
    hosts.api.kubectl("uncordon", node.name)
    # With no room for one less, nothing is evicted.
    hosts.api.kubectl("patch", "pdb", "web", "--type=merge", "-p", '{"spec":{"minAvailable":3}}')
    held = next(place(pod) for pod in live(hosts, "web"))
    refused = hosts.api.kubectl("drain", held, "--timeout=3s", check=False, timeout=30)
    assert refused.returncode != 0
    assert "disruption budget" in refused.stderr
    assert len(live(hosts, "web")) == 3
    hosts.api.kubectl("uncordon", held)
    remove(hosts, "deployment/web", "pdb/web")


def workload(kind: str, name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    spread_out = {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": labels},
    }
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {"labels": labels},
            "spec": {
                "containers": [{"name": "main", "image": "any:1"}],
                "topologySpreadConstraints": [spread_out],
            },
        },
    }
    if kind == "StatefulSet":
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    metadata = {"name": name, "namespace": "default"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec}


def remove(hosts: Hosts, *names: str) -> None:
    for name in names:
        hosts.api.meshkube("delete", *name.split("/"))
    wait_for(lambda: hosts.pods() == [], 60, "the pods gone")


def place(pod: dict[str, Any]) -> str:
    return str(pod["spec"].get("nodeName", ""))


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def live(hosts: Hosts, app: str) -> list[dict[str, Any]]:
    """Its pods that are ready and stay."""
    found = hosts.pods(selector=f"app={app}")
    return [pod for pod in found if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]


def spread(hosts: Hosts, app: str) -> int:
    """On how many hosts its ready pods are."""
    return len({place(pod) for pod in live(hosts, app)})


def running(hosts: Hosts, app: str, dead: Node) -> int:
    """How many of its ready pods are elsewhere."""
    return sum(place(pod) != dead.name for pod in live(hosts, app))


def ready_places(hosts: Hosts) -> set[str]:
    return {place(pod) for pod in hosts.pods() if is_ready(pod)}


def config_map(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
