"""Objects as the API holds them, for tests of records, zones and answers."""

from __future__ import annotations

from typing import Any

import dns.message
import pytest

from meshkube.dns import records
from meshkube.dns.responder import Answer, Authority, Forward, respond
from meshkube.dns.wire import LARGEST_TCP, read
from meshkube.dns.zone import Zone

DOMAIN = "cluster.local"


def service(name: str, namespace: str = "shop", **spec: Any) -> dict[str, Any]:
    spec.setdefault("ports", [{"name": "http", "port": 80, "protocol": "TCP"}])
    return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}


def slice_of(name: str, *endpoints: dict[str, Any], namespace: str = "shop") -> dict[str, Any]:
    return {
        "metadata": {
            "name": f"{name}-abc",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": list(endpoints),
    }


def endpoint(address: str, *, ready: bool = True, hostname: str = "") -> dict[str, Any]:
    made: dict[str, Any] = {"addresses": [address], "conditions": {"ready": ready}}
    return made | ({"hostname": hostname} if hostname else {})


@pytest.fixture
def zone() -> Zone:
    """A cluster with a Service of each sort."""
    made = Zone(serial=7)
    made.replace("", records.apex_records(DOMAIN, "10.43.0.10"))
    slices = [
        slice_of(
            "db",
            endpoint("10.42.0.5", hostname="db-0"),
            endpoint("10.42.0.6"),
            endpoint("10.42.0.7", ready=False, hostname="db-2"),
        )
    ]
    for each in (
        service("user", clusterIP="10.43.7.7"),
        service("db", clusterIP="None"),
        service("away", type="ExternalName", externalName="Example.org"),
        service("near", type="ExternalName", externalName="user.shop.svc.cluster.local"),
        service("loop", type="ExternalName", externalName="loop.shop.svc.cluster.local"),
    ):
        owner = each["metadata"]["name"]
        made.replace(owner, records.service_records(each, slices if owner == "db" else [], DOMAIN))
    return made


class Asker:
    """Asks a zone and reads the answer with dnspython, the judge of our bytes."""

    def __init__(self, zone: Zone) -> None:
        self.zone = zone
        self.authority = Authority.of(DOMAIN, ["10.43.0.0/16", "10.42.0.0/16"])

    def raw(self, packet: bytes, largest: int = LARGEST_TCP) -> Answer | Forward:
        return respond(self.zone, self.authority, read(packet), largest)

    def ask(self, name: str, type: str = "A", **options: Any) -> dns.message.Message:
        query = dns.message.make_query(name, type, **options)
        found = self.raw(query.to_wire())
        assert isinstance(found, Answer)
        response = dns.message.from_wire(found.messages[0])
        assert query.is_response(response)
        return response


@pytest.fixture
def asker(zone: Zone) -> Asker:
    return Asker(zone)
