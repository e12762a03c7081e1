# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""What can be seen of requests: the access log, counts, traces; and responses made smaller."""

import asyncio
import gzip
import json
import re
import zlib
from pathlib import Path
from typing import Any

import pytest

from meshkube.ingress.access_log import AccessLog, Entry, text_line
from meshkube.ingress.collector import ProxyCollector
from meshkube.ingress.compression import accepts
from meshkube.ingress.settings import Settings
from meshkube.ingress.tracing import checked
from tests.ingress.test_traffic import get, table
from tests.support.http2 import client as http2_client
from tests.support.ingress import Origin, client, response, running_proxy


def entry(**more: Any) -> Entry:
    facts: dict[str, Any] = {
        "client": "192.0.2.7", "method": "GET", "host": "shop.io", "target": "/a?b",
        "protocol": "HTTP/1.1", "status": 200, "size": 5, "seconds": 0.25, "referer": "",
        "agent": "curl", "request_id": "x1", "trace": "", "ingress": "shop/web",
        "rule": "shop.io/", "service": "shop/web:80", "pod": "10.0.0.1:80", "tries": 1,
    }  # fmt: skip
    return Entry(**facts | more)


# The access log


def test_the_line_is_the_one_that_people_know() -> None:
    assert text_line(entry(), 0.0) == (
        b'192.0.2.7 - - [01/Jan/1970:00:00:00 +0000] "GET /a?b HTTP/1.1" 200 5 "-" "curl" '
        b'0.250000 "shop.io" shop/web:80 10.0.0.1:80 x1\n'
    )


def test_nobody_can_forge_a_line() -> None:
    line = text_line(entry(agent='a" 200 "\nb\\', target='/"'), 0.0)
    assert line.count(b"\n") == 1
    assert b'"a\\" 200 \\"\\nb\\\\"' in line


async def lines_of(path: Path, count: int) -> list[str]:
    async with asyncio.timeout(10):
        while len(found := _lines(path)) < count:
            await asyncio.sleep(0.02)
    return found


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


