# ruff: noqa: SIM117 -- server, proxy and client read better one inside the other
"""Request smuggling, end to end: whatever two servers could read differently is refused, its
connection closed, and what it would have smuggled reaches no pod. A pod that keeps its connection
open stands behind, so a half request that was passed on would meet the next one there.

The shapes are those of the published work on HTTP desync (CL.TE, TE.CL, TE.TE, CL.0, 0.CL, chunk
extensions, line ends, downgrade from HTTP/2); the cases are our own.
"""

import asyncio
from typing import Any

import pytest

from meshkube.ingress.settings import Settings
from tests.ingress.test_http1 import SMUGGLING
from tests.support import http2
from tests.support.ingress import Origin, client, running_proxy, table_to

QUICK = Settings(linger=0.02, body_timeout=0.2, drain_timeout=1)
EVIL = b"GET /admin HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"

HEADS = {
    # The body would end early for whoever takes the length, or late for whoever takes the chunks.
    "CL.TE": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE.CL": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n",
    "TE.TE, the second unknown": POST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
    "TE.TE, the first unknown": POST
    + b"Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an encoding in HTTP/1.0": b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\n",
    "an encoding with an underscore and a length": POST
    + b"Transfer_Encoding: chunked\r\nContent-Length: 4\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
    "a length after a bare LF": POST + b"X: y\nContent-Length: 40\r\n\r\n",
    "a head that ends in bare LFs": b"GET / HTTP/1.1\nHost: a\n\n",
    "a line end of CR alone": b"GET / HTTP/1.1\r\nHost: a\rContent-Length: 40\r\n\r\n",
    "a head within the target": b"GET /\r\nHost: a\r\n\r\n",
    "two blanks": b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a tab in the request line": b"GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n",
    "a version of its own": b"GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "a second Host": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "a method in lower case": b"get / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a colon before the first header": b"GET / HTTP/1.1\r\n: x\r\nHost: a\r\n\r\n",
    "a first header that begins with a blank": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
}
BODIES = {
    "a size with a sign": b"+5\r\nhello\r\n0\r\n\r\n",
    "a negative size": b"-1\r\n0\r\n\r\n",
    "a size with 0x": b"0x5\r\nhello\r\n0\r\n\r\n",
    "a blank before the size": b" 5\r\nhello\r\n0\r\n\r\n",
    "an empty size": b"\r\nhello\r\n0\r\n\r\n",
    "a size that overflows": b"ffffffffffffffff0\r\nhello\r\n0\r\n\r\n",
    "a size with an underscore": b"1_0\r\nhello\r\n0\r\n\r\n",
    "an extension that ends in LF": b"5;a\nhello\r\n0\r\n\r\n",
    "an extension with CR in it": b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    "a size line that ends in LF": b"5\nhello\r\n0\r\n\r\n",
    "a last chunk that ends in LF": b"0\n\n",
    "a chunk that ends in LF": b"5\r\nhello\n0\r\n\r\n",
    "a chunk longer than its size": b"5\r\nhello!\r\n0\r\n\r\n",
    "a chunk shorter than its size": b"6\r\nhello\r\n0\r\n\r\n",
    "trailers that end in LF": b"0\r\nX: y\n\n",
    "a length in the trailers": b"0\r\nContent-Length: 5\r\n\r\n",
    "an encoding in the trailers": b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a Host in the trailers": b"0\r\nHost: b\r\n\r\n",
    "a folded trailer": b"0\r\nX: y\r\n z\r\n\r\n",
    "a request in the trailers": b"0\r\nGET /admin HTTP/1.1\r\n\r\n",
}
CASES = (
    HEADS
    | {f"chunks: {name}": CHUNKED + body for name, body in BODIES.items()}
    | {f"headers: {name}": POST + block + b"\r\n0\r\n\r\n" for name, block in SMUGGLING.items()}
)


