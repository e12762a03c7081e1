"""A cluster of both IP families on Docker, from the pod's addresses to the ingress."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cluster import Cluster
from tests.lab.host import lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(180)]
NODE = "fd00:250::11"
SERVICE: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "both", "namespace": "shop"},
    "spec": {
        "type": "NodePort",
        "ipFamilyPolicy": "RequireDualStack",
        "ipFamilies": ["IPv6", "IPv4"],
        "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080}],
    },
}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with lab(1, docker=True) as (host,):
        host.run("ip", "address", "add", f"{NODE}/64", "dev", "eth0", "nodad")
        host.run("ip", "-6", "route", "add", "default", "via", "fd00:250::1")
        made = Cluster(
            host,
            f"--docker={host.docker_socket}",
            "--pod-cidr=10.42.0.0/16,fd00:42::/56",
            "--service-cidr=10.43.0.0/16,fd00:43::/112",
        )
        made.build_image()
        made.start()
        made.apply_quickstart()
        selector = made.get("service", "user", "-n", "shop")["spec"]["selector"]
        file = host.directory / "both.json"
        file.write_text(json.dumps({**SERVICE, "spec": {**SERVICE["spec"], "selector": selector}}))
        made.meshkube("apply", "-f", str(file))
        yield made


def addresses(cluster: Cluster) -> list[str]:
    return list(cluster.get("service", "both", "-n", "shop")["spec"]["clusterIPs"])


def fetch(cluster: Cluster, url: str, *arguments: str) -> str:
    done = cluster.host.run(
        "curl", "-sSg", "--max-time", "5", "--noproxy", "*", *arguments, url, check=False
    )
    return str(json.loads(done.stdout)["service"]) if done.returncode == 0 else done.stderr


def test_pods_and_the_node_have_an_address_of_each_family(cluster: Cluster) -> None:
    for pod in cluster.get("pods", "-n", "shop")["items"]:
        first, second = (each["ip"] for each in pod["status"]["podIPs"])
        assert pod["status"]["podIP"] == first
        assert (first.startswith("10.42.0."), second.startswith("fd00:42::")) == (True, True)
    (node,) = cluster.get("nodes")["items"]
    assert node["spec"]["podCIDRs"] == ["10.42.0.0/24", "fd00:42::/64"]
    internal = [a["address"] for a in node["status"]["addresses"] if a["type"] == "InternalIP"]
    assert internal == [cluster.host.address, NODE]


def test_a_service_of_both_answers_the_host_and_pods_on_each_address(cluster: Cluster) -> None:
    first, second = addresses(cluster)
    assert first.startswith("fd00:43::")
    (container, *_) = cluster.containers("name=mk_products")
    for address in (f"[{first}]", second):
        url = f"http://{address}/user"
        wait_for(lambda url=url: fetch(cluster, url) == "user", 10, url)
        answer = cluster.host.docker("exec", container, "wget", "-q", "-O", "-", url).stdout
        assert json.loads(answer)["service"] == "user"


def test_node_ports_and_the_ingress_answer_on_both_addresses_of_the_node(cluster: Cluster) -> None:
    for place in (f"[{NODE}]", cluster.host.address):
        assert fetch(cluster, f"http://{place}:30080/user") == "user"
        assert fetch(cluster, f"http://{place}/user", "-H", "Host: shop.example") == "user"


def test_names_have_both_kinds_of_addresses(cluster: Cluster) -> None:
    first, second = addresses(cluster)
    name = "both.shop.svc.cluster.local"
    assert (cluster.dig(name, "AAAA"), cluster.dig(name, "A")) == (first, second)


def test_slices_hold_each_family_by_itself(cluster: Cluster) -> None:
    slices = cluster.get("endpointslices", "-n", "shop")["items"]
    of_both = [s for s in slices if s["metadata"]["name"].startswith("both-")]
    found = {s["addressType"]: len(s["endpoints"]) for s in of_both}
    assert found == {"IPv4": 2, "IPv6": 2}
