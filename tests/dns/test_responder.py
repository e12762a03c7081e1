"""Query in, answer out: tables, in the order of the Kubernetes DNS specification."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import pytest

from meshkube.dns.responder import Answer, Forward
from meshkube.dns.wire import read

NAME = "user.shop.svc.cluster.local."
DB = "db.shop.svc.cluster.local."


def lines(section) -> list[str]:
    """Each record as `name type data`."""
    return sorted(
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {data}"
        for rrset in section
        for data in rrset
    )


ANSWERED = [
    # 2.1 the schema's version
    ("dns-version.cluster.local.", "TXT", ['dns-version.cluster.local. TXT "1.1.0"']),
    # 2.3 a Service with a cluster address
    (NAME, "A", [f"{NAME} A 10.43.7.7"]),
    (f"_http._tcp.{NAME}", "SRV", [f"_http._tcp.{NAME} SRV 0 100 80 {NAME}"]),
    ("7.7.43.10.in-addr.arpa.", "PTR", [f"7.7.43.10.in-addr.arpa. PTR {NAME}"]),
    # 2.4 a headless Service: only ready endpoints, by hostname where there is one
    (DB, "A", [f"{DB} A 10.42.0.5", f"{DB} A 10.42.0.6"]),
    (f"db-0.{DB}", "A", [f"db-0.{DB} A 10.42.0.5"]),
    (f"10-42-0-6.{DB}", "A", [f"10-42-0-6.{DB} A 10.42.0.6"]),
    (
        f"_http._tcp.{DB}",
        "SRV",
        [
            f"_http._tcp.{DB} SRV 0 100 8080 10-42-0-6.{DB}",
            f"_http._tcp.{DB} SRV 0 100 8080 db-0.{DB}",
        ],
    ),
    ("5.0.42.10.in-addr.arpa.", "PTR", [f"5.0.42.10.in-addr.arpa. PTR db-0.{DB}"]),
    # 2.5 a Service that is a name elsewhere
    ("away.shop.svc.cluster.local.", "CNAME", ["away.shop.svc.cluster.local. CNAME example.org."]),
    (
        "near.shop.svc.cluster.local.",
        "A",
        [f"near.shop.svc.cluster.local. CNAME {NAME}", f"{NAME} A 10.43.7.7"],
    ),
    # the zone itself
    ("cluster.local.", "NS", ["cluster.local. NS ns.dns.cluster.local."]),
    ("ns.dns.cluster.local.", "A", ["ns.dns.cluster.local. A 10.43.0.10"]),
]


@pytest.mark.parametrize(("name", "type", "expected"), ANSWERED)
def test_a_name_with_records_is_answered_with_authority(asker, name, type, expected):
    response = asker.ask(name, type)
    assert response.rcode() == dns.rcode.NOERROR
    assert lines(response.answer) == expected
    assert response.flags & dns.flags.AA
    assert not response.authority


EMPTY = [
    # a name that exists, with no record of this type: NODATA
    (NAME, "AAAA", dns.rcode.NOERROR),
    (NAME, "MX", dns.rcode.NOERROR),
    ("shop.svc.cluster.local.", "A", dns.rcode.NOERROR),
    ("svc.cluster.local.", "A", dns.rcode.NOERROR),
    (f"_tcp.{NAME}", "SRV", dns.rcode.NOERROR),
    ("cluster.local.", "A", dns.rcode.NOERROR),
    # a name that does not: NXDOMAIN
    ("nobody.shop.svc.cluster.local.", "A", dns.rcode.NXDOMAIN),
    ("user.other.svc.cluster.local.", "A", dns.rcode.NXDOMAIN),
    (f"_grpc._tcp.{NAME}", "SRV", dns.rcode.NXDOMAIN),
    (f"_http._udp.{NAME}", "SRV", dns.rcode.NXDOMAIN),
    (f"db-2.{DB}", "A", dns.rcode.NXDOMAIN),
    ("user.shop.svc.cluster.local.svc.cluster.local.", "A", dns.rcode.NXDOMAIN),
    ("9.9.43.10.in-addr.arpa.", "PTR", dns.rcode.NXDOMAIN),
]


@pytest.mark.parametrize(("name", "type", "rcode"), EMPTY)
def test_nothing_to_say_says_so_with_the_start_of_authority(asker, name, type, rcode):
    response = asker.ask(name, type)
    assert response.rcode() == rcode
    assert not response.answer
    (start,) = response.authority
    assert start.rdtype == dns.rdatatype.SOA
    assert start[0].minimum == 5
    assert name.endswith(str(start.name))


def test_srv_answers_bring_the_addresses_of_their_targets(asker):
    response = asker.ask(f"_http._tcp.{DB}", "SRV")
    assert lines(response.additional) == [
        f"10-42-0-6.{DB} A 10.42.0.6",
        f"db-0.{DB} A 10.42.0.5",
    ]


def test_the_case_of_the_question_is_kept(asker):
    response = asker.ask("UsEr.Shop.svc.Cluster.Local.")
    assert str(response.question[0].name) == "UsEr.Shop.svc.Cluster.Local."
    assert response.answer[0][0].address == "10.43.7.7"


def test_several_addresses_come_in_every_order(asker):
    packet = dns.message.make_query(DB, "A").to_wire()
    found = asker.raw(packet)
    assert isinstance(found, Answer)
    firsts = {dns.message.from_wire(m).answer[0][0].address for m in found.messages}
    assert firsts == {"10.42.0.5", "10.42.0.6"}


FORWARDED = ["example.org.", "local.", "1.0.168.192.in-addr.arpa.", "."]


@pytest.mark.parametrize("name", FORWARDED)
def test_other_names_are_for_an_upstream(asker, name):
    found = asker.raw(dns.message.make_query(name, "A").to_wire())
    assert isinstance(found, Forward)
    assert found.chain == ()


def test_a_chain_that_leaves_the_cluster_is_followed_by_an_upstream(asker):
    found = asker.raw(dns.message.make_query("away.shop.svc.cluster.local.", "A").to_wire())
    assert isinstance(found, Forward)
    assert found.target == b"\x07example\x03org\x00"
    assert len(found.chain) == 1


def test_a_chain_that_bites_its_tail_fails(asker):
    assert asker.ask("loop.shop.svc.cluster.local.").rcode() == dns.rcode.SERVFAIL


REFUSED = [
    ({"rdclass": "CH"}, "A", dns.rcode.REFUSED),
    ({}, "AXFR", dns.rcode.REFUSED),
    ({"use_edns": 1}, "A", dns.rcode.BADVERS),
]


@pytest.mark.parametrize(("options", "type", "rcode"), REFUSED)
def test_what_is_not_served_is_refused(asker, options, type, rcode):
    assert asker.ask(NAME, type, **options).rcode() == rcode


def test_another_opcode_is_not_implemented(asker):
    query = dns.message.make_query(NAME, "A")
    query.set_opcode(dns.opcode.STATUS)
    found = asker.raw(query.to_wire())
    assert dns.message.from_wire(found.messages[0]).rcode() == dns.rcode.NOTIMP


def test_too_much_for_one_packet_is_cut_and_says_so(asker):
    from meshkube.dns.records import A, Record

    name = read(dns.message.make_query("many.shop.svc.cluster.local.", "A").to_wire()).name
    asker.zone.replace("many", [Record(name, A, bytes([10, 42, 1, n])) for n in range(100)])
    packet = dns.message.make_query("many.shop.svc.cluster.local.", "A").to_wire()
    found = asker.raw(packet, largest=512)
    assert all(len(message) <= 512 for message in found.messages)
    assert dns.message.from_wire(found.messages[0]).flags & dns.flags.TC
    whole = dns.message.from_wire(asker.raw(packet).messages[0])
    assert len(whole.answer[0]) == 100
    assert not whole.flags & dns.flags.TC


def test_edns_is_answered_with_edns_only_where_it_was_asked(asker):
    assert asker.ask(NAME, use_edns=0, payload=4096).edns == 0
    assert asker.ask(NAME).edns == -1
