"""Services as pods reach them where Service addresses are of a loopback range."""

from __future__ import annotations

from meshkube.api.types import Object
from meshkube.node.reachable import by_pods


def service(name: str, address: str, *ports: Object, namespace: str = "shop") -> Object:
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": address, "ports": list(ports)},
    }


def test_addresses_that_pods_reach_stay_as_they_are() -> None:
    plain = [service("web", "10.43.0.80", {"port": 80}), service("headless", "None", {"port": 80})]
    assert list(by_pods(plain, "192.0.2.11", None)) == plain


def test_pods_are_told_node_ports_instead_of_loopback_addresses() -> None:
    web = service("web", "127.43.0.80", {"name": "http", "port": 80, "nodePort": 30080})
    (found,) = by_pods([web], "192.0.2.11", None)
    assert found["spec"]["clusterIP"] == "192.0.2.11"
    assert [(port["name"], port["port"]) for port in found["spec"]["ports"]] == [("http", 30080)]
    assert web["spec"]["ports"][0]["port"] == 80


def test_a_service_that_pods_cannot_reach_is_left_out() -> None:
    assert list(by_pods([service("web", "127.43.0.80", {"port": 80})], "192.0.2.11", None)) == []


def test_the_api_is_where_it_listens() -> None:
    api = service("kubernetes", "127.43.0.1", {"port": 443}, namespace="default")
    (found,) = by_pods([api], "192.0.2.11", ("192.0.2.11", 6443))
    assert found["spec"]["clusterIP"] == "192.0.2.11"
    assert found["spec"]["ports"] == [{"port": 6443}]
