"""What pods can reach of Services whose addresses are of a loopback range. Pure.

To a pod, such an address is its own loopback: it gets told node ports, and the API's own place.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from meshkube.api import meta
from meshkube.api.types import Object


def by_pods(
    services: Iterable[Object], node_ip: str, api: tuple[str, int] | None
) -> Iterator[Object]:
    """Each Service as pods reach it; without those that they cannot. `api`: where the API is."""
    for service in services:
        if not _is_loopback(service["spec"].get("clusterIP") or ""):
            yield service
        elif api is not None and meta.key(service) == "default/kubernetes":
            ports = [{**port, "port": api[1]} for port in service["spec"].get("ports") or ()]
            yield _at(service, api[0], ports)
        else:
            ports = [
                {**port, "port": port["nodePort"]}
                for port in service["spec"].get("ports") or ()
                if port.get("nodePort")
            ]
            if ports:
                yield _at(service, node_ip, ports)


def _at(service: Object, address: str, ports: list[Object]) -> Object:
    return {**service, "spec": {**service["spec"], "clusterIP": address, "ports": ports}}


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
