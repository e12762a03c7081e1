"""A second host joins by token: its node, certificates, what it runs, and who is turned away."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.lab.agent import Agent
from tests.lab.cluster import Cluster
from tests.lab.host import Host, lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.kubectl]


@dataclass
class Pair:
    """A server on one host and another host, both without containers."""

    cluster: Cluster
    other: Host

    def token(self, *flags: str) -> str:
        return self.cluster.meshkube("token", "create", *flags).stdout.strip()

    def condition(self, node: str) -> str:
        """The `Ready` condition of a node: `True`, `False`, `Unknown`, or empty."""
        for item in self.cluster.get("nodes")["items"]:
            if item["metadata"]["name"] == node:
                found = item["status"].get("conditions") or ()
                return next((one["status"] for one in found if one["type"] == "Ready"), "")
        return ""


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with lab(2) as (first, second):
        cluster = Cluster(first, "--runtime=hollow")
        cluster.start()
        yield Pair(cluster, second)


@pytest.fixture(scope="module")
def agent(pair: Pair) -> Agent:
    made = Agent(pair.other, pair.cluster.host.address, "--runtime=hollow")
    made.start(pair.token())
    wait_for(lambda: pair.condition(made.name) == "True", 20, "the agent's node")
    return made


def test_the_token_is_shown_once_and_kept_as_a_hash(pair: Pair):
    token = pair.token("--description", "for the rack", "--ttl", "30m")
    id, secret = token.split(".")[2:]
    stored = pair.cluster.get("secret", f"join-token-{id}", "-n", "kube-system")
    assert secret not in str(stored)
    listed = pair.cluster.meshkube("token", "list").stdout
    assert id in listed
    assert "for the rack" in listed
    assert secret not in listed


def test_an_agent_is_a_node_with_certificates_of_its_own(pair: Pair, agent: Agent):
    wait_for(lambda: (agent.pki / "node-server.crt").exists(), 10, "a serving certificate")
    modes = {path.name: path.stat().st_mode & 0o777 for path in agent.pki.iterdir()}
    assert modes == dict.fromkeys(
        ("ca.crt", "node.key", "node-client.crt", "node-server.crt"), 0o600
    )
    requests = pair.cluster.kubectl("get", "csr").stdout
    assert requests.count("Approved,Issued") == 2


def test_pods_of_the_cluster_run_on_it(pair: Pair, agent: Agent):
    pair.cluster.kubectl("create", "deployment", "spread", "--image=any", "--replicas=4")
    pair.cluster.kubectl("rollout", "status", "deployment/spread", "--timeout=20s")
    places = pair.cluster.kubectl("get", "pods", "-o", "jsonpath={.items[*].spec.nodeName}").stdout
    assert set(places.split()) == {pair.cluster.host.name, agent.name}


def test_it_answers_dns_and_knows_the_clusters_servers(pair: Pair, agent: Agent):
    name = "kubernetes.default.svc.cluster.local"
    wait_for(lambda: pair.other.run("dig", "+short", "@10.43.0.10", name).stdout.strip()
             == "10.43.0.1", 10, "cluster DNS on the agent")  # fmt: skip
    assert (
        f"https://{pair.cluster.host.address}:6443" in (agent.data_dir / "servers.json").read_text()
    )


def test_it_starts_again_without_a_token(pair: Pair, agent: Agent):
    agent.stop()
    agent.start()
    wait_for(lambda: "ingress listens" in agent.log_since_start, 20, "the agent's parts")
    assert "joined the cluster" not in agent.log_since_start
