"""Names outside the cluster: who is asked, and what is done where servers are slow, dead or lie."""

from __future__ import annotations

import asyncio
from pathlib import Path

import dns.message
import dns.rcode
import dns.rrset
import pytest

from meshkube.clock import SystemClock
from meshkube.dns.settings import Settings
from tests.dns.servers import (
    ADDRESS,
    address,
    failure,
    free_port,
    running_server,
    running_upstream,
)


class Shifted(SystemClock):
    """A clock that a test moves on."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@pytest.fixture
def clock() -> Shifted:
    return Shifted()


@pytest.fixture
async def running(tmp_path: Path, clock: Shifted):
    async with running_server(tmp_path, clock) as server:
        yield server


async def test_a_stub_domain_is_asked_of_its_own_server_and_the_longest_one_counts(running):
    async with running_upstream() as (corp, at), running_upstream() as (lab, lab_at):
        corp.names["x.corp.test."] = address("192.0.2.20")
        lab.names["x.lab.corp.test."] = address("192.0.2.21")
        stubs = {"corp.test": (at,), "lab.corp.test": (lab_at,)}
        running.server.configure(Settings(stub_domains=stubs))
        assert await running.addresses("x.corp.test") == ["192.0.2.20"]
        assert await running.addresses("x.lab.corp.test") == ["192.0.2.21"]
        assert await running.addresses("one.test") == ["192.0.2.7"]
    assert running.upstream.asked == ["udp one.test."]


async def test_a_silent_server_costs_one_wait_and_is_then_asked_last(running, tmp_path):
    async with running_upstream() as (silent, at), running_upstream() as (good, good_at):
        silent.silent = True
        running.server.configure(Settings(upstreams=(at, good_at)))
        loop = asyncio.get_running_loop()
        assert await running.addresses("one.test") == ["192.0.2.7"]
        good.names["two.test."] = address("192.0.2.8")
        before = loop.time()
        assert await running.addresses("two.test") == ["192.0.2.8"]
        assert loop.time() - before < 0.3
        # It is found again as soon as it answers.
        silent.silent = False
        health = running.server.counters.health
        await running.wait(lambda: health.is_up(at))


async def test_another_server_may_know_better_than_one_that_fails(running):
    async with running_upstream() as (bad, at):
        bad.names["one.test."] = failure(dns.rcode.SERVFAIL)
        bad.names["broken.test."] = failure(dns.rcode.REFUSED)
        running.upstream.names["broken.test."] = failure(dns.rcode.SERVFAIL)
        good = running.server.counters.servers()[-1]
        running.server.configure(Settings(upstreams=(at, good)))
        assert await running.addresses("one.test") == ["192.0.2.7"]
        assert (await running.ask("broken.test")).rcode() == dns.rcode.REFUSED


async def test_lies_are_passed_over(running):
    def lies(packet: bytes) -> list[bytes]:
        query = dns.message.from_wire(packet)
        other_id = dns.message.make_response(query)
        other_id.id ^= 1
        other_name = dns.message.make_response(dns.message.make_query("bank.test", "A"))
        other_name.id = query.id
        for lie in (other_id, other_name):
            name = lie.question[0].name
            lie.answer.append(dns.rrset.from_text(name, 60, "IN", "A", "198.51.100.66"))
        return [b"noise", other_id.to_wire(), other_name.to_wire()]

    running.upstream.before = lies
    assert await running.addresses("one.test") == ["192.0.2.7"]
    running.upstream.before = lambda packet: []
    assert (await running.ask("bank.test")).rcode() == dns.rcode.NXDOMAIN


async def test_what_a_server_adds_about_other_names_poisons_nothing(running):
    def poison(response: dns.message.Message) -> None:
        address("192.0.2.9")(response)
        for name in ("bank.test.", "user.default.svc.cluster.local."):
            rrset = dns.rrset.from_text(name, 60, "IN", "A", "198.51.100.66")
            response.answer.append(rrset)
            response.additional.append(rrset)

    running.upstream.names["bait.test."] = poison
    await running.ask("bait.test")
    assert (await running.ask("bank.test")).rcode() == dns.rcode.NXDOMAIN
    assert not (await running.ask("user.default.svc.cluster.local")).answer


async def test_an_answer_outlives_its_end_while_nobody_answers(running, clock, monkeypatch):
    monkeypatch.setattr("meshkube.dns.exchange.ANSWER_TIMEOUT", 0.1)
    await running.ask("one.test")
    running.upstream.silent = True
    await asyncio.sleep(1.1)
    clock.ahead = 120
    response = await running.ask("one.test")
    assert response.answer[0][0].address == "192.0.2.7"
    assert response.answer[0].ttl == 30
    clock.ahead = 120 + 3600
    assert (await running.ask("one.test", payload=1000)).rcode() == dns.rcode.SERVFAIL


async def test_a_popular_answer_is_fetched_anew_before_its_end(running, clock):
    for size in (600, 700, 800):
        await running.ask("one.test", payload=size)
    clock.ahead = 58
    await running.ask("one.test", payload=900)
    await running.wait(lambda: running.upstream.asked == ["udp one.test."] * 2)
    clock.ahead = 70
    assert (await running.ask("one.test", payload=1000)).answer[0].ttl <= 60
    assert len(running.upstream.asked) == 2


async def test_times_to_live_run_down(running, clock):
    await running.ask("one.test", payload=600)
    clock.ahead = 20
    assert 38 <= (await running.ask("one.test", payload=700)).answer[0].ttl <= 40


async def test_the_same_question_is_under_way_only_once(running):
    running.upstream.delay = 0.2
    asking = (running.ask("one.test", payload=600 + n) for n in range(20))
    found = await asyncio.gather(*asking)
    assert {response.answer[0][0].address for response in found} == {"192.0.2.7"}
    assert running.upstream.asked == ["udp one.test."]


async def test_a_server_that_asks_us_again_is_not_asked_any_more(tmp_path: Path):
    """Two of ours, each the other's upstream: the circle that a host's stub resolver makes."""
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    relay = (ADDRESS, free_port())
    async with running_server(tmp_path / "one", more_upstreams=[relay]) as one:
        health = one.server.counters.health
        forwards = asyncio.get_running_loop()

        class Circle(asyncio.DatagramProtocol):
            """Sends to the server what the server asks it."""

            def connection_made(self, transport) -> None:
                self.transport = transport

            def datagram_received(self, data: bytes, addr) -> None:
                self.transport.sendto(data, (ADDRESS, one.port))

        transport, _ = await forwards.create_datagram_endpoint(Circle, local_addr=relay)
        one.server.configure(Settings(upstreams=(relay, one.server.counters.servers()[-1])))
        await one.wait(lambda: relay in health.looping)
        assert await one.addresses("one.test") == ["192.0.2.7"]
        transport.close()
