"""The endpoints of the Service default/kubernetes: one for each server that lives. Pure.

It has no selector, so no controller of Services says them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from meshkube.api import kinds, meta
from meshkube.api.kinds import Kind
from meshkube.api.types import Object

NAME, NAMESPACE = "kubernetes", "default"
LEASE_NAMESPACE = "kube-system"
LEASE_PREFIX = "apiserver-"
LEASE_LABEL = "apiserver.kubernetes.io/identity"
LEASE_LABELS = {LEASE_LABEL: "meshkube"}
AT = "meshkube.io/api-address"
"""Annotation of a server's Lease: where its API is, `ADDRESS:PORT`."""
Place = tuple[str, int]


def lease(name: str, place: Place, seconds: int, now: str) -> Object:
    """The sign of life of the server on the node `name`. `now` is in microseconds."""
    return {
        "apiVersion": kinds.LEASE.api_version,
        "kind": "Lease",
        "metadata": {
            "name": LEASE_PREFIX + name,
            "namespace": LEASE_NAMESPACE,
            "labels": dict(LEASE_LABELS),
            "annotations": {AT: f"{place[0]}:{place[1]}"},
        },
        "spec": {"holderIdentity": name, "leaseDurationSeconds": seconds, "renewTime": now},
    }


def place_of(found: Object) -> Place | None:
    """Where the server of a Lease is."""
    address, _, port = meta.annotations(found).get(AT, "").rpartition(":")
    return (address, int(port)) if address and port.isdigit() else None


@dataclass(slots=True)
class Watchful:
    """Which servers live, by our own steady clock: clocks of hosts are never compared."""

    _seen: dict[str, tuple[str, float]] = field(default_factory=dict)

    def living(self, leases: Iterable[Object], now: float) -> tuple[list[Place], list[Object]]:
        """Where the living are, and the Leases of those that have not renewed in time."""
        places, dead = set(), []
        renewals: dict[str, tuple[str, float]] = {}
        for one in leases:
            spec = one.get("spec") or {}
            renewed = str(spec.get("renewTime"))
            known = self._seen.get(meta.name(one))
            since = known[1] if known is not None and known[0] == renewed else now
            renewals[meta.name(one)] = (renewed, since)
            place = place_of(one)
            if now - since > float(spec.get("leaseDurationSeconds") or 0):
                dead.append(one)
            elif place is not None:
                places.add(place)
        self._seen = renewals
        return sorted(places), dead


def objects(places: Iterable[Place]) -> Iterator[tuple[Kind, Object]]:
    """The Endpoints, and an EndpointSlice for each port and family of addresses."""
    by_port: dict[int, list[str]] = {}
    for address, port in places:
        by_port.setdefault(port, []).append(address)
    yield kinds.ENDPOINTS, _endpoints(by_port)
    first = True
    for port, addresses in sorted(by_port.items()):
        for version in (4, 6):
            chosen = [one for one in addresses if ip_address(one).version == version]
            if chosen:
                name = NAME if first else f"{NAME}-ipv{version}-{port}"
                yield kinds.ENDPOINT_SLICE, _slice(name, version, port, chosen)
                first = False


def _endpoints(by_port: Mapping[int, list[str]]) -> Object:
    return {
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [
            {
                "addresses": [{"ip": address} for address in sorted(addresses)],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
            for port, addresses in sorted(by_port.items())
        ],
    }


def _slice(name: str, version: int, port: int, addresses: list[str]) -> Object:
    return {
        "metadata": {
            "name": name,
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": NAME},
        },
        "addressType": f"IPv{version}",
        "endpoints": [
            {"addresses": [address], "conditions": {"ready": True}} for address in sorted(addresses)
        ],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }


def same(wanted: Object, stored: Object) -> bool:
    """Whether what is stored says already what is wanted."""
    fields = ("subsets", "addressType", "endpoints", "ports")
    return all((wanted.get(one) or []) == (stored.get(one) or []) for one in fields)
