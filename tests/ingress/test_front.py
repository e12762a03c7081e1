# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""What stands in front of the ingress: load balancers with the PROXY protocol, proxies that are
believed, and what browsers are told of HTTPS."""

import asyncio
import struct
from ipaddress import ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.ingress.certificates import Certificates
from meshkube.ingress.forwarded import Trust
from meshkube.ingress.forwarded_header import element, read
from meshkube.ingress.listener import listen, port_of
from meshkube.ingress.proxy import Proxy
from meshkube.ingress.proxy_protocol import SIGNATURE, BadHeader, parse
from meshkube.ingress.settings import Settings
from tests.ingress.test_tls import HOSTS, SECRETS, trusting
from tests.support import http2
from tests.support.ingress import Origin, client, response, running_proxy, table_to

GET = b"GET / HTTP/1.1\r\nHost: a.io\r\n\r\n"
LOOPBACK = (ip_network("127.0.0.0/8"),)


def v2(client_: str, *, command: int = 0x21, extra: bytes = b"") -> bytes:
    address = ip_address(client_)
    size = len(address.packed)
    block = address.packed + bytes(size) + struct.pack("!HH", 5000, 80) + extra
    family = 0x11 if address.version == 4 else 0x21
    return SIGNATURE + bytes([command, family]) + struct.pack("!H", len(block)) + block


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"PROXY TCP4 192.0.2.1 10.0.0.1 5000 80\r\n", ("192.0.2.1", 5000)),
        (b"PROXY TCP6 2001:db8::1 ::1 5000 80\r\n", ("2001:db8::1", 5000)),
        (b"PROXY UNKNOWN\r\n", None),
        (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
        (v2("192.0.2.1"), ("192.0.2.1", 5000)),
        (v2("2001:db8::1"), ("2001:db8::1", 5000)),
        (v2("192.0.2.1", extra=b"\x03\x00\x04abcd"), ("192.0.2.1", 5000)),
        (v2("192.0.2.1", command=0x20), None),
        (SIGNATURE + b"\x21\x31\x00\x00", None),
    ],
)
def test_headers_however_they_are_split(header: bytes, expected: Any) -> None:
    for at in range(1, len(header)):
        assert parse(header[:at]) is None
    assert parse(header + b"GET /") == (expected, len(header))


@pytest.mark.parametrize(
    "data",
    [
        GET,
        b"PROXX",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 5000\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 5000 80 7\r\n",
        b"PROXY TCP4 2001:db8::1 ::1 5000 80\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 5000 70000\r\n",
        b"PROXY TCP4 192.0.2.1 10.0.0.1 -1 80\r\n",
        b"PROXY UDP4 192.0.2.1 10.0.0.1 5000 80\r\n",
        b"PROXY TCP4 " + b"1" * 120,
        SIGNATURE + b"\x11\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x22\x11\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\x00\x04" + bytes(4),
        SIGNATURE + b"\x21\x21\x00\x0c" + bytes(12),
        SIGNATURE + b"\x21\x11\xff\xff",
    ],
)
def test_what_is_no_header_is_refused(data: bytes) -> None:
    with pytest.raises(BadHeader):
        parse(data)


@given(st.binary(max_size=64), st.sampled_from([b"", b"PROXY ", SIGNATURE, SIGNATURE + b"\x21"]))
def test_any_bytes_are_read_refused_or_waited_for(data: bytes, start: bytes) -> None:
    try:
        found = parse(start + data)
    except BadHeader:
        return
    assert found is None or 0 < found.size <= len(start + data)


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.9 10.0.0.1 1 80\r\n", v2("192.0.2.9")])
@pytest.mark.parametrize("step", [3, 4096])
async def test_the_client_is_whom_the_balancer_names(header: bytes, step: int) -> None:
    settings = Settings(proxy_protocol=LOOPBACK, drain_timeout=1)
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        async with client(port) as c:
            data = header + GET
            for at in range(0, len(data), step):
                c.send(data[at : at + step])
                await asyncio.sleep(0.001)
            assert (await c.answer()).status == 200
            assert (await c.ask(GET)).status == 200
    for head in origin.requests:
        assert b"X-Forwarded-For: 192.0.2.9\r\n" in head


async def test_http2_and_tls_behind_the_header() -> None:
    certificates = Certificates()
    certificates.update(HOSTS, SECRETS.get)
    async with Origin() as origin, asyncio.TaskGroup() as group:
        settings = Settings(proxy_protocol=LOOPBACK, drain_timeout=1)
        proxy = Proxy(table_to(origin.port), settings, group.create_task)
        server = await listen(proxy, "127.0.0.1", 0, certificates)
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("127.0.0.1", port_of(server))
        writer.write(v2("2001:db8::9"))
        context = trusting()
        context.set_alpn_protocols(["h2"])
        transport = writer.transport
        protocol = transport.get_protocol()
        secured = await loop.start_tls(transport, protocol, context, server_hostname="a.io")
        writer._transport = secured  # type: ignore[attr-defined]
        c = http2.Client(reader, writer)
        c.h2.initiate_connection()
        c.flush()
        assert (await c.ask()).body == b"ok"
        secured.abort()
        server.close()
        await proxy.drain()
    assert b"X-Forwarded-For: 2001:db8::9\r\n" in origin.requests[0]


async def test_balancers_that_say_nothing_or_nonsense_are_sent_away() -> None:
    settings = Settings(proxy_protocol=LOOPBACK, head_timeout=0.2, drain_timeout=1)
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        for start in (b"", b"PROXY TC", GET):
            async with client(port) as c:
                c.send(start)
                assert await c.at_end()
    assert origin.requests == []


@pytest.mark.parametrize("header", [b"PROXY TCP4 192.0.2.9 10.0.0.1 1 80\r\n", v2("192.0.2.9")])
async def test_others_cannot_say_who_they_are(header: bytes) -> None:
    settings = Settings(proxy_protocol=(ip_network("10.0.0.0/8"),), drain_timeout=1)
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET)).status == 200
        async with client(port) as c:
            assert (await c.ask(header + GET)).status == 400
    assert len(origin.requests) == 1
    assert b"X-Forwarded-For: 127.0.0.1\r\n" in origin.requests[0]


# Proxies that are believed


@pytest.mark.parametrize(
    ("chain", "hops", "expected"),
    [
        (b"6.6.6.6, 192.0.2.1", 0, b"192.0.2.1"),
        (b"6.6.6.6, 192.0.2.1, 10.0.0.7", 0, b"192.0.2.1"),
        (b"10.0.0.6, 10.0.0.7", 0, b"10.0.0.6"),
        (b"nonsense", 0, b"nonsense"),
        (b"6.6.6.6, 192.0.2.1", 1, b"192.0.2.1"),
        (b"6.6.6.6, 192.0.2.1, 172.16.0.1", 2, b"192.0.2.1"),
        (b"192.0.2.1", 3, b"192.0.2.1"),
    ],
)
def test_the_client_is_the_last_that_is_no_proxy_of_ours(
    chain: bytes, hops: int, expected: bytes
) -> None:
    assert Trust((ip_network("10.0.0.0/8"),), hops).client(chain) == expected


async def test_what_a_client_adds_in_front_makes_it_nobody_else() -> None:
    settings = Settings(trusted_proxies=LOOPBACK, drain_timeout=1)
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        async with client(port) as c:
            head = GET[:-2] + b"X-Forwarded-For: 6.6.6.6, 192.0.2.1\r\n\r\n"
            assert (await c.ask(head)).status == 200
    lines = origin.requests[0].split(b"\r\n")
    assert b"X-Real-IP: 192.0.2.1" in lines
    assert b"X-Forwarded-For: 6.6.6.6, 192.0.2.1, 127.0.0.1" in lines


@pytest.mark.parametrize("trusted", [True, False])
async def test_the_forwarded_header_is_read_and_written(trusted: bool) -> None:
    settings = Settings(
        trusted_proxies=LOOPBACK if trusted else (), forwarded_header=True, drain_timeout=1
    )
    said = b'for="[2001:db8::7]:99";proto=https;host=shop.io, for=127.0.0.2'
    async with Origin() as origin, running_proxy(table_to(origin.port), settings) as (_, port):
        async with client(port) as c:
            assert (await c.ask(GET[:-2] + b"Forwarded: " + said + b"\r\n\r\n")).status == 200
    lines = origin.requests[0].split(b"\r\n")
    own = b"for=127.0.0.1;host=a.io;proto=http"
    if trusted:
        assert b"Forwarded: " + said + b", " + own in lines
        assert b"X-Real-IP: 2001:db8::7" in lines
        assert b"X-Forwarded-Proto: https" in lines
        assert b"X-Forwarded-Host: shop.io" in lines
    else:
        assert b"Forwarded: " + own in lines
        assert b"X-Real-IP: 127.0.0.1" in lines


@pytest.mark.parametrize("address", [b"192.0.2.1", b"2001:db8::1"])
def test_elements_mean_the_same_when_they_are_read(address: bytes) -> None:
    made = element(address, b"https", b"a.io:8443")
    assert made.endswith(b';host="a.io:8443";proto=https')
    assert read(made) == (address, b"https", b"a.io:8443")


# HSTS


async def test_browsers_are_told_over_tls_only_and_a_pods_own_word_stays() -> None:
    certificates = Certificates()
    certificates.update(HOSTS, SECRETS.get)
    line = "max-age=600"
    settings = Settings(hsts=600, drain_timeout=1)
    async with Origin() as origin, asyncio.TaskGroup() as group:
        proxy = Proxy(table_to(origin.port), settings, group.create_task)
        secure = await listen(proxy, "127.0.0.1", 0, certificates)
        plain = await listen(proxy, "127.0.0.1", 0, None)
        async with client(port_of(plain)) as c:
            assert (await c.ask(GET)).header("strict-transport-security") == ""
        async with client(port_of(secure), ssl=trusting(), server_hostname="a.io") as c:
            for _ in range(2):
                answer = await c.ask(GET)
                assert answer.header("strict-transport-security") == line
                assert answer.body == b"ok"
            bad = await c.ask(b"GET /%00 HTTP/1.1\r\nHost: a.io\r\n\r\n")
            assert (bad.status, bad.header("strict-transport-security")) == (400, line)
        async with http2.client(port_of(secure), trusting()) as h:
            found = (await h.ask()).headers
            assert found[b"strict-transport-security"] == line.encode()
        origin.answer = response(b"own", "200 OK", "Strict-Transport-Security: max-age=1")
        async with client(port_of(secure), ssl=trusting(), server_hostname="a.io") as c:
            answer = await c.ask(GET)
            assert answer.head.lower().count(b"strict-transport") == 1
            assert answer.header("strict-transport-security") == "max-age=1"
        for server in (secure, plain):
            server.close()
        await proxy.drain()
