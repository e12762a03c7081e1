"""The Kubernetes DNS specification (schema 1.1.0) as a table: objects, questions, and what must be
answered, section by section.

`python -m tests.dns.specification ADDRESS [PORT]` asks a server and says where it differs: so the
same table holds for the server in a test, in the daemon, and alone in a process of its own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdatatype

NAMESPACE = "dns-spec"
ZONE = "cluster.local."
SPEC = f"{NAMESPACE}.svc.{ZONE}"
WEB, DB, ALL, BARE = (f"{name}.{SPEC}" for name in ("web", "db", "all", "bare"))


class Case(NamedTuple):
    """A question, and the whole answer: each record as `name type data`, and the code."""

    section: str
    name: str
    type: str
    answers: tuple[str, ...] = ()
    rcode: str = "NOERROR"


CASES = [
    Case("2.2 schema version", f"dns-version.{ZONE}", "TXT", (f'dns-version.{ZONE} TXT "1.1.0"',)),
    Case("2.2 schema version", f"dns-version.{ZONE}", "A"),
    # A Service with a cluster address
    Case("2.3.1 A", WEB, "A", (f"{WEB} A 10.43.250.1",)),
    Case("2.3.1 A, any case", WEB.upper(), "A", (f"{WEB} A 10.43.250.1",)),
    Case("2.3.1 no AAAA in one family", WEB, "AAAA"),
    Case("2.3.1 no other type", WEB, "MX"),
    Case("2.3.1 no such Service", f"absent.{SPEC}", "A", (), "NXDOMAIN"),
    Case("2.3.1 no such namespace", f"web.absent.svc.{ZONE}", "A", (), "NXDOMAIN"),
    Case("2.3.1 nothing below", f"x.{WEB}", "A", (), "NXDOMAIN"),
    Case("2.3.1 a namespace's name exists", SPEC, "A"),
    Case("2.3.1 svc exists", f"svc.{ZONE}", "A"),
    Case("2.3.2 SRV", f"_http._tcp.{WEB}", "SRV", (f"_http._tcp.{WEB} SRV 0 100 80 {WEB}",)),
    Case(
        "2.3.2 SRV, another protocol",
        f"_dns._udp.{WEB}",
        "SRV",
        (f"_dns._udp.{WEB} SRV 0 100 53 {WEB}",),
    ),
    Case("2.3.2 SRV, wrong protocol", f"_http._udp.{WEB}", "SRV", (), "NXDOMAIN"),
    Case("2.3.2 SRV, no such port", f"_grpc._tcp.{WEB}", "SRV", (), "NXDOMAIN"),
    Case("2.3.2 no SRV for a port without a name", f"_tcp.{BARE}", "SRV", (), "NXDOMAIN"),
    Case("2.3.2 the protocol's name exists", f"_tcp.{WEB}", "SRV"),
    Case(
        "2.3.3 PTR",
        "1.250.43.10.in-addr.arpa.",
        "PTR",
        (f"1.250.43.10.in-addr.arpa. PTR {WEB}",),
    ),
    Case("2.3.3 no PTR", "99.250.43.10.in-addr.arpa.", "PTR", (), "NXDOMAIN"),
    Case("2.3.3 above a PTR", "250.43.10.in-addr.arpa.", "PTR"),
    # A headless Service
    Case("2.4.1 A of each ready endpoint", DB, "A", (f"{DB} A 10.42.9.1", f"{DB} A 10.42.9.2")),
    Case("2.4.1 AAAA", DB, "AAAA", (f"{DB} AAAA fd00:9::1",)),
    Case("2.4.1 of one endpoint by hostname", f"db-0.{DB}", "A", (f"db-0.{DB} A 10.42.9.1",)),
    Case(
        "2.4.1 of one endpoint without a hostname",
        f"10-42-9-2.{DB}",
        "A",
        (f"10-42-9-2.{DB} A 10.42.9.2",),
    ),
    Case("2.4.1 not of one that is not ready", f"db-2.{DB}", "A", (), "NXDOMAIN"),
    Case("2.4.1 no endpoint", f"empty.{SPEC}", "A", (), "NXDOMAIN"),
    Case("2.4.1 unready ones where they are to be published", ALL, "A", (f"{ALL} A 10.42.9.9",)),
    Case(
        "2.4.2 SRV of each ready endpoint",
        f"_sql._tcp.{DB}",
        "SRV",
        (
            f"_sql._tcp.{DB} SRV 0 100 5432 10-42-9-2.{DB}",
            f"_sql._tcp.{DB} SRV 0 100 5432 db-0.{DB}",
            f"_sql._tcp.{DB} SRV 0 100 5432 db-6.{DB}",
        ),
    ),
    Case("2.4.2 SRV, no such port", f"_http._tcp.{DB}", "SRV", (), "NXDOMAIN"),
    Case(
        "2.4.3 PTR of a ready endpoint with a hostname",
        "1.9.42.10.in-addr.arpa.",
        "PTR",
        (f"1.9.42.10.in-addr.arpa. PTR db-0.{DB}",),
    ),
    Case("2.4.3 no PTR of an unready one", "3.9.42.10.in-addr.arpa.", "PTR", (), "NXDOMAIN"),
    # A Service that is a name elsewhere
    Case("2.5.1 CNAME", f"away.{SPEC}", "CNAME", (f"away.{SPEC} CNAME elsewhere.invalid.",)),
    Case(
        "2.5.1 CNAME to a Service",
        f"near.{SPEC}",
        "A",
        (f"near.{SPEC} CNAME {WEB}", f"{WEB} A 10.43.250.1"),
    ),
    # Pods by their address: the documentation of Kubernetes
    Case(
        "pods",
        f"10-42-9-1.{NAMESPACE}.pod.{ZONE}",
        "A",
        (f"10-42-9-1.{NAMESPACE}.pod.{ZONE} A 10.42.9.1",),
    ),
    Case(
        "pods",
        f"fd00-9--1.{NAMESPACE}.pod.{ZONE}",
        "AAAA",
        (f"fd00-9--1.{NAMESPACE}.pod.{ZONE} AAAA fd00:9::1",),
    ),
    Case("pods, other family", f"10-42-9-1.{NAMESPACE}.pod.{ZONE}", "AAAA"),
    Case("pods, no address", f"web.{NAMESPACE}.pod.{ZONE}", "A", (), "NXDOMAIN"),
    Case("pods, too far", f"10-42-9-1-1.{NAMESPACE}.pod.{ZONE}", "A", (), "NXDOMAIN"),
    Case("pods, no such namespace", f"10-42-9-1.absent.pod.{ZONE}", "A", (), "NXDOMAIN"),
    Case("pods, a namespace", f"{NAMESPACE}.pod.{ZONE}", "A"),
    Case("pods, their zone", f"pod.{ZONE}", "A"),
    # The zone itself
    Case("zone", ZONE, "NS", (f"{ZONE} NS ns.dns.{ZONE}",)),
    Case("zone", ZONE, "A"),
    Case("zone, everything", WEB, "ANY", (f'{WEB} HINFO "RFC8482" ""',)),
    Case("zone, nothing else", f"absent.{ZONE}", "A", (), "NXDOMAIN"),
    # A resolver's search list: the first name stands for the walk
    Case(
        "search list",
        f"web.{NAMESPACE}.{SPEC}",
        "A",
        (f"web.{NAMESPACE}.{SPEC} CNAME {WEB}", f"{WEB} A 10.43.250.1"),
    ),
    Case("search list, ends nowhere", f"absent.{NAMESPACE}.{SPEC}", "A", (), "NXDOMAIN"),
]


def service(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": spec,
    }


def endpoints(
    of: str, suffix: str, port: tuple[str, int], *found: dict[str, Any], family: str = "IPv4"
) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{of}-{suffix}",
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": of},
        },
        "addressType": family,
        "ports": [{"name": port[0], "port": port[1], "protocol": "TCP"}],
        "endpoints": list(found),
    }


def endpoint(address: str, hostname: str = "", *, ready: bool = True) -> dict[str, Any]:
    made = {"addresses": [address], "conditions": {"ready": ready}}
    return made | ({"hostname": hostname} if hostname else {})


def objects() -> Iterator[dict[str, Any]]:
    """What the table is about, for any API. No Service has a selector: the slices stand."""
    yield {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    ports = [
        {"name": "http", "port": 80},
        {"name": "dns", "port": 53, "protocol": "UDP"},
    ]
    yield service("web", clusterIP="10.43.250.1", ports=ports)
    yield service("bare", clusterIP="10.43.250.2", ports=[{"port": 80}])
    sql = [{"name": "sql", "port": 5432}]
    yield service("db", clusterIP="None", ports=sql)
    yield service("all", clusterIP="None", ports=sql, publishNotReadyAddresses=True)
    yield service("empty", clusterIP="None", ports=sql)
    yield service("away", type="ExternalName", externalName="elsewhere.invalid")
    yield service("near", type="ExternalName", externalName=WEB.rstrip("."))
    yield endpoints(
        "db",
        "4",
        ("sql", 5432),
        endpoint("10.42.9.1", "db-0"),
        endpoint("10.42.9.2"),
        endpoint("10.42.9.3", "db-2", ready=False),
    )
    yield endpoints("db", "6", ("sql", 5432), endpoint("fd00:9::1", "db-6"), family="IPv6")
    yield endpoints("all", "4", ("sql", 5432), endpoint("10.42.9.9", "all-0", ready=False))


def differences(address: str, port: int, cases: list[Case]) -> Iterator[str]:
    """Asks each question over UDP; a line for each answer that is not as it must be."""
    for case in cases:
        query = dns.message.make_query(case.name, case.type)
        response = dns.query.udp(query, address, timeout=5, port=port)
        if wrong := list(faults(case, response)):
            yield f"{case.section}: {case.name} {case.type}: {'; '.join(wrong)}"


def faults(case: Case, response: dns.message.Message) -> Iterator[str]:
    """What is wrong with an answer."""
    found = sorted(
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {data}".lower()
        for rrset in response.answer
        for data in rrset
    )
    if found != sorted(answer.lower() for answer in case.answers):
        yield f"answers {found}, not {list(case.answers)}"
    if (rcode := dns.rcode.to_text(response.rcode())) != case.rcode:
        yield f"code {rcode}, not {case.rcode}"
    if str(response.question[0].name) != case.name:
        yield "the question's case is lost"
    if not response.flags & dns.flags.AA:
        yield "no authority"
    starts = [rrset for rrset in response.authority if rrset.rdtype == dns.rdatatype.SOA]
    if bool(starts) == bool(case.answers):
        yield "SOA belongs to answers with nothing to say, and to them alone"


def main() -> int:
    """Prints the objects as JSON, or, given an address, what differs there."""
    if len(sys.argv) == 1:
        made = {"apiVersion": "v1", "kind": "List", "items": list(objects())}
        sys.stdout.write(json.dumps(made))
        return 0
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 53
    wrong = list(differences(sys.argv[1], port, CASES))
    sys.stdout.write("\n".join([*wrong, f"{len(CASES)} questions, {len(wrong)} wrong\n"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
