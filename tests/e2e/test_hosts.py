"""Three servers and an agent with Docker: every node answers, and any one may die."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab import machine
from tests.lab.hosts import QUICK, Hosts, running_hosts
from tests.lab.node import Node
from tests.lab.shell import wait_for
from tests.lab.traffic import Traffic
from tests.support.etcd import ETCD

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(400)]

HASTY = (*QUICK, "--default-toleration-seconds=2")
NAME = "user.shop.svc.cluster.local"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if why := machine.why_not() or ("" if ETCD else "not on this machine: etcd"):
        pytest.skip(why)
    with running_hosts(*HASTY, agents=1, docker=True) as found:
        found.api.apply_quickstart()
        everywhere(found)
        yield found


def everywhere(hosts: Hosts) -> None:
    """The quickstart's `user` with a pod on every node, and a port on each."""
    api = hosts.api
    deployment = api.get("deployment", "user", "-n", "shop")
    template = deployment["spec"]["template"]
    template["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": template["metadata"]["labels"]},
        }
    ]
    service = api.get("service", "user", "-n", "shop")
    metadata = {"name": "user", "namespace": "shop"}
    hosts.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": {**deployment["spec"], "replicas": len(hosts.nodes), "template": template},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {
                "type": "NodePort",
                "selector": service["spec"]["selector"],
                "ports": service["spec"]["ports"],
            },
        },
    )
    wait_for(lambda: len(places(hosts)) == len(hosts.nodes), 90, "a pod on every node")
    wanted = {"user": len(hosts.nodes), "products": 2}
    wait_for(lambda: hosts.api.available("shop") == wanted, 60, "the rollout")


def pods(hosts: Hosts) -> list[dict[str, Any]]:
    """The ready pods of `user` that stay."""
    found = hosts.pods("shop", "app.kubernetes.io/name=user")
    return [
        pod
        for pod in found
        if "deletionTimestamp" not in pod["metadata"]
        and any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in pod["status"].get("conditions", [])
        )
    ]


def places(hosts: Hosts) -> set[str]:
    return {pod["spec"]["nodeName"] for pod in pods(hosts)}


def through_ingress(node: Node) -> str:
    return f"http://{node.host.address}/user"


def ask_all(hosts: Hosts, url: str) -> set[str]:
    """The nodes of the pods that answer one client at this URL, asked until all have."""
    seen: set[str] = set()
    for _ in range(60):
        answer = hosts.client.run(
            "curl", "-sS", "-f", "-m", "5", "--noproxy", "*", "-H", "Host: shop.example", url
        )
        seen.add(json.loads(answer.stdout)["node"])
        if len(seen) == len(hosts.nodes):
            break
    return seen


def test_four_nodes_are_ready(hosts: Hosts):
    listed = hosts.api.meshkube("get", "nodes", "-o", "wide").stdout.splitlines()[1:]
    assert len(listed) == 4
    assert all(line.split()[1] == "Ready" for line in listed)


def test_every_nodes_ingress_reaches_the_pods_of_all(hosts: Hosts):
    everyone = {node.name for node in hosts.nodes}
    for node in hosts.nodes:
        assert ask_all(hosts, through_ingress(node)) == everyone, node


def test_every_nodes_port_reaches_the_pods_of_all(hosts: Hosts):
    everyone = {node.name for node in hosts.nodes}
    port = hosts.api.get("service", "user", "-n", "shop")["spec"]["ports"][0]["nodePort"]
    for node in hosts.nodes:
        assert ask_all(hosts, f"http://{node.host.address}:{port}/user") == everyone, node


def test_every_nodes_dns_knows_the_service(hosts: Hosts):
    service = hosts.api.get("service", "user", "-n", "shop")
    for node in hosts.nodes:
        assert node.dig(NAME) == service["spec"]["clusterIP"], node


@pytest.mark.kubectl
@pytest.mark.usefixtures("kubectl")
def test_a_rolling_update_and_a_drain_fail_no_request(hosts: Hosts):
    drained = hosts.nodes[-1].name
    urls = [through_ingress(node) for node in hosts.nodes]
    with Traffic(hosts.client, urls, rate=20) as traffic:
        wait_for(lambda: len(traffic.pods()) == len(hosts.nodes), 30, "answers of every pod")
        before = traffic.pods()
        restart_everywhere(hosts)
        wait_for(lambda: not before & {pod["metadata"]["name"] for pod in pods(hosts)}, 60, "roll")
        hosts.api.kubectl(
            "drain", drained, "--pod-selector=app.kubernetes.io/name=user", "--timeout=60s"
        )
        wait_for(lambda: len(pods(hosts)) == len(hosts.nodes), 60, "its pods made anew elsewhere")
        assert drained not in places(hosts)
        time.sleep(1)
    assert traffic.failed() == []
    hosts.api.kubectl("uncordon", drained)
    restart_everywhere(hosts)


