"""ExternalName backends: resolved by real DNS over loopback, followed when they change."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import dns.message
import dns.rrset
import pytest

from meshkube.ingress import external_names
from meshkube.ingress.external_names import ExternalNames
from meshkube.ingress.route import Route
from meshkube.ingress.routes import RouteTable, compile
from tests.support.ingress import (
    Origin,
    client,
    host_address,
    ingress,
    ingress_class,
    path,
    running_proxy,
    service,
)

GET = b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n"


def table(name: str, port: int) -> RouteTable:
    rule = ingress("web", {"": [path("/", "out", port=port)]})
    out = service("out", (), type="ExternalName", externalName=name)
    return compile([rule], [ingress_class()], [out], [])


class Zone(asyncio.DatagramProtocol):
    """A name server that knows A records."""

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.asked = 0
        self.port = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        question = dns.message.from_wire(data)
        (asked,) = question.question
        self.asked += 1
        answer = dns.message.make_response(question)
        name = asked.name.to_text().rstrip(".")
        if asked.rdtype.name == "A" and self.records.get(name):
            answer.answer.append(dns.rrset.from_text(asked.name, 1, "IN", "A", *self.records[name]))
        self.transport.sendto(answer.to_wire(), addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def zone() -> AsyncIterator[Zone]:
    loop = asyncio.get_running_loop()
    transport, made = await loop.create_datagram_endpoint(Zone, local_addr=("127.0.0.1", 0))
    try:
        yield made
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def following(routes: RouteTable, *servers: tuple[str, int]) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ExternalNames(routes, servers).run())
        yield
        task.cancel()


async def until(routes: RouteTable, *addresses: str) -> None:
    async with asyncio.timeout(10):
        while True:
            found = routes.match("a.io", "/")
            assert isinstance(found, Route)
            if {address for address, _ in found.backend.addresses} == set(addresses):
                return
            await asyncio.sleep(0.02)


async def test_requests_go_to_the_addresses_of_the_name() -> None:
    async with Origin(host=host_address()) as origin, zone() as names:
        names.records["api.example.com"] = [origin.host]
        routes = table("api.example.com.", origin.port)
        async with following(routes, ("127.0.0.1", names.port)), running_proxy(routes) as (_, port):
            await until(routes, origin.host)
            async with client(port) as c:
                assert (await c.ask(GET)).body == b"ok"


async def test_a_name_is_asked_for_again_and_its_last_good_answer_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(external_names, "SHORTEST", 0.05)
    monkeypatch.setattr(external_names, "LONGEST", 0.05)
    async with zone() as names:
        names.records["api.invalid"] = ["192.0.2.1"]
        routes = table("api.invalid", 80)
        async with following(routes, ("127.0.0.1", names.port)):
            await until(routes, "192.0.2.1")
            names.records["api.invalid"] = ["192.0.2.2", "192.0.2.3"]
            await until(routes, "192.0.2.2", "192.0.2.3")
            names.records.clear()
            asked = names.asked
            async with asyncio.timeout(10):
                while names.asked < asked + 4:
                    await asyncio.sleep(0.02)
            await until(routes, "192.0.2.2", "192.0.2.3")
            # A Service that appears later is asked for at once.
            names.records["other.invalid"] = ["192.0.2.9"]
            changed = service("out", (), type="ExternalName", externalName="other.invalid")
            routes.set_service("shop/out", changed)
            await until(routes, "192.0.2.9")


async def test_the_hosts_own_way_is_the_second() -> None:
    address = host_address()
    routes = table(address, 80)
    async with following(routes):
        await until(routes, address)


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "::ffff:127.0.0.1"]
)
def test_what_only_this_host_may_reach_is_left_out(address: str) -> None:
    routes = table("trap.example.com", 80)
    routes.set_name("trap.example.com", [address])
    found = routes.match("a.io", "/")
    assert isinstance(found, Route)
    assert found.backend.addresses == ()
    assert "leads to this host" in found.backend.problem


def test_a_port_of_the_service_may_be_named() -> None:
    rule = ingress("web", {"": [path("/", "out", port="http")]})
    ports = [{"name": "http", "port": 8080}]
    out = service("out", ports, type="ExternalName", externalName="x.io")
    routes = compile([rule], [ingress_class()], [out], [])
    routes.set_name("x.io", ["192.0.2.1"])
    found = routes.match("a.io", "/")
    assert isinstance(found, Route)
    assert found.backend.addresses == (("192.0.2.1", 8080),)
    assert not found.backend.broken
