"""The provider of hosts that stand on their own: a LoadBalancer Service is reached at the nodes'
addresses, or at one out of a pool that the nodes announce on their link.

Pure but for its name. What was given out is written in the Services' statuses and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meshkube.address_pool import Pool
from meshkube.api import meta
from meshkube.api.balancing import FROM_POOL, balancer_addresses, pool_addresses
from meshkube.api.nodes import reachable_addresses
from meshkube.api.types import Object
from meshkube.control.cloud.provider import Balancer, CloudError

NODES_CLASS, POOL_CLASS = "meshkube.io/nodes", "meshkube.io/pool"
ASK = "meshkube.io/load-balancer-ips"
"""The annotation that asks for addresses of the pool, with commas; or `spec.loadBalancerIP`."""


class BareMetal:
    """A `CloudProvider`, and its own load balancers."""

    name = "bare-metal"
    instances = None
    routes = None
    classes = frozenset({NODES_CLASS, POOL_CLASS})
    cleans_up = False

    def __init__(self, pool: Pool | None = None, ingress_ports: Sequence[int] = ()) -> None:
        """`ingress_ports`: those that the ingress listens on, at every node's addresses."""
        self._pool = pool or Pool()
        self._ingress_ports = frozenset(ingress_ports)

    @property
    def load_balancers(self) -> BareMetal:
        return self

    async def ensure(
        self, service: Object, nodes: Sequence[Object], services: Sequence[Object]
    ) -> Balancer:
        """Raises `CloudError` where the pool, or the nodes' ports, cannot give what is wanted."""
        asked_class = (service.get("spec") or {}).get("loadBalancerClass")
        if asked_class == POOL_CLASS and not self._pool:
            raise CloudError("NoPool", "no --load-balancer-pool is set on the servers", 300.0)
        if not self._pool or asked_class == NODES_CLASS:
            addresses = node_addresses(nodes, _versions(service))
            _check_ports(service, addresses, services)
            return Balancer(ingress=_ingress(addresses), warning=self._warning(service))
        given = choose(service, services, self._pool)
        condition = {
            "type": FROM_POOL,
            "status": "True",
            "reason": "Allocated",
            "message": "the address is announced by one of the nodes",
        }
        return Balancer(ingress=_ingress(given), conditions=[condition])

    async def delete(self, service: Object) -> None:
        """A Service that is gone holds no address."""

    def _warning(self, service: Object) -> tuple[str, str] | None:
        taken = sorted(port for _, port in _ports(service) if port in self._ingress_ports)
        if not taken:
            return None
        ports = ", ".join(map(str, taken))
        return "IngressPortTaken", (
            f"what comes to the nodes' addresses on port {ports} goes to this Service and no more "
            "to the ingress; an address of a --load-balancer-pool would leave it its port"
        )


def node_addresses(nodes: Iterable[Object], versions: Sequence[int]) -> list[str]:
    """For each node one address of each of these IP versions that it has: its first external one,
    or else its first internal one. Those of the first version come first."""
    found = {
        address
        for node in nodes
        for version, address in reachable_addresses(node).items()
        if version in versions
    }
    return sorted(found, key=lambda address: (versions.index(_version(address)), address))


def _check_ports(service: Object, addresses: Sequence[str], services: Iterable[Object]) -> None:
    """A port of the nodes has one Service: the one that holds it, of two the older one. Raises
    `CloudError`."""
    here, wanted = set(addresses), _ports(service)
    holds = bool(here.intersection(balancer_addresses(service)))
    for other in services:
        both = wanted & _ports(other)
        if holds and _age(service) < _age(other):
            continue
        if both and here.intersection(balancer_addresses(other)):
            protocol, port = min(both)
            raise CloudError(
                "PortTaken",
                f"port {port}/{protocol} of the nodes' addresses is that of the Service "
                f"{meta.key(other)}",
            )


def _ports(service: Object) -> set[tuple[str, int]]:
    ports = (service.get("spec") or {}).get("ports") or ()
    return {(str(port.get("protocol") or "TCP"), int(port["port"])) for port in ports}


def choose(service: Object, services: Iterable[Object], pool: Pool) -> list[str]:
    """The Service's addresses, one for each of its IP families that the pool has: those it asks
    for, else those it has, else free ones. Raises `CloudError`; what it had then stays."""
    taken = {address: meta.key(other) for other in services for address in pool_addresses(other)}
    asked = _asked(service)
    held = [address for address in pool_addresses(service) if address in pool]
    given = []
    for version in _versions(service):
        wanted = [address for address in asked if _version(address) == version]
        if wanted:
            given.append(_granted(wanted[0], taken, pool))
        elif not asked or pool.has(version):
            address = _kept(held, version, taken, service, services)
            address = address or pool.first_free(version, taken)
            if address is not None:
                given.append(address)
    if not given:
        raise CloudError("NoFreeAddress", "the pool of load-balancer addresses has none left")
    return given


def _granted(address: str, taken: dict[str, str], pool: Pool) -> str:
    if address not in pool:
        raise CloudError("AddressOutsidePool", f"{address} is not in the load-balancer pool", 300.0)
    if address in taken:
        raise CloudError("AddressTaken", f"{address} is that of the Service {taken[address]}")
    return address


def _kept(
    held: Iterable[str],
    version: int,
    taken: dict[str, str],
    service: Object,
    services: Iterable[Object],
) -> str | None:
    """The address it has. Should another have it too, the older Service keeps it."""
    ages = {meta.key(other): _age(other) for other in services}
    for address in held:
        if _version(address) != version:
            continue
        rival = taken.get(address)
        if rival is None or _age(service) < ages[rival]:
            return address
    return None


def _asked(service: Object) -> list[str]:
    annotated = meta.annotations(service).get(ASK) or ""
    text = annotated or (service.get("spec") or {}).get("loadBalancerIP") or ""
    return [part.strip() for part in text.split(",") if part.strip()]


def _versions(service: Object) -> list[int]:
    families = (service.get("spec") or {}).get("ipFamilies") or ["IPv4"]
    return [6 if family == "IPv6" else 4 for family in families]


def _version(address: str) -> int:
    return 6 if ":" in address else 4


def _age(service: Object) -> tuple[str, str]:
    return str(meta.metadata(service).get("creationTimestamp") or ""), meta.key(service)


def _ingress(addresses: Iterable[str]) -> list[Object]:
    return [{"ip": address, "ipMode": "VIP"} for address in addresses]
