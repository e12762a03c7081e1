"""Several servers on etcd, without containers: whoever leads, somebody does, and it is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.lab.hosts import Hosts, running_hosts
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
    with running_hosts() as found:
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
    assert old.ready()


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


def config_map(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