async def test_each_request_gets_a_line_whoever_answered_it(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = Settings(access_log="json", access_log_file=str(path), drain_timeout=1)
    async with Origin(response(b"hello", "201 Made")) as web:
        routes = table({}, [web.port])
        async with running_proxy(routes, settings) as (_, port), client(port) as c:
            lines = ["User-Agent: curl/8", "Referer: http://a/", "X-Request-Id: mine"]
            await c.ask(get("/a?b", "shop.io", *lines))
            await c.ask(get("/", "other.io"))
            c.send(b"GET / HTTP/1.1\r\nBad Header\r\n\r\n")
            await c.answer()
        found = [json.loads(line) for line in await lines_of(path, 3)]
    assert [one["status"] for one in found] == [201, 404, 400]
    first = found[0]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert 0 < first.pop("seconds") < 10
    assert first == {
        "client": "127.0.0.1", "method": "GET", "host": "shop.io", "target": "/a?b",
        "protocol": "HTTP/1.1", "status": 201, "size": 5, "referer": "http://a/",
        "agent": "curl/8", "request_id": "mine", "trace": "", "ingress": "shop/web",
        "rule": "shop.io/", "service": "shop/web:80", "pod": f"127.0.0.1:{web.port}", "tries": 1,
    }  # fmt: skip
    assert (found[1]["host"], found[1]["pod"]) == ("other.io", "")


async def test_streams_of_http2_and_bodies_in_pieces_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = Settings(access_log="text", access_log_file=str(path), drain_timeout=1)
    body = b"x" * 300_000
    async with Origin(response(body)) as web:
        async with running_proxy(table({}, [web.port]), settings) as (_, port):
            async with client(port) as c:
                assert len((await c.ask(get("/big"))).body) == len(body)
            async with http2_client(port) as h2:
                assert (await h2.ask("GET", "/two", authority="shop.io")).status == 200
        found = await lines_of(path, 2)
    assert '"GET /big HTTP/1.1" 200 300000' in found[0]
    assert '"GET /two HTTP/2.0" 200 300000' in found[1]


async def test_an_ingress_may_keep_its_requests_out_of_it(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    settings = Settings(access_log="text", access_log_file=str(path), drain_timeout=1)
    async with Origin() as web:
        routes = table({"enable-access-log": "false"}, [web.port])
        async with running_proxy(routes, settings) as (_, port), client(port) as c:
            assert (await c.ask(get())).status == 200
            await c.ask(get("/", "other.io"))
        assert [line.split()[8] for line in await lines_of(path, 1)] == ["404"]


def test_the_file_may_be_rotated_and_trouble_is_told(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog("text", str(path))
    log.add(entry(request_id="one"))
    log.flush()
    log._writing.result()  # type: ignore[union-attr]
    path.rename(tmp_path / "access.log.1")
    log.add(entry(request_id="two"))
    log.close()
    assert path.read_text().endswith("two\n")
    assert (tmp_path / "access.log.1").read_text().endswith("one\n")
    lost = AccessLog("text", str(tmp_path / "none" / "access.log"))
    lost.add(entry())
    lost.close()
    assert lost.dropped == 1
    assert "none/access.log" in lost.flush()


def test_a_writer_that_does_not_keep_up_loses_lines_and_not_memory(tmp_path: Path) -> None:
    log = AccessLog("text", str(tmp_path / "log"))
    log.flush = lambda: ""  # type: ignore[method-assign]
    for _ in range(6000):
        log.add(entry(target="/" + "x" * 1000))
    assert log.dropped > 1000
    assert log._size < 5 * 2**20


# Counts


async def test_counts_have_the_status_and_cannot_be_made_to_grow() -> None:
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for status in range(460, 480):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response(b"", f"{status} Odd"))

    async with Origin(odd) as web:
        async with running_proxy(table({}, [web.port])) as (proxy, port), client(port) as c:
            for _ in range(20):
                await c.ask(get())
            await c.ask(get("/", "other.io"))
            metrics = {metric.name: metric for metric in ProxyCollector(proxy).collect()}
    samples = metrics["meshkube_ingress_requests"].samples
    assert {(s.labels["ingress"], s.labels["code"], s.value) for s in samples} == {
        ("shop/web", "4xx", 20.0),
        ("", "404", 1.0),
    }
    (count,) = [
        s.value for s in metrics["meshkube_ingress_request_seconds"].samples
        if s.name.endswith("_count")
    ]  # fmt: skip
    assert count == 20


# Traces

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (PARENT, True),
        ("cc-" + PARENT[3:], True),
        ("ff-" + PARENT[3:], False),
        ("00-" + "0" * 32 + "-b7ad6b7169203331-01", False),
        (PARENT.upper(), False),
        (PARENT + "-x", False),
        ("x", False),
    ],
)
def test_a_trace_is_kept_or_cut_whole(given: str, kept: bool) -> None:
    block = f"A: 1\r\ntraceparent: {given}\r\ntracestate: a=b\r\n".encode()
    assert checked(block) == ((block, True) if kept else (b"A: 1\r\n", False))


@pytest.mark.parametrize("policy", [{}, {"enable-cors": "true"}])
async def test_traces_are_passed_on_or_begun(policy: dict[str, str]) -> None:
    def heads(origin: Origin) -> list[list[str]]:
        return [re.findall(r"(?i)traceparent: (\S+)", head.decode()) for head in origin.requests]

    async with Origin() as web:
        settings = Settings(trace=True, drain_timeout=1)
        async with running_proxy(table(policy, [web.port]), settings) as (_, port):
            async with client(port) as c:
                await c.ask(get())
                await c.ask(get())
                await c.ask(get("/", "shop.io", f"traceparent: {PARENT}", "tracestate: a=b"))
                await c.ask(get("/", "shop.io", "traceparent: bad", "tracestate: a=b"))
                await c.ask(get("/", "shop.io", "X-Request-Id: mine"))
            async with http2_client(port) as h2:
                await h2.ask("GET", "/", authority="shop.io")
        found = heads(web)
        assert [len(one) for one in found] == [1] * 6
        made = [one[0] for n, one in enumerate(found) if n != 2]
        assert found[2] == [PARENT]
        assert len(set(made)) == 5
        for one in made:
            assert re.fullmatch(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-01", one)
        assert b"tracestate: a=b\r\n" in web.requests[2]
        assert b"tracestate" not in web.requests[3]
        # The id in an error is the one of the trace.
        request_id = re.findall(rb"X-Request-Id: (\w+)", web.requests[0])[0].decode()
        assert request_id == made[0][3:35]
    async with Origin() as web:
        async with running_proxy(table(policy, [web.port])) as (_, port), client(port) as c:
            await c.ask(get("/", "shop.io", "traceparent: bad"))
            await c.ask(get())
        assert heads(web) == [["bad"], []]


# Compression

TEXT = b"All work and no play makes Jack a dull boy. " * 200


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("GZIP", True), ("x-gzip", True),
        ("", False), ("br", False), ("gzip;q=0", False), ("*;q=0", False),
        ("gzip;q=0, *", False), ("gzip;q=x", False),
    ],
)  # fmt: skip
def test_who_takes_gzip(header: str, taken: bool) -> None:
    assert accepts(header) is taken


