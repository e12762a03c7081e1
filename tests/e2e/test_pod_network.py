"""Pods on two Docker hosts of one cluster, behind a router from each other and on one link."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.hosts import Hosts, plan
from tests.lab.node import Node
from tests.lab.shell import wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(240)]

WHO = r"""
mkdir -p /tmp/www/cgi-bin
printf '#!/bin/sh\necho; echo "$NODE $REMOTE_ADDR"\n' > /tmp/www/cgi-bin/who
chmod +x /tmp/www/cgi-bin/who
exec httpd -f -p 8080 -h /tmp/www
"""


def objects() -> list[dict[str, Any]]:
    labels = {"app": "who"}
    container = {
        "name": "who",
        "image": "meshkube/quickstart:1",
        "command": ["/bin/sh", "-c", WHO],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container]}}
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "who", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    return [daemon_set, service("who"), service("near", externalTrafficPolicy="Local")]


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "selector": {"app": "who"},
            "ports": [{"port": 80, "targetPort": 8080}],
            **spec,
        },
    }


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    tools = ("dockerd", "etcd", "nft", "ip", "curl", "ss")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")
    found = plan(servers=1, agents=1, docker=True)
    try:
        found.servers[0].flags += ("--network=vxlan", f"--load-balancer-pool={pool(found)}")
        found.start()
        found.apply(*objects())
        wait_for(lambda: len(addresses(found)) == 2, 60, "a pod on each node")
        yield found
    finally:
        found.close()


def pool(hosts: Hosts) -> str:
    """Addresses of the lab's link that no host has."""
    link = hosts.client.address.rpartition(".")[0]
    return f"{link}.240-{link}.249"


def addresses(hosts: Hosts) -> dict[str, str]:
    """Node -> the address of its pod, once that is ready."""
    return {
        pod["spec"]["nodeName"]: pod["status"]["podIP"]
        for pod in hosts.pods(selector="app%3Dwho")
        if any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in pod["status"].get("conditions", [])
        )
    }


def inside(node: Node, url: str) -> list[str]:
    """What the node's pod gets: the node that answered, and the client's address as it saw it."""
    container = node.containers("name=mk_who_")[0]
    return seen(node.host.docker("exec", container, "wget", "-qO-", url).stdout)


def outside(hosts: Hosts, url: str) -> list[str]:
    return seen(hosts.client.run("curl", "-sS", "-m", "5", "--noproxy", "*", url).stdout)


def seen(text: str) -> list[str]:
    return [word.strip("[]").removeprefix("::ffff:") for word in text.split()]


def test_pods_reach_each_other_by_their_own_addresses(hosts: Hosts):
    at = addresses(hosts)
    for node in hosts.nodes:
        for other in hosts.nodes:
            seen = inside(node, f"http://{at[other.name]}:8080/cgi-bin/who")
            assert seen == [other.name, at[node.name]]
    links = hosts.nodes[1].host.run("ip", "route", "show", "proto", "78").stdout
    assert "dev meshkube.vx" in links


def test_the_links_of_pods_fit_the_tunnel(hosts: Hosts):
    container = hosts.nodes[1].containers("name=mk_who_")[0]
    shown = hosts.nodes[1].host.docker("exec", container, "cat", "/sys/class/net/eth0/mtu")
    assert shown.stdout.strip() == "1450"


def test_services_answer_on_every_node_with_pods_of_all(hosts: Hosts):
    found = hosts.read("/api/v1/namespaces/default/services/who")
    port = found["spec"]["ports"][0]["nodePort"]
    names = {node.name for node in hosts.nodes}
    for node in hosts.nodes:
        url = f"http://{found['spec']['clusterIP']}/cgi-bin/who"
        assert {inside(node, url)[0] for _ in range(20)} == names
        url = f"http://{node.host.address}:{port}/cgi-bin/who"
        assert {outside(hosts, url)[0] for _ in range(20)} == names


def balancer(hosts: Hosts, name: str) -> str:
    """The address of a LoadBalancer Service; empty while it has none."""
    found = hosts.read(f"/api/v1/namespaces/default/services/{name}")
    ingress = found["status"]["loadBalancer"].get("ingress") or [{}]
    return str(ingress[0].get("ip", ""))


def test_load_balancers_have_addresses_of_their_own_on_the_link(hosts: Hosts):
    wait_for(lambda: balancer(hosts, "who") and balancer(hosts, "near"), 10, "the addresses")
    first, second = balancer(hosts, "who"), balancer(hosts, "near")
    assert first != second
    for address in (first, second):
        url = f"http://{address}/cgi-bin/who"
        get = ("curl", "-s", "-m", "1", "--noproxy", "*", url)
        wait_for(lambda get=get: hosts.client.run(*get, check=False).stdout, 20, url)
    names = {node.name for node in hosts.nodes}
    assert {outside(hosts, f"http://{first}/cgi-bin/who")[0] for _ in range(20)} == names
    # Local: the node that has the address answers itself, and sees who asks.
    answers = {tuple(outside(hosts, f"http://{second}/cgi-bin/who")) for _ in range(10)}
    assert {client for _, client in answers} == {hosts.client.address}
    assert len(answers) == 1


def test_every_node_says_whether_it_has_endpoints(hosts: Hosts):
    found = hosts.read("/api/v1/namespaces/default/services/near")
    port = found["spec"]["healthCheckNodePort"]
    for node in hosts.nodes:
        url = f"http://{node.host.address}:{port}/healthz"
        done = hosts.client.run("curl", "-sS", "-m", "5", "--noproxy", "*", url)
        assert json.loads(done.stdout) == {
            "service": {"namespace": "default", "name": "near"},
            "localEndpoints": 1,
            "serviceProxyHealthy": True,
        }
