"""A second host joins by token: its node, certificates, what it runs, and who is turned away."""

from __future__ import annotations

import json
import shutil
import time
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


def test_it_makes_and_erases_the_volumes_of_its_pods(pair: Pair, agent: Agent):
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "writer"},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": agent.name},
            "containers": [{"name": "main", "image": "any"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}],
        },
    }
    file = pair.cluster.host.directory / "writer.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [claim, pod]}))
    pair.cluster.kubectl("apply", "-f", str(file))
    pair.cluster.kubectl("wait", "--for=condition=Ready", "pod/writer", "--timeout=20s")
    [volume] = (agent.data_dir / "node/volumes").iterdir()
    assert volume.name.endswith("_default_data")
    pair.cluster.kubectl("delete", "-f", str(file))
    wait_for(lambda: not volume.exists(), 10, "its files to go")
    wait_for(lambda: not pair.cluster.get("pv")["items"], 10, "the volume to go")


def test_it_answers_dns_and_knows_the_clusters_servers(pair: Pair, agent: Agent):
    name = "kubernetes.default.svc.cluster.local"
    wait_for(lambda: pair.other.run("dig", "+short", "@10.43.0.10", name).stdout.strip()
             == "10.43.0.1", 10, "cluster DNS on the agent")  # fmt: skip
    assert (
        f"https://{pair.cluster.host.address}:6443" in (agent.data_dir / "servers.json").read_text()
    )


def test_an_ingress_is_reached_at_both_and_its_status_comes_to_rest(pair: Pair, agent: Agent):
    pair.cluster.kubectl("create", "ingress", "web", "--class=meshkube", "--rule=web.io/*=web:80")

    def shown() -> tuple[list[str], str]:
        found = pair.cluster.get("ingress", "web")
        entries = found["status"].get("loadBalancer", {}).get("ingress") or []
        return [one["ip"] for one in entries], found["metadata"]["resourceVersion"]

    both = [pair.cluster.host.address, pair.other.address]
    wait_for(lambda: shown()[0] == both, 20, "the addresses of both hosts")

    def rests() -> bool:
        before = shown()
        time.sleep(1)
        return shown() == before

    wait_for(rests, 20, "a status that nobody writes again")
    assert shown()[0] == both


def test_it_starts_again_without_a_token(pair: Pair, agent: Agent):
    agent.stop()
    agent.start()
    wait_for(lambda: "ingress listens" in agent.log_since_start, 20, "the agent's parts")
    assert "joined the cluster" not in agent.log_since_start


def test_a_token_that_is_worth_nothing_ends_the_agent_with_one_line(pair: Pair):
    token = pair.token()
    pair.cluster.meshkube("token", "delete", token)
    stranger = Agent(pair.other, pair.cluster.host.address, "--runtime=hollow", name="stranger")
    stranger.data_dir = pair.other.directory / "stranger"
    assert "--token: is not valid (unknown, deleted or expired)" in stranger.refused(token)
    assert "stranger" not in pair.cluster.meshkube("get", "nodes").stdout


def test_a_token_of_another_cluster_is_not_even_sent(pair: Pair):
    own = pair.token()
    other = own.replace(own.split(".")[1], "0" * 64)
    stranger = Agent(pair.other, pair.cluster.host.address, "--runtime=hollow", name="stranger")
    stranger.data_dir = pair.other.directory / "stranger"
    said = stranger.refused(other)
    assert "is of another cluster than the token" in said
    assert "the token was not sent" in said


def test_the_name_of_a_living_node_is_refused_until_that_is_gone(pair: Pair, agent: Agent):
    twin = Agent(pair.other, pair.cluster.host.address, "--runtime=hollow", name=agent.name)
    twin.data_dir = pair.other.directory / "twin"
    said = twin.refused(pair.token())
    assert f"a node named {agent.name} is alive, with another key" in said
    assert f"kubectl delete node {agent.name}" in said


def test_a_host_that_was_wiped_joins_again_once_its_node_is_deleted(pair: Pair, agent: Agent):
    agent.stop()
    old = (agent.pki / "node.key").read_bytes()
    shutil.rmtree(agent.data_dir)
    pair.cluster.meshkube("delete", "node", agent.name)
    agent.start(pair.token())
    wait_for(lambda: pair.condition(agent.name) == "True", 20, "the node, again")
    assert (agent.pki / "node.key").read_bytes() != old


def test_a_node_reads_what_is_its_own_and_nothing_else(pair: Pair, agent: Agent):
    """With its certificate and a plain HTTP client, as who has broken into the host would."""

    def code(path: str, *flags: str) -> str:
        done = pair.other.run(
            "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", *flags,
            "--cacert", str(agent.pki / "ca.crt"), "--cert", str(agent.pki / "node-client.crt"),
            "--key", str(agent.pki / "node.key"),
            f"https://{pair.cluster.host.address}:6443{path}", check=False,
        )  # fmt: skip
        return done.stdout

    mine, other = agent.name, pair.cluster.host.name
    allowed = [
        f"/api/v1/nodes/{mine}",
        f"/api/v1/pods?fieldSelector=spec.nodeName%3D{mine}",
        "/api/v1/services",
        f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{mine}",
        f"/api/v1/persistentvolumes?labelSelector=meshkube.io%2Fnode%3D{mine}",
        "/meshkube/v1/cluster",
    ]
    denied = [
        f"/api/v1/nodes/{other}",
        "/api/v1/persistentvolumes",
        f"/api/v1/persistentvolumes?labelSelector=meshkube.io%2Fnode%3D{other}",
        "/api/v1/pods",
        f"/api/v1/pods?fieldSelector=spec.nodeName%3D{other}",
        "/api/v1/secrets",
        "/api/v1/namespaces/kube-system/secrets",
        "/api/v1/namespaces/default/configmaps",
        f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{other}",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/meshkube",
        "/meshkube/v1/server",
        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
        f"/api/v1/nodes/{other}/proxy/stats/summary",
    ]
    assert {path: code(path) for path in allowed} == dict.fromkeys(allowed, "200")
    assert {path: code(path) for path in denied} == dict.fromkeys(denied, "403")
    # It may act as the traffic's parts, and as nobody else.
    slices = "/apis/discovery.k8s.io/v1/endpointslices"
    assert code(slices, "-H", "Impersonate-User: system:kube-proxy") == "200"
    for user in ("system:admin", f"system:node:{other}", "system:kube-controller-manager"):
        assert code(slices, "-H", f"Impersonate-User: {user}") == "403"
    node = f"/api/v1/nodes/{other}"
    for method in ("DELETE", "PATCH"):
        assert code(node, "-X", method, "-H", "Content-Type: application/merge-patch+json",
                    "-d", '{"metadata":{"labels":{"a":"b"}}}') == "403"  # fmt: skip


@pytest.mark.usefixtures("kubectl")
def test_the_server_measures_every_node(pair: Pair, agent: Agent):
    wait_for(lambda: pair.condition(agent.name) == "True", 20, "the agent's node")
    shown = pair.cluster.kubectl("top", "nodes", "--no-headers").stdout.splitlines()
    use = {line.split()[0]: line.split()[3] for line in shown}
    assert use.keys() == {pair.cluster.host.name, agent.name}
    assert all(int(memory.removesuffix("Mi")) > 0 for memory in use.values())
