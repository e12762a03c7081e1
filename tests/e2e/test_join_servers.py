"""More servers: they join through one that runs, over a store that they share, or are refused."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from meshkube.pki import new_authority, save
from tests.lab.agent import Agent
from tests.lab.cluster import MESHKUBE, Cluster
from tests.lab.host import Host, lab, wait_for
from tests.lab.members import Member, start_all
from tests.support.etcd import ETCD

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(ETCD is None, reason="needs etcd on PATH"),
]


QUICK = ("--node-heartbeat=1", "--node-grace=4")


@dataclass
class World:
    """A first server on an etcd, and a second host."""

    first: Cluster
    second: Cluster
    store: str
    third: Host

    def token(self, *flags: str) -> str:
        return self.first.meshkube("token", "create", *flags).stdout.strip()

    def refused(self, *flags: str, data: str = "other", store: str = "") -> str:
        """What a server on the second host says and ends with."""
        host = self.second.host
        command = [MESHKUBE, "server", f"--data-dir={host.directory}/{data}", "--runtime=hollow"]
        name = f"--node-name={host.name}"
        done = host.run(*command, name, f"--store={store or self.store}", *flags, check=False)
        assert done.returncode == 2, done.stderr
        return done.stderr.strip().splitlines()[-1]


def _server(host: Host, store: str, *flags: str) -> Cluster:
    return Cluster(host, "--runtime=hollow", f"--store={store}", *flags)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with lab(3) as (one, two, three):
        member = Member(one)
        start_all([member])
        store = f"etcd://{member.endpoint}"
        first = _server(one, store, "--pod-cidr=10.44.0.0/16", *QUICK)
        first.start()
        yield World(first, _server(two, store, *QUICK), store, three)


def test_a_server_without_a_token_is_told_to_join(world: World):
    said = world.refused()
    assert "holds a cluster already" in said
    assert "--join" in said


def test_sqlite_is_refused_and_the_line_says_what_to_do(world: World):
    join = f"--join=https://{world.first.host.address}:6443"
    said = world.refused(join, "--token=x", store="sqlite")
    assert "SQLite is a file of one host" in said
    assert "meshkube store copy" in said


def test_an_agents_token_makes_no_server(world: World):
    join = f"--join=https://{world.first.host.address}:6443"
    said = world.refused(join, f"--token={world.token()}")
    assert "--role server" in said


def test_a_setting_that_contradicts_the_cluster_is_refused(world: World):
    join = f"--join=https://{world.first.host.address}:6443"
    token = world.token("--role=server")
    said = world.refused(join, f"--token={token}", "--pod-cidr=10.45.0.0/16", data="third")
    assert "10.45.0.0/16 contradicts the cluster, which has 10.44.0.0/16" in said


def test_the_name_of_a_node_that_lives_is_refused(world: World):
    join = f"--join=https://{world.first.host.address}:6443"
    token = world.token("--role=server")
    said = world.refused(join, f"--token={token}", f"--node-name={world.first.host.name}")
    assert f"a node named {world.first.host.name} is alive" in said


def test_a_server_joins_and_starts_again_without_a_token(world: World):
    second, first = world.second, world.first
    plain = second.command
    token = world.token("--role=server")
    second.command = (*plain, f"--join=https://{first.host.address}:6443", f"--token={token}")
    second.start()
    pki, theirs = second.data_dir / "pki", first.data_dir / "pki"
    for name in ("ca.crt", "ca.key", "service-account.key"):
        assert (pki / name).read_bytes() == (theirs / name).read_bytes()
        assert (pki / name).stat().st_mode & 0o777 == 0o600
    second.stop()
    second.command = plain
    second.start()
    wait_for(lambda: second.meshkube("get", "nodes").stdout.count(" Ready") == 2, 20, "two nodes")
    # Each trusts the other's credentials: one CA, one cluster.
    token = second.meshkube("token", "create").stdout.strip()
    assert token.split(".")[2] in first.meshkube("token", "list").stdout


def endpoints(cluster: Cluster) -> list[str]:
    slice = cluster.get("endpointslice", "kubernetes", "-n", "default")
    return [address for one in slice["endpoints"] for address in one["addresses"]]


def test_a_killed_server_is_no_endpoint_of_the_api_for_long(world: World):
    first, second = world.first, world.second
    both = sorted([first.host.address, second.host.address])
    wait_for(lambda: endpoints(first) == both, 10, "both servers among the endpoints")
    second.kill()
    wait_for(lambda: endpoints(first) == [first.host.address], 15, "the dead server's leave")
    second.start()
    wait_for(lambda: endpoints(first) == both, 10, "its return")


def test_an_agent_goes_on_with_another_server_when_its_own_is_gone(world: World):
    first, second = world.first, world.second
    # It knows of the second one only what it joined by, and learns the other.
    agent = Agent(world.third, second.host.address, "--runtime=hollow", QUICK[0])
    agent.start(world.token())
    kept = agent.data_dir / "servers.json"
    learnt = f"https://{first.host.address}:6443"
    wait_for(lambda: kept.exists() and learnt in kept.read_text(), 20, "the list of servers")
    wait_for(lambda: ready(first, agent.name) == "True", 20, "the agent's node")
    second.kill()
    service = first.host.directory / "late.yaml"
    service.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: late}\nspec: {ports: [{port: 80}]}\n"
    )
    first.meshkube("apply", "-f", str(service))
    name = "late.default.svc.cluster.local"

    def asked() -> str:
        return world.third.run("dig", "+short", "+tries=1", "@10.43.0.10", name, check=False).stdout

    wait_for(lambda: asked().strip(), 10, "DNS on the agent")
    time.sleep(6)
    assert ready(first, agent.name) == "True"
    # Started again with nothing but the URL of the dead one, it finds the living by its file.
    agent.stop()
    agent.start()
    wait_for(lambda: "ingress listens" in agent.log_since_start, 20, "the agent's parts")
    agent.stop()
    second.start()
    second.stop()
    assert endpoints(first) == [first.host.address]


def ready(cluster: Cluster, name: str) -> str:
    found = cluster.get("node", name)["status"].get("conditions") or ()
    return next((one["status"] for one in found if one["type"] == "Ready"), "")


def test_a_store_of_another_cluster_is_refused(world: World):
    host = world.second.host
    pki = host.directory / "stranger" / "pki"
    pki.mkdir(parents=True)
    save(new_authority("other"), pki / "ca")
    assert "belongs to another cluster" in world.refused(data="stranger")
