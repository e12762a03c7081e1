"""Addresses and node ports of Services, allotted without races.

The registry claims before it writes, and undoes the claim when the write fails; what is stored then
takes and gives back through the watch cache. All in memory and in one thread. Source: Kubernetes'
Service REST strategy, and its document "Virtual IPs and Service Proxies".
"""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterable, Iterator

from meshkube.api import errors, kinds, meta
from meshkube.api.errors import ApiError, FieldError
from meshkube.api.types import Object
from meshkube.api.validation.addresses import validate_cluster_ips_update
from meshkube.control.apiserver import service_families

NONE = "None"
_WITH_PORTS = ("NodePort", "LoadBalancer")
_IP_FIELDS = ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy")


Held = str | int
Claim = list[Held]
"""What one write has taken."""


class ServiceAllocator:
    """Who holds which address (str) and which node port (int)."""

    def __init__(self, service_cidr: str, node_ports: range) -> None:
        """`service_cidr`: one of each family, with a comma; the first is the cluster's own."""
        networks = map(ipaddress.ip_network, service_cidr.split(","))
        self._networks = {f"IPv{network.version}": network for network in networks}
        self._ports = node_ports
        self._owners: dict[Held, str] = {}

    def rebuild(self, services: Iterable[Object]) -> None:
        """Starts over from what is stored."""
        self._owners = {
            held: meta.key(service) for service in services for held in held_by(service)
        }

    def owner(self, held: Held) -> str:
        """The key of the Service that holds an address or a port; empty when none does."""
        return self._owners.get(held, "")

    def claim(self, new: Object) -> Claim:
        """Fills in `new`'s addresses and ports, in place. Raises `ApiError` 422 for one that may
        not be had, 500 where none is left; then nothing is taken."""
        spec = new.setdefault("spec", {})
        claim: Claim = []
        try:
            self._claim_address(new, spec, claim)
            self._claim_ports(new, spec, claim)
        except ApiError:
            self.undo(claim)
            raise
        return claim

    def undo(self, claim: Claim) -> None:
        """The write did not take place."""
        for held in claim:
            self._owners.pop(held, None)

    def changed(self, old: Object | None, new: Object | None) -> None:
        """What is stored of one Service changed: it holds what `new` says, and no more."""
        for held in held_by(old) if old is not None else ():
            if self.owner(held) == meta.key(old or {}):
                del self._owners[held]
        for held in held_by(new) if new is not None else ():
            self._owners[held] = meta.key(new or {})

    def _claim_address(self, new: Object, spec: Object, claim: Claim) -> None:
        if spec.get("type") == "ExternalName":
            return
        asked = list(spec.get("clusterIPs") or filter(None, [spec.get("clusterIP")]))
        families = service_families.settle(new, list(self._networks))
        if asked == [NONE]:
            spec["clusterIP"], spec["clusterIPs"] = NONE, asked
            return
        for address in asked:
            self._ask_address(address, new, claim)
        for family in families[len(asked) :]:
            asked.append(self._free_address(family))
            self._take(asked[-1], new, claim)
        spec["clusterIP"], spec["clusterIPs"] = asked[0], asked

    def _ask_address(self, asked: str, new: Object, claim: Claim) -> None:
        if self.owner(asked) == meta.key(new):
            return
        where = "spec.clusterIPs"
        family = service_families.family_of(asked)
        if not family:
            return  # validation says so
        network = self._networks.get(family) or next(iter(self._networks.values()))
        inside = ipaddress.ip_address(asked) in network
        why = ""
        if not inside:
            why = (
                f"the provided IP ({asked}) is not in the valid range. The range of valid IPs is "
                f"{network}"
            )
        elif self.owner(asked):
            why = "provided IP is already allocated"
        if why:
            value = f'["{asked}"]'
            raise _refused(new, where, f"{value}: failed to allocate IP {asked}: {why}")
        self._take(asked, new, claim)

    def _free_address(self, family: str) -> str:
        for address in _candidates(self._networks[family]):
            if address not in self._owners:
                return address
        raise errors.internal("failed to allocate a serviceIP: range is full")

    def _claim_ports(self, new: Object, spec: Object, claim: Claim) -> None:
        ports = spec.get("ports") or []
        if not wants_ports(spec):
            return
        for index, port in enumerate(ports):
            asked = port.get("nodePort")
            if asked:
                self._ask_port(asked, index, new, claim)
        given = _by_other_protocol(ports)
        for port in ports:
            if not port.get("nodePort"):
                shared = given.get(port.get("port"))
                port["nodePort"] = shared if shared else self._free_port(new, claim)
                given.setdefault(port.get("port"), port["nodePort"])
        self._claim_health_port(new, spec, claim)

    def _claim_health_port(self, new: Object, spec: Object, claim: Claim) -> None:
        due = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
        if due and not spec.get("healthCheckNodePort"):
            spec["healthCheckNodePort"] = self._free_port(new, claim)
        elif due:
            self._ask_port(spec["healthCheckNodePort"], None, new, claim)

    def _ask_port(self, asked: int, index: int | None, new: Object, claim: Claim) -> None:
        where = "spec.healthCheckNodePort" if index is None else f"spec.ports[{index}].nodePort"
        if asked not in self._ports:
            low, high = self._ports[0], self._ports[-1]
            why = (
                f"{asked}: provided port is not in the valid range. The range of valid ports is "
                f"{low}-{high}"
            )
            raise _refused(new, where, why)
        owner = self.owner(asked)
        if owner and owner != meta.key(new):
            raise _refused(new, where, f"{asked}: provided port is already allocated")
        if not owner:
            self._take(asked, new, claim)

    def _free_port(self, new: Object, claim: Claim) -> int:
        start = random.randrange(len(self._ports))
        for offset in range(len(self._ports)):
            port = self._ports[(start + offset) % len(self._ports)]
            if port not in self._owners:
                self._take(port, new, claim)
                return port
        raise errors.internal("failed to allocate a nodePort: range is full")

    def _take(self, held: Held, new: Object, claim: Claim) -> None:
        self._owners[held] = meta.key(new)
        claim.append(held)


