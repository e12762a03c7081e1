"""What an answer may cost others, how long it may be kept, and what is counted."""

from __future__ import annotations

from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest
from prometheus_client import generate_latest
from prometheus_client.registry import CollectorRegistry

from meshkube.clock import SystemClock
from meshkube.dns import records, wire
from meshkube.dns.names import encode
from meshkube.dns.records import Record
from tests.dns.servers import Running, running_server

MANY = "many.shop.svc.cluster.local."
KUBERNETES = "kubernetes.default.svc.cluster.local"


class Clock(SystemClock):
    """Its steady time is moved by hand."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def running(tmp_path: Path, clock: Clock):
    async with running_server(tmp_path, clock) as server:
        yield server


@pytest.fixture
def many(asker):
    """A name with a hundred addresses of each family."""
    name = encode(MANY.lower().rstrip("."))
    four = [Record(name, records.A, bytes([10, 42, 1, n])) for n in range(100)]
    six = [Record(name, records.AAAA, bytes([0xFD, *bytes(14), n])) for n in range(100)]
    asker.zone.replace("many", [*four, *six])
    return asker


@pytest.mark.parametrize(
    ("asked", "most"),
    [(None, 512), (0, 512), (100, 512), (512, 512), (1000, 1000), (4096, 1232), (65535, 1232)],
)
@pytest.mark.parametrize("type", ["A", "AAAA", "ANY", "SRV", "TXT"])
def test_no_answer_by_udp_is_larger_than_its_asker_and_we_allow(many, asked, most, type):
    options = {} if asked is None else {"use_edns": 0, "payload": asked}
    packet = dns.message.make_query(MANY, type, **options).to_wire()
    query = wire.read(packet)
    assert query.udp_size == most
    for message in many.raw(packet, largest=query.udp_size).messages:
        assert len(message) <= most


def test_any_brings_no_more_than_was_asked(many):
    packet = dns.message.make_query(MANY, "ANY").to_wire()
    (message,) = many.raw(packet).messages
    # The question again, and one record in place of all.
    assert len(message) < len(packet) + 40


def test_names_are_written_once_and_then_pointed_at(many):
    packet = dns.message.make_query(MANY, "A").to_wire()
    message = many.raw(packet).messages[0]
    # An address: pointer 2, type 2, class 2, time to live 4, length 2, address 4.
    assert len(message) == len(packet) + 100 * 16


def negative(ttl: int, minimum: int):
    def fill(response: dns.message.Message) -> None:
        response.set_rcode(dns.rcode.NXDOMAIN)
        data = f"ns.test. a.test. 1 7200 1800 86400 {minimum}"
        response.authority.append(dns.rrset.from_text("test.", ttl, "IN", "SOA", data))

    return fill


async def test_what_an_upstream_does_not_have_is_kept_as_long_as_its_zone_says(
    running: Running, clock: Clock
) -> None:
    running.upstream.names["gone.test."] = negative(300, 20)
    running.upstream.names["bare.test."] = lambda response: response.set_rcode(dns.rcode.NXDOMAIN)
    asked = []
    # Packets that differ, so that none is answered by another's finished answer.
    for size, later in ((1000, 0), (1001, 19), (1002, 2)):
        clock.ahead += later
        answer = await running.ask("gone.test", use_edns=0, payload=size)
        assert (answer.rcode(), len(answer.authority)) == (dns.rcode.NXDOMAIN, 1)
        asked.append(len(running.upstream.asked))
    assert asked == [1, 1, 2]
    # Without word of how long, it is asked anew each time.
    for _ in range(2):
        await running.ask("bare.test")
    assert running.upstream.asked.count("udp bare.test.") == 2


async def test_answers_are_counted_by_type_code_and_the_way_they_came(running: Running) -> None:
    for name, type in ((KUBERNETES, "A"), (KUBERNETES, "A"), (KUBERNETES, "MX"), ("one.test", "A")):
        await running.ask(name, type)
    await running.ask(f"absent.{KUBERNETES}", "AAAA")
    await running.ask("nowhere.test")
    registry = CollectorRegistry()
    registry.register(running.server.counters)
    shown = generate_latest(registry).decode()
    for labels, count in (
        ('how="zone",rcode="NOERROR",type="A"', 1),
        ('how="cache",rcode="NOERROR",type="A"', 1),
        ('how="zone",rcode="NOERROR",type="other"', 1),
        ('how="zone",rcode="NXDOMAIN",type="AAAA"', 1),
        ('how="forward",rcode="NOERROR",type="A"', 1),
        ('how="forward",rcode="NXDOMAIN",type="A"', 1),
    ):
        assert f"meshkube_dns_answers_total{{{labels}}} {count}.0" in shown
    assert 'meshkube_dns_answer_seconds_bucket{how="forwarded",le="+Inf"} 2.0' in shown
    assert 'meshkube_dns_answer_seconds_bucket{how="local",le="+Inf"} 4.0' in shown
    assert "meshkube_dns_upstream_questions_total" in shown
