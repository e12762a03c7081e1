"""Whatever bytes come in, the ingress neither fails nor hangs, and blames the client."""

import asyncio
import logging
from typing import Any

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkube.ingress.settings import Settings
from tests.support.ingress import Origin, client, running_proxy, table_to

PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"0\r\nA: b\r\n\r\n",
        b"GET ",
        b"HEAD /",
        b" HTTP/1.1\r\n",
        b" HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\n",
        b"Upgrade: websocket\r\n",
        b"Expect: 100-continue\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b" ",
        b":",
        b"OPTIONS * HTTP/1.1\r\n",
        b"GET http://b/c HTTP/1.1\r\n",
        b"%2e%2e/",
        b"?",
        b"\x16\x03\x01",
    ]
)
INPUT = st.lists(st.one_of(PIECES, st.binary(max_size=6)), max_size=14)
LIMITS = Settings(
    head_timeout=0.08,
    keep_alive_timeout=0.08,
    body_timeout=0.08,
    response_timeout=1.0,
    linger=0.05,
    drain_timeout=0.5,
    max_head=2048,
)


async def talk(pieces: list[bytes], one_by_one: bool, caplog: Any) -> None:
    async with Origin() as origin, running_proxy(table_to(origin.port), LIMITS) as (proxy, port):
        async with client(port) as c:
            if one_by_one:
                for piece in pieces:
                    if c.writer.is_closing():
                        # Refused already.
                        break
                    c.send(piece)
                    await asyncio.sleep(0)
            else:
                c.send(b"".join(pieces))
            async with asyncio.timeout(5):
                try:
                    answers = await c.reader.read()
                    while more := await c.reader.read():
                        answers += more
                except ConnectionError:
                    answers = b""
        assert b"HTTP/1.1 5" not in answers.replace(b"HTTP/1.1 501 ", b"").replace(
            b"HTTP/1.1 505 ", b""
        )
        async with asyncio.timeout(5):
            while proxy.clients:
                await asyncio.sleep(0.005)
        route = proxy.table.match("", "/")
        for endpoint in getattr(route.backend.balancer, "endpoints", ()):
            assert endpoint.active == 0
        for head in origin.requests:
            assert head.count(b"\r\nX-Forwarded-For: 127.0.0.1\r\n") == 1
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(INPUT, st.booleans())
def test_any_bytes_are_answered_or_refused(
    caplog: Any, pieces: list[bytes], one_by_one: bool
) -> None:
    caplog.clear()
    uvloop.run(talk(pieces, one_by_one, caplog))
