"""Many Services for a bench, and the peer's layout of them: a chain per Service and endpoint, as
kube-proxy lays them out in nftables, generated here.
"""

from __future__ import annotations

from collections.abc import Iterator

from meshkube.api.types import Object
from meshkube.dataplane.services import Settings

ENDPOINTS = 2
PODS, CLUSTER = "10.32.0.0/12", "10.64.0.0/16"
SETTINGS = Settings(node_name="h1", pod_cidrs=(PODS,), service_cidrs=(CLUSTER,))


def address(number: int) -> str:
    return f"10.64.{number // 250}.{1 + number % 250}"


def pod(number: int) -> str:
    return f"10.{32 + number // 62500}.{number // 250 % 250}.{1 + number % 250}"


def pods_of(number: int) -> list[str]:
    return [pod(number * ENDPOINTS + index) for index in range(ENDPOINTS)]


def moved(number: int) -> list[str]:
    """The same with one endpoint gone and another come."""
    return [*pods_of(number)[1:], pod(120_000 + number)]


def service(number: int) -> Object:
    ports = [{"port": 80, "protocol": "TCP"}]
    return {
        "metadata": {"name": f"app{number}", "namespace": "bench"},
        "spec": {"type": "ClusterIP", "clusterIP": address(number), "ports": ports},
    }


def endpoint_slice(number: int, pods: list[str]) -> Object:
    name = f"app{number}"
    return {
        "metadata": {
            "name": f"{name}-1",
            "namespace": "bench",
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": [each], "nodeName": "h2"} for each in pods],
    }


def chain_per_service(services: int) -> Iterator[str]:
    """The peer's whole table, in one transaction."""
    yield "add table ip peer"
    yield "delete table ip peer"
    yield "table ip peer {"
    yield "map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }"
    yield "chain mark-for-masquerade { meta mark set meta mark | 0x4000; }"
    yield "chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }"
    yield "chain prerouting { type nat hook prerouting priority -100; jump services; }"
    yield "chain output { type nat hook output priority -100; jump services; }"
    yield "}"
    for number in range(services):
        for each in pods_of(number):
            yield from endpoint_chain(number, each)
        yield f"add chain ip peer {service_chain(number)}"
        yield from service_rules(number, pods_of(number))
    elements = (f"{address(n)} . tcp . 80 : goto {service_chain(n)}" for n in range(services))
    yield f"add element ip peer service-ips {{ {', '.join(elements)} }}"


def service_chain(number: int) -> str:
    return f"service-bench/app{number}/tcp/80"


def endpoint_name(number: int, each: str) -> str:
    return f"endpoint-bench/app{number}/tcp/80__{each}/8080"


def endpoint_chain(number: int, each: str) -> Iterator[str]:
    chain = endpoint_name(number, each)
    yield f"add chain ip peer {chain}"
    yield f"add rule ip peer {chain} ip saddr {each} jump mark-for-masquerade"
    yield f"add rule ip peer {chain} meta l4proto tcp dnat to {each}:8080"


def service_rules(number: int, pods: list[str]) -> Iterator[str]:
    chain = service_chain(number)
    yield (
        f"add rule ip peer {chain} ip daddr {address(number)} tcp dport 80"
        f" ip saddr != {PODS} jump mark-for-masquerade"
    )
    picks = (f"{index} : goto {endpoint_name(number, each)}" for index, each in enumerate(pods))
    yield (f"add rule ip peer {chain} numgen random mod {len(pods)} vmap {{ {', '.join(picks)} }}")


def peer_change(number: int, old: list[str], new: list[str]) -> Iterator[str]:
    """One endpoint out, another in: the chain of the Service is written anew."""
    for each in set(new) - set(old):
        yield from endpoint_chain(number, each)
    yield f"flush chain ip peer {service_chain(number)}"
    yield from service_rules(number, new)
    for each in set(old) - set(new):
        yield f"delete chain ip peer {endpoint_name(number, each)}"