def wants_ports(spec: Object) -> bool:
    """True where a Service's ports are also opened on every node."""
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") in _WITH_PORTS


def _external(spec: Object) -> bool:
    by_type = spec.get("type") in _WITH_PORTS
    return by_type or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


def _balanced(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer"


# Fields that only some Services may have: they go with the type that had them.
_OF_TYPE: dict[str, Callable[[Object], bool]] = {
    "externalTrafficPolicy": _external,
    "internalTrafficPolicy": lambda spec: spec.get("type") != "ExternalName",
    "allocateLoadBalancerNodePorts": _balanced,
    "loadBalancerClass": _balanced,
    "externalName": lambda spec: spec.get("type") == "ExternalName",
}


def held_by(service: Object) -> Iterator[Held]:
    spec = service.get("spec") or {}
    for address in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if address and address != NONE:
            yield address
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            yield int(port["nodePort"])
    if spec.get("healthCheckNodePort"):
        yield int(spec["healthCheckNodePort"])


def prepare(new: Object, old: Object | None) -> None:
    """Before validation, in place: what an update leaves out stays, and the two ways to write an
    address agree."""
    spec = new.setdefault("spec", {})
    before = (old or {}).get("spec") or {}
    if old is not None:
        _carry_over(spec, before)
        service_families.follow_policy(spec, before)
    address, addresses = spec.get("clusterIP"), spec.get("clusterIPs")
    if address and (not addresses or addresses == before.get("clusterIPs") != [address]):
        spec["clusterIPs"] = [address]
    elif addresses and not address:
        spec["clusterIP"] = addresses[0]
    if before and "ExternalName" not in (spec.get("type"), before.get("type")):
        # Told before another address is asked for, which may not even be free.
        faults = validate_cluster_ips_update(spec, before)
        if faults:
            raise errors.invalid("", "Service", meta.name(new), faults)


def _carry_over(spec: Object, old: Object) -> None:
    """What an update leaves out stays allotted, and what its new type has no use for goes."""
    if spec.get("type") != "ExternalName" and old.get("type") != "ExternalName":
        if not spec.get("clusterIP"):
            for name in _IP_FIELDS:
                given = name.startswith("ipFamil") and spec.get(name)
                if old.get(name) and not given:
                    spec[name] = old[name]
    elif spec.get("type") == "ExternalName":
        for name in _IP_FIELDS:
            if not spec.get(name) or spec[name] == old.get(name):
                spec.pop(name, None)
    if wants_ports(spec) and wants_ports(old):
        _carry_ports(spec, old)
    elif not wants_ports(spec):
        _drop_ports(spec, old)
    _carry_health_port(spec, old)
    for name, wanted in _OF_TYPE.items():
        if not wanted(spec) and wanted(old) and spec.get(name) == old.get(name):
            spec.pop(name, None)


def _carry_ports(spec: Object, old: Object) -> None:
    before = {_port_key(port): port.get("nodePort") for port in old.get("ports") or ()}
    used = {port.get("nodePort") for port in spec.get("ports") or ()}
    for port in spec.get("ports") or ():
        kept = before.get(_port_key(port))
        if not port.get("nodePort") and kept and kept not in used:
            port["nodePort"] = kept


def _drop_ports(spec: Object, old: Object) -> None:
    before = {port.get("nodePort") for port in old.get("ports") or ()}
    for port in spec.get("ports") or ():
        if port.get("nodePort") in before:
            port.pop("nodePort", None)


def _carry_health_port(spec: Object, old: Object) -> None:
    kept = old.get("healthCheckNodePort")
    due = spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    if due and kept and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = kept
    elif not due and spec.get("healthCheckNodePort") == kept:
        spec.pop("healthCheckNodePort", None)


def _port_key(port: Object) -> tuple[str, int]:
    return str(port.get("protocol") or "TCP"), int(port.get("port") or 0)


def _by_other_protocol(ports: list[Object]) -> dict[int | None, int]:
    """One port number in TCP and UDP shares one node port."""
    return {port.get("port"): port["nodePort"] for port in ports if port.get("nodePort")}


def _candidates(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> Iterator[str]:
    """Free to hand out, in random order: dynamic ones come from the upper band first, so that
    those asked for by hand (from the lower one) seldom meet them (KEP-3070)."""
    size = network.num_addresses - 2
    lower = min(max(16, size // 16), 256) if size > 16 else 0
    for low, high in ((lower, size), (0, lower)):
        count = high - low
        start = random.randrange(count) if count else 0
        for offset in range(count):
            yield str(network[1 + low + (start + offset) % count])


def _refused(service: Object, path: str, message: str) -> ApiError:
    fault = FieldError(path, "FieldValueInvalid", f"Invalid value: {message}")
    return errors.invalid("", kinds.SERVICE.kind, meta.name(service), [fault])