@pytest.mark.parametrize("victim", ["leader", "agent"])
def test_a_host_dies_and_nobody_who_asks_the_others_notices(hosts: Hosts, victim: str):
    leads = hosts.wait_for_leader()
    dead = leads if victim == "leader" else hosts.nodes[-1]
    others = [node for node in hosts.nodes if node is not dead]
    with Traffic(hosts.client, [through_ingress(node) for node in others], rate=15) as traffic:
        wait_for(lambda: len(traffic.pods()) == len(hosts.nodes), 30, "answers of every pod")
        dead.power_off()
        died = time.monotonic()
        if dead is leads:
            wait_for(lambda: hosts.leader() not in (None, dead), 20, "the next leader")
        wait_for(lambda: dead.name not in places(hosts), 30, "its pods out of service")
        withdrawn = time.monotonic()
        wait_for(lambda: len(pods(hosts)) == len(hosts.nodes), 60, "its pods made anew elsewhere")
        time.sleep(2)
    # Not even before the withdrawal: what the dead host does not answer, another one does.
    assert traffic.failed() == []
    assert withdrawn - died < 25
    late = [one for one in traffic.outcomes() if one.at > withdrawn + 1]
    assert late
    assert max(one.took for one in late) < 5

    hosts.revive(dead)
    wait_for(hosts.all_ready, 60, "the host back as a node")
    assert len(pods(hosts)) == len(hosts.nodes)
    wait_for(lambda: stale_containers(hosts, dead) == set(), 60, "its old containers gone")
    restart_everywhere(hosts)


VERSION = """#!{python}
import sys
import meshkube
meshkube.__version__ = "{version}"
from meshkube.cli.main import main
sys.exit(main())
"""


def install(node: Node, version: str) -> str:
    """A `meshkube` of that version on the node's host; returns its path."""
    bin = node.host.directory / "bin"
    bin.mkdir(exist_ok=True)
    file = bin / "new"
    file.write_text(VERSION.format(python=sys.executable, version=version))
    file.chmod(0o755)
    return str(file.rename(bin / "meshkube"))


def test_an_upgrade_host_by_host_fails_no_request(hosts: Hosts):
    for node in hosts.nodes:
        node.stop()
        node.program = install(node, "1.0.0")
        # With the settings as they come: a restart takes longer than a hasty cluster waits.
        node.flags = tuple(flag for flag in node.flags if flag not in HASTY)
        node.up()
    wait_for(hosts.all_ready, 60, "every node Ready")
    port = hosts.api.get("service", "user", "-n", "shop")["spec"]["ports"][0]["nodePort"]
    urls = [through_ingress(node) for node in hosts.nodes]
    urls += [f"http://{node.host.address}:{port}/user" for node in hosts.nodes]
    with Traffic(hosts.client, urls, rate=20, limit=30) as traffic:
        wait_for(lambda: len(traffic.pods()) == len(hosts.nodes), 30, "answers of every pod")
        for node in hosts.nodes:
            process = node.server
            install(node, "1.1.0")
            node.restart_in_place()
            assert node.server is process
            assert "version=1.1.0" in node.log
            assert node.dig(NAME)
        wait_for(hosts.all_ready, 60, "every node Ready")
        time.sleep(1)
    assert traffic.failed() == [], missed(hosts)


def missed(hosts: Hosts) -> str:
    """Nodes and pods that were taken out of service: a machine too slow for its heartbeats is
    another fault than an upgrade that refuses somebody."""
    found = (hosts.read("/api/v1/events") or {"items": []})["items"]
    return "\n".join(
        f"{event['lastTimestamp']} {event['involvedObject']['name']} {event['reason']}"
        for event in found
        if event["reason"] in ("NodeNotReady", "Unhealthy", "TaintManagerEviction")
    )


def test_an_upgrade_that_does_not_start_changes_nothing(hosts: Hosts):
    node = hosts.nodes[0]
    assert node.server is not None
    (node.host.directory / "bin/meshkube").write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    node.server.send_signal(signal.SIGUSR2)
    wait_for(lambda: "cannot restart in place" in node.log, 20, "the refusal")
    assert node.ready()
    install(node, "1.1.0")


def stale_containers(hosts: Hosts, node: Node) -> set[str]:
    """Pods of which the host runs a container although the API has them no longer there."""
    here = {
        pod["metadata"]["uid"]
        for space in ("shop", "kube-system")
        for pod in hosts.pods(space)
        if pod["spec"].get("nodeName") == node.name
    }
    shown = node.host.docker("ps", "--format", '{{.Label "meshkube.io/pod-uid"}}').stdout
    return set(shown.split()) - here


def restart_everywhere(hosts: Hosts) -> None:
    """Spreads the pods over all nodes again."""
    deployment = hosts.api.get("deployment", "user", "-n", "shop")
    template = deployment["spec"]["template"]
    template["metadata"]["annotations"] = {"restarted-at": str(time.time())}
    hosts.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "user", "namespace": "shop"},
            "spec": deployment["spec"],
        }
    )
    wait_for(lambda: len(places(hosts)) == len(hosts.nodes), 90, "a pod on every node")
