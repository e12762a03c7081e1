"""Cases of what the ingress speaks, and of what it tells pods about clients."""

from __future__ import annotations

import asyncio
import json

from tests.e2e.ingress_cases.case import case
from tests.e2e.ingress_cases.site import Site
from tests.support.ingress import TestClient

# Addresses of loopback that the ingress under test was told of.
TRUSTED, PROXY = "127.0.0.8", "127.0.0.9"


def head(site: Site, line: str, *fields: str) -> bytes:
    return "\r\n".join([line, f"Host: {site.host}", *fields, "", ""]).encode()


@case(shows=("HTTP/1.0",))
async def http_1_0(site: Site) -> None:
    async with site.link(http1=True) as link:
        got = await link.ask(head(site, "GET / HTTP/1.0", "X-Do: chunked"))
        assert got.status == 200
        assert b"chunked" not in got.head.lower()
        assert json.loads(got.body)["pod"]
        assert await link.at_end()


@case(shows=("chunked",))
async def chunked_both_ways(site: Site) -> None:
    async with site.link(http1=True) as link:
        start = head(site, "POST / HTTP/1.1", "Transfer-Encoding: chunked", "X-Do: chunked")
        link.send(start + b"3\r\nabc\r\n")
        await asyncio.sleep(0.05)
        got = await link.ask(b"4\r\ndefg\r\n0\r\n\r\n")
        assert b"chunked" in got.head.lower()
        assert json.loads(got.body)["body"] == "abcdefg"


@case(shows=("100-continue",))
async def expect_continue(site: Site) -> None:
    async with site.link(http1=True) as link:
        fields = ("Expect: 100-continue", "Content-Length: 3")
        got = await link.ask(head(site, "POST / HTTP/1.1", *fields))
        assert got.status == 100
        assert json.loads((await link.ask(b"abc")).body)["body"] == "abc"


@case(shows=("Upgrade",))
async def websocket(site: Site) -> None:
    async with site.link(http1=True) as link:
        fields = ("Connection: Upgrade", "Upgrade: websocket")
        got = await link.ask(head(site, "GET / HTTP/1.1", *fields))
        assert got.status == 101
        link.send(b"ping")
        async with asyncio.timeout(5):
            assert await link.reader.readexactly(4) == b"ping"


@case(shows=("HTTP/2",), tls=True)
async def http_2_by_alpn(site: Site) -> None:
    async with site.link(http2=True) as link:
        numbers = [link.request("GET", f"/{n}", authority=site.host) for n in range(5)]
        answers = [await link.answer(number) for number in numbers]
        targets = [json.loads(each.body)["target"] for each in answers]
        assert targets == [f"/{n}" for n in range(5)]


@case(shows=("PROXY",))
async def proxy_protocol(site: Site) -> None:
    async with site.link(http1=True, source=PROXY) as link:
        link.send(b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n")
        got = await link.ask(head(site, "GET / HTTP/1.1", "X-Forwarded-For: 1.2.3.4"))
        assert ["X-Forwarded-For", "203.0.113.7"] in json.loads(got.body)["headers"]


@case(shows=("X-Forwarded",))
async def forwarded(site: Site) -> None:
    got = await site.get("/", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https")
    assert (got.got("X-Forwarded-For"), got.got("X-Forwarded-Proto")) == ("127.0.0.1", "http")
    got = await site.get(
        "/", "X-Forwarded-For: 203.0.113.7", "X-Forwarded-Proto: https", source=TRUSTED
    )
    assert got.got("X-Real-IP") == "203.0.113.7"
    assert got.got("X-Forwarded-Proto") == "https"
    assert got.got("X-Forwarded-For") == f"203.0.113.7, {TRUSTED}"
    assert f"for={TRUSTED};host={site.host};proto=http" in (got.got("Forwarded") or "")


@case(shows=("gzip", "traceparent"))
async def compressed_and_traced(site: Site) -> None:
    got = await site.get("/", "Accept-Encoding: gzip", "X-Do: size 4000")
    assert got.header("content-encoding") == "gzip"
    assert len(got.body) < 1500
    assert len((await site.get()).got("traceparent") or "") == 55


@case(shows=("large bodies",))
async def large_bodies(site: Site) -> None:
    got = await site.get("/", "X-Do: size 3000000", method="PUT", body=b"x" * 16_000)
    assert (len(got.seen["body"]), len(got.seen["more"])) == (16_000, 3_000_000)
    assert (await site.get(method="HEAD")).body == b""


@case(shows=("smuggling",))
async def two_lengths(site: Site) -> None:
    async with site.link(http1=True) as link:
        assert isinstance(link, TestClient)
        fields = ("Content-Length: 3", "Transfer-Encoding: chunked")
        got = await link.ask(head(site, "POST / HTTP/1.1", *fields) + b"0\r\n\r\n")
        assert got.status == 400
        assert await link.at_end()