@pytest.mark.parametrize(
    ("body", "lines", "status", "smaller"),
    [
        (TEXT, ["Content-Type: text/html; charset=utf-8"], "200 OK", True),
        (TEXT, ["Content-Type: application/problem+json"], "404 No", True),
        (TEXT, ["Content-Type: image/png"], "200 OK", False),
        (TEXT, ["Content-Type: text/css", "Content-Encoding: br"], "200 OK", False),
        (TEXT, ["Content-Type: text/css", "Cache-Control: no-transform"], "200 OK", False),
        (TEXT, ["Content-Type: text/css", "Content-Range: bytes 0-9/9"], "206 Part", False),
        (b"short", ["Content-Type: text/css"], "200 OK", False),
        (TEXT, [], "200 OK", False),
    ],
)
async def test_what_is_worth_it_is_compressed(
    body: bytes, lines: list[str], status: str, smaller: bool
) -> None:
    answer = response(body, status, *lines, 'ETag: "v1"', "Accept-Ranges: bytes")
    async with Origin(answer) as web:
        settings = Settings(gzip=True, drain_timeout=1)
        async with running_proxy(table({}, [web.port]), settings) as (_, port), client(port) as c:
            for _ in range(2):
                got = await c.ask(get("/", "shop.io", "Accept-Encoding: gzip"))
                if smaller:
                    assert got.header("content-encoding") == "gzip"
                    assert gzip.decompress(got.body) == body
                    assert len(got.body) < len(body) / 5
                    assert got.header("etag") == 'W/"v1"'
                    assert got.header("accept-ranges") == ""
                else:
                    assert got.body == body
                    assert got.header("etag") == '"v1"'
            got = await c.ask(get())
            assert (got.body, got.header("content-encoding") == "gzip") == (body, False)
            assert (got.header("vary") == "Accept-Encoding") is (smaller or body == b"short")
            got = await c.ask(get("/", "shop.io", "Accept-Encoding: gzip", method="HEAD"))
            assert got.header("content-encoding") in ("", "br")
            # An old client has no chunks to wait for.
            c.send(b"GET / HTTP/1.0\r\nHost: shop.io\r\nAccept-Encoding: gzip\r\n\r\n")
            got = await c.answer()
            assert (gzip.decompress(got.body) if smaller else got.body) == body


async def test_a_stream_stays_one_when_it_is_compressed() -> None:
    more = asyncio.Event()

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n5\r\none\n\n\r\n"
        )
        await more.wait()
        writer.write(b"5\r\ntwo\n\n\r\n0\r\n\r\n")

    async with Origin(stream) as web:
        settings = Settings(gzip=True, drain_timeout=1)
        async with running_proxy(table({}, [web.port]), settings) as (_, port), client(port) as c:
            c.send(get("/", "shop.io", "Accept-Encoding: gzip"))
            got = await c.answer(head_only=True)
            assert got.header("transfer-encoding") == "chunked"
            unzip, text = zlib.decompressobj(31), b""
            async with asyncio.timeout(10):
                while text != b"one\n\n":
                    size = int(await c.reader.readline(), 16)
                    text += unzip.decompress((await c.reader.readexactly(size + 2))[:-2])
                more.set()
                while size := int(await c.reader.readline(), 16):
                    text += unzip.decompress((await c.reader.readexactly(size + 2))[:-2])
            assert (text, unzip.eof) == (b"one\n\ntwo\n\n", True)


async def test_clients_of_http2_get_it_smaller_too() -> None:
    async with Origin(response(TEXT, "200 OK", "Content-Type: text/plain")) as web:
        settings = Settings(gzip=True, drain_timeout=1)
        async with running_proxy(table({}, [web.port]), settings) as (_, port):
            async with http2_client(port) as h2:
                got = await h2.ask("GET", "/", (b"accept-encoding", b"gzip"), authority="shop.io")
                assert gzip.decompress(got.body) == TEXT
