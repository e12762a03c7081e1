"""Which records each Service has: the Kubernetes DNS specification (schema 1.1.0), pure.

A record's data is in wire form already: it is encoded once, when the Service changes.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.dns import names

A = 1
NS = 2
CNAME = 5
SOA = 6
PTR = 12
HINFO = 13
TXT = 16
AAAA = 28
SRV = 33
OPT = 41
IXFR = 251
AXFR = 252
ANY = 255

# What is told to those who ask for everything: CPU `RFC8482`, no system (RFC 8482, section 4.2).
NOT_ANY = b"\x07RFC8482\x00"
SCHEMA_VERSION = "1.1.0"
SERVICE_LABEL = "kubernetes.io/service-name"
# Every target is as good as the next: Services know no priorities.
SRV_PRIORITY, SRV_WEIGHT = 0, 100


class Record(NamedTuple):
    """One record: owner name and data in wire form."""

    name: bytes
    type: int
    data: bytes


class Endpoint(NamedTuple):
    """One address behind a headless Service."""

    address: str
    hostname: str
    """The pod's hostname where it has one; else made of the address, as CoreDNS makes it."""
    named: bool
    ports: tuple[tuple[str, str, int], ...]
    """(name, protocol in lower case, number) of each named port."""


def service_records(service: Object, slices: Iterable[Object], domain: str) -> list[Record]:
    """Every record of one Service. `slices` are its EndpointSlices (used when it is headless)."""
    spec = service.get("spec") or {}
    own = f"{meta.name(service)}.{meta.namespace(service)}.svc.{domain}"
    if spec.get("type") == "ExternalName":
        return _external_records(own, str(spec.get("externalName") or ""))
    if spec.get("clusterIP") == "None":
        ready_only = not spec.get("publishNotReadyAddresses")
        return list(_headless_records(own, endpoints(slices, ready_only)))
    return list(_cluster_ip_records(own, spec))


def apex_records(domain: str, server: str) -> list[Record]:
    """The zone's own records: its name server and `dns-version`. `server` is the DNS address."""
    name_server = f"ns.dns.{domain}"
    version = SCHEMA_VERSION.encode()
    return [
        Record(names.encode(domain), NS, names.encode(name_server)),
        Record(names.encode(name_server), *_address(server)),
        Record(names.encode(f"dns-version.{domain}"), TXT, bytes([len(version)]) + version),
    ]


def host_records(hosts: Iterable[tuple[str, Iterable[str]]]) -> list[Record]:
    """Those of an operator's own list, (address, names) as in hosts(5): each name's address, and
    for the address its first name."""
    found = []
    for address, listed in hosts:
        encoded = [names.encode(name) for name in listed]
        found += [Record(name, *_address(address)) for name in encoded]
        found.append(Record(names.encode(names.reverse(address)), PTR, encoded[0]))
    return found


def soa(zone: str, domain: str, serial: int, negative_ttl: int) -> Record:
    """The start of authority that goes with negative answers (RFC 2308)."""
    data = (
        names.encode(f"ns.dns.{domain}")
        + names.encode(f"hostmaster.{domain}")
        + struct.pack("!IIIII", serial & 0xFFFFFFFF, 7200, 1800, 86400, negative_ttl)
    )
    return Record(names.encode(zone), SOA, data)


def endpoints(slices: Iterable[Object], ready_only: bool) -> list[Endpoint]:
    """The addresses of a headless Service, each once, in a stable order."""
    found: dict[str, Endpoint] = {}
    for piece in slices:
        if piece.get("addressType") == "FQDN":
            continue
        ports = tuple(
            (str(port["name"]), str(port.get("protocol") or "TCP").lower(), int(port["port"]))
            for port in piece.get("ports") or ()
            if port.get("name") and port.get("port")
        )
        for endpoint in piece.get("endpoints") or ():
            ready = (endpoint.get("conditions") or {}).get("ready")
            if ready_only and ready is False:
                continue
            hostname = endpoint.get("hostname")
            for address in endpoint.get("addresses") or ():
                made = address.replace(".", "-").replace(":", "-")
                found[address] = Endpoint(address, hostname or made, bool(hostname), ports)
    return [found[address] for address in sorted(found)]


def _external_records(own: str, target: str) -> list[Record]:
    try:
        return [Record(names.encode(own), CNAME, names.encode(target))] if target else []
    except ValueError:
        return []


def _cluster_ip_records(own: str, spec: Object) -> Iterator[Record]:
    name = names.encode(own)
    for address in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if not address:
            continue
        yield Record(name, *_address(address))
        yield Record(names.encode(names.reverse(address)), PTR, name)
    for port in spec.get("ports") or ():
        if port.get("name"):
            protocol = str(port.get("protocol") or "TCP").lower()
            yield _srv(own, str(port["name"]), protocol, int(port["port"]), name)


def _headless_records(own: str, found: Iterable[Endpoint]) -> Iterator[Record]:
    name = names.encode(own)
    for endpoint in found:
        data = _address(endpoint.address)
        target = names.encode(f"{endpoint.hostname}.{own}")
        yield Record(name, *data)
        yield Record(target, *data)
        yield Record(names.encode(names.reverse(endpoint.address)), PTR, target)
        for port, protocol, number in endpoint.ports:
            yield _srv(own, port, protocol, number, target)


def _srv(own: str, port: str, protocol: str, number: int, target: bytes) -> Record:
    data = struct.pack("!HHH", SRV_PRIORITY, SRV_WEIGHT, number) + target
    return Record(names.encode(f"_{port}._{protocol}.{own}"), SRV, data)


def _address(address: str) -> tuple[int, bytes]:
    parsed = ipaddress.ip_address(address)
    return (A if parsed.version == 4 else AAAA), parsed.packed