@pytest.mark.parametrize("case", CASES)
async def test_the_connection_ends_and_nothing_is_smuggled(case: str) -> None:
    data = CASES[case] + EVIL
    async with Origin() as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        # Also on a connection where a request has been, which is what the next one is held against.
        for pieces, warm in ((1, False), (3, False), (1, True)):
            async with client(port) as c:
                if warm:
                    await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    await c.ask(b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n")
                    origin.requests.clear()
                size = len(data) // pieces + 1
                for at in range(0, len(data), size):
                    c.send(data[at : at + size])
                    await asyncio.sleep(0)
                got = await c.answer()
                assert got.status in (400, 417, 501, 505)
                assert got.header("connection") == "close"
                assert await c.at_end()
            # Somebody else's request over the same pool is that request and no other.
            async with client(port) as other:
                assert (await other.ask(b"GET /mine HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"ok"
            *before, last = [head.split(b"\r\n")[0] for head in origin.requests]
            assert last == b"GET /mine HTTP/1.1"
            # A body passes as it comes: its head may have been there, and no more than that.
            assert before == [] or (before == [b"POST / HTTP/1.1"] and pieces > 1)
            origin.requests.clear()


async def test_a_pod_sees_no_line_of_a_chunked_body_before_it_is_known_to_be_sound() -> None:
    seen = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        while data := await reader.read(65536):
            seen += data

    async with Origin(serve) as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        async with client(port) as c:
            for piece in (
                CHUNKED,
                b"5\r\nhel",
                b"lo\r\n0\r\n",
                b"GET /admin HTTP/1.1\r\n",
                b"\r\n",
            ):
                c.send(piece)
                await asyncio.sleep(0.02)
            assert (await c.answer()).status == 400
    assert seen.endswith(b"\r\n\r\n5\r\nhello\r\n0\r\n")


async def test_what_only_looks_odd_is_served_once() -> None:
    fine = {
        b"5;name=value\r\nhello\r\n0\r\n\r\n": b"hello",
        b"05\r\nhello\r\n000\r\n\r\n": b"hello",
        b'5;a="x;y"\r\nhello\r\n0\r\nX: y\r\n\r\n': b"hello",
    }
    async with Origin() as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        async with client(port) as c:
            for body in fine:
                c.send(CHUNKED + body + EVIL.replace(b"admin", b"next"))
                assert [(await c.answer()).status for _ in range(2)] == [200, 200]
    assert origin.bodies[::2] == list(fine.values())
    assert [head.split(b" ")[1] for head in origin.requests] == [b"/", b"/next"] * len(fine)


LINES = (
    b"",
    b"Accept: */*\r\n",
    b"Accept: a\r\nX-Number: 1\r\n",
    b"X-Number: 2\r\nAccept: */*\r\n",
    b"X_Number: 2\r\nx-number: 3\r\n",
    b"Connection: keep-alive\r\nAccept: */*\r\n",
    b"Accept: */*\r\nConnection: keep-alive\r\nX-Number: 4\r\n",
    b"Connection: X-Number\r\nX-Number: 5\r\n",
    b"Connection: X-Number\r\nX-Number: 6\r\n",
    b"X-Request-Id: mine\r\nX-Number: 7\r\n",
    b"X-Request-Id: mine\r\nX-Number: 8\r\n",
    b"X-Forwarded-For: 9.9.9.9\r\nX_Forwarded_For: 9.9.9.9\r\n",
    b"X-Number:9\r\nX-Number: \t9 \r\n",
    b"X-Number: " + b"9" * 3000 + b"\r\n",
)


async def test_requests_on_one_connection_reach_a_pod_as_they_would_each_on_its_own() -> None:
    requests = [
        b"GET /%d HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (turn, host, lines)
        for turn in range(2)
        for host in (b"a", b"b:80")
        for lines in LINES
    ]
    async with Origin() as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        for each in requests:
            async with client(port) as c:
                assert (await c.ask(each)).status == 200
        alone = [_without_id(head) for head in origin.requests]
        origin.requests.clear()
        async with client(port) as c:
            for each in requests:
                assert (await c.ask(each)).status == 200
    assert [_without_id(head) for head in origin.requests] == alone


def _without_id(head: bytes) -> list[bytes]:
    """A head's lines; an id that the ingress made is left out."""
    lines = head.split(b"\r\n")
    return [each for each in lines if not each.startswith(b"X-Request-Id: ") or b"mine" in each]


@pytest.mark.parametrize(
    "line",
    [b"X-Number", b"X-Number\x0b: 1", b"X-Number: a\x00b", b"X-Number : 1", b" X-Number: 1",
     b"x\ny: 1", b"X-Number: a\rb", b"X-Number: a\nb", b"X-Number: \x7f", b": 1"],
)  # fmt: skip
async def test_a_bad_line_is_refused_where_its_name_was_often_seen(line: bytes) -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        async with client(port) as c:
            for number in range(3):
                good = b"GET / HTTP/1.1\r\nHost: a\r\nX-Number: %d\r\n\r\n" % number
                assert (await c.ask(good)).status == 200
            c.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n")
            assert (await c.answer()).status == 400
            assert await c.at_end()
    assert len(origin.requests) == 3


async def test_a_head_that_ends_early_does_not_hide_the_next_request() -> None:
    """The rest of the bytes looks like the last request's, with its end in the middle."""
    async with Origin() as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        async with client(port) as c:
            usual = b"Host: a\r\nX-Number: 1\r\n"
            assert (await c.ask(b"GET /1 HTTP/1.1\r\n" + usual + b"\r\n")).status == 200
            c.send(b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\nX-Number: 1\r\n\r\n")
            assert [(await c.answer()).status for _ in range(2)] == [200, 400]
        async with client(port) as c:
            assert (await c.ask(b"GET /3 HTTP/1.1\r\n" + usual + b"\r\n")).status == 200
            c.send(b"GET /4 HTTP/1.1\r\n" + usual + b"\r\nGET /5 HTTP/1.1\r\n" + usual + b"\r\n")
            assert [(await c.answer()).status for _ in range(2)] == [200, 200]
            c.send(b"GET /6 HTTP/1.1\r\n\r\n" + usual + b"\r\n")
            assert (await c.answer()).status == 400
            assert await c.at_end()
    paths = [head.split(b" ")[1] for head in origin.requests]
    assert paths == [b"/1", b"/2", b"/3", b"/4", b"/5"]


DOWNGRADES: dict[str, tuple[list[tuple[bytes, bytes]], bytes]] = {
    "a body longer than its length": ([(b"content-length", b"0")], EVIL),
    "a body shorter than its length": ([(b"content-length", b"900")], b"x"),
    "an encoding": ([(b"transfer-encoding", b"chunked")], b"0\r\n\r\n" + EVIL),
    "a header with a line end": ([(b"x", b"y\r\nTransfer-Encoding: chunked")], EVIL),
    "a header with a request": ([(b"x", b"y\r\n\r\n" + EVIL)], b""),
    "a name with a line end": ([(b"x: y\r\ntransfer-encoding", b"chunked")], EVIL),
    "a name with a colon": ([(b"x:y", b"z")], b""),
    "two lengths": ([(b"content-length", b"1"), (b"content-length", b"40")], b"x"),
    "an upgrade": ([(b"upgrade", b"h2c")], b""),
    "te other than trailers": ([(b"te", b"chunked")], b""),
}


@pytest.mark.parametrize("case", DOWNGRADES)
async def test_a_downgrade_from_http2_smuggles_nothing(case: str) -> None:
    headers, body = DOWNGRADES[case]
    async with Origin() as origin, running_proxy(table_to(origin.port), QUICK) as (_, port):
        async with http2.client(port) as c:
            try:
                number = c.request("POST", "/", *headers, body=body)
                stream: Any = await c.answer(number)
                assert stream.reset is not None or stream.status >= 400
            except (ConnectionError, KeyError):
                pass
        async with client(port) as other:
            assert (await other.ask(b"GET /mine HTTP/1.1\r\nHost: a\r\n\r\n")).body == b"ok"
    assert not any(b"admin" in head for head in origin.requests)
    assert origin.requests[-1].startswith(b"GET /mine ")
