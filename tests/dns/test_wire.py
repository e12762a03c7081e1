"""Reading packets: what is sent to port 53 of a cluster is not always a query."""

from __future__ import annotations

import dns.message
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meshkube.dns import names, wire
from meshkube.dns.records import Record
from meshkube.dns.responder import Answer, Authority, respond
from meshkube.dns.zone import Zone

QUERY = dns.message.make_query("user.shop.svc.cluster.local", "A", use_edns=0, id=7).to_wire()


def test_a_query_is_read_as_dnspython_wrote_it():
    query = wire.read(QUERY)
    assert names.decode(query.name) == "user.shop.svc.cluster.local"
    assert (query.type, query.klass, query.edns, query.plain) == (1, 1, 0, True)


def test_options_make_a_query_of_its_own():
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    packet = dns.message.make_query("a.b", "A", use_edns=0, options=[cookie]).to_wire()
    assert not wire.read(packet).plain


MALFORMED = [
    (b"", False),
    (b"\0" * 11, False),
    (b"\0\0\x80\0" + b"\0\1" + b"\0" * 7, False),
    (b"\0" * 12, True),
    (QUERY[:20], True),
    (b"\0\0\1\0\0\2" + b"\0" * 30, True),
    (b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c\0\1\0\1", True),
    (b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\x3fa" * 40, True),
]


@pytest.mark.parametrize(("packet", "reply"), MALFORMED)
def test_what_is_no_query_is_told_apart(packet, reply):
    with pytest.raises(wire.Malformed) as raised:
        wire.read(packet)
    assert raised.value.reply is reply


@given(st.binary(max_size=600), st.integers(0, len(QUERY)))
@example(b"", 0)
def test_any_bytes_are_answered_or_refused_and_never_break(noise, at):
    zone = Zone()
    zone.replace("x", [Record(names.encode("a.cluster.local"), 1, b"\1\2\3\4")])
    authority = Authority.of("cluster.local", ["10.43.0.0/16"])
    for packet in (noise, QUERY[:at] + noise + QUERY[at:]):
        try:
            query = wire.read(packet)
        except wire.Malformed:
            continue
        found = respond(zone, authority, query, query.udp_size)
        if isinstance(found, Answer):
            assert all(len(message) <= query.udp_size for message in found.messages)
            assert dns.message.from_wire(found.messages[0]).id == query.id


def test_the_ttls_of_a_message_are_found():
    text = "id 1\nopcode QUERY\nrcode NOERROR\nflags QR\nedns 0\n;QUESTION\na.b. IN A\n"
    text += ";ANSWER\na.b. 60 IN CNAME c.b.\nc.b. 30 IN A 1.2.3.4\n;AUTHORITY\n;ADDITIONAL\n"
    packet = dns.message.from_text(text).to_wire()
    found = [int.from_bytes(packet[o : o + 4]) for o in wire.ttl_offsets(packet)]
    assert found == [60, 30]


def test_reverse_zones_lie_on_octets():
    assert names.reverse_zone("10.43.0.0/16") == "43.10.in-addr.arpa"
    assert names.reverse_zone("10.96.0.0/12") == "10.in-addr.arpa"
    assert names.reverse_zone("fd00::/48").endswith("d.f.ip6.arpa")


@pytest.mark.parametrize("name", ["a..b", "x" * 64, ".".join(["abcdefg"] * 40)])
def test_names_that_dns_cannot_carry_are_refused(name):
    with pytest.raises(ValueError, match="bytes"):
        names.encode(name)
