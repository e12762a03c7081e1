"""Pods in HTTP/2 that break rules, by accident or on purpose: whatever they send, their client gets
an answer or sees that there is none, and the next request is served."""

import asyncio
import contextlib
import logging
import struct
from typing import Any

import pytest
import uvloop
from h2.errors import ErrorCodes
from hpack import Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkube.ingress.settings import Settings
from tests.ingress.test_http2_pods import table
from tests.support.http2 import client as http2_client
from tests.support.http2_origin import Http2Origin
from tests.support.ingress import client, running_proxy

GET = b"GET /x HTTP/1.1\r\nHost: a.io\r\n\r\n"
QUICK = Settings(
    response_timeout=0.4, body_timeout=0.4, drain_timeout=0.5, eject=0.01, max_head=8192
)


def frame(kind: int, flags: int, number: int, payload: bytes = b"") -> bytes:
    return struct.pack("!I", len(payload))[1:] + struct.pack("!BBI", kind, flags, number) + payload


def head(*fields: tuple[str, str], status: str = "200", end: bool = False) -> bytes:
    # No table: each list stands for itself, in whatever order they are sent.
    block = Encoder().encode([(":status", status), *fields], huffman=False)
    return frame(1, 4 | end, 1, block)


SETTINGS = frame(4, 0, 0)


def ok(number: int) -> bytes:
    return frame(1, 4, number, b"\x88") + frame(0, 1, number, b"ok")


OK = ok(1)


class RawPod:
    """It answers its first request with given bytes, whatever they are, and perhaps leaves; to
    others it is what a pod should be."""

    def __init__(self, *said: bytes, leaves: bool = False) -> None:
        self.said = said
        self.leaves = leaves
        self.connections = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def __aenter__(self) -> "RawPod":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        first = self.connections == 1
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, RuntimeError):
            writer.write(SETTINGS)
            asked = 0
            while data := await reader.read(65536):
                for _ in range(data.count(b"/x")):
                    asked += 1
                    said = self.said if first and asked == 1 else (ok(2 * asked - 1),)
                    for piece in said:
                        writer.write(piece)
                        await asyncio.sleep(0)
                if first and asked and self.leaves:
                    break
            writer.close()


async def served(pod: RawPod, protocol: str) -> bytes:
    """What a client gets for one request, after which the next one is served."""
    async with pod, running_proxy(table(pod.port), QUICK) as (proxy, port):
        if protocol == "HTTP/1.1":
            async with client(port) as c:
                c.send(GET)
                async with asyncio.timeout(5):
                    got = await c.reader.read(65536)
        else:
            async with http2_client(port) as c:
                stream = await c.answer(c.request("GET", "/x"), 5)
                got = b"reset" if stream.reset is not None else b"HTTP/1.1 %d" % stream.status
        async with asyncio.timeout(5):
            while True:
                async with client(port) as c:
                    c.send(GET)
                    if b" 200 " in await c.reader.read(65536):
                        break
                await asyncio.sleep(0.02)
        route = proxy.table.match("a.io", "/x")
        async with asyncio.timeout(5):
            while any(endpoint.active for endpoint in route.backend.balancer.endpoints):
                await asyncio.sleep(0.01)
        return got


LONG = ("x", "v" * 4000)
CASES = {
    "it leaves without a word": ((b"",), 502),
    "it leaves in a frame": ((head()[:7],), 502),
    "a farewell, and no answer": ((frame(7, 0, 0, struct.pack("!II", 1, 2)),), 504),
    "a list that is too large": ((head(LONG, LONG, LONG),), 502),
    "a list that does not end": ((frame(1, 0, 1, b"\x88") + frame(9, 0, 1) * 20,), 502),
    "a list that is none": ((frame(1, 4, 1, b"\xff\xff\xff\xff\xff\xff"),), 502),
    "data before a head": ((frame(0, 0, 1, b"x"),), 502),
    "more than it said": ((head(("content-length", "1")) + frame(0, 1, 1, b"ok"),), 0),
    "less than it said": ((head(("content-length", "9")) + frame(0, 1, 1, b"ok"),), 0),
    "two lengths": ((head(("content-length", "1"), ("content-length", "2")),), 502),
    "no status": ((frame(1, 5, 1, Encoder().encode([("a", "b")])),), 502),
    "a status of its own": ((head(status="999"),), 502),
    "an upgrade": ((head(status="101"),), 502),
    "a name with a line end": ((head(("a\r\nevil", "1")),), 502),
    "a push": ((frame(5, 4, 1, b"\0\0\0\2\x88"),), 502),
    "a frame too large": ((struct.pack("!I", 20_000)[1:] + b"\0\0\0\0\0\1",), 502),
    "pings without end": ((frame(6, 0, 0, b"12345678") * 3000,), 502),
    "settings without end": ((frame(4, 0, 0) * 3000,), 502),
    "empty data without end": ((head() + frame(0, 0, 1) * 3000,), 0),
    "HTTP/1.1": ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",), 502),
    "windows beyond bounds": ((frame(8, 0, 0, b"\x7f\xff\xff\xff"),), 502),
    "a body that stops": ((head() + frame(0, 0, 1, b"o"),), 0),
    "an answer, then a reset": ((OK + frame(3, 0, 1, b"\0\0\0\0"),), 200),
}


@pytest.mark.parametrize("protocol", ["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize(("said", "status"), CASES.values(), ids=CASES)
async def test_a_pod_that_breaks_the_rules(
    said: tuple[bytes, ...], status: int, protocol: str
) -> None:
    """The status that the client gets; 0: a response that visibly breaks off."""
    leaves = said in ((b"",), (head()[:7],))
    got = await served(RawPod(*said, leaves=leaves), protocol)
    if status:
        assert b" %d" % status in got
    elif protocol == "HTTP/2":
        assert got == b"reset"
    else:
        assert b" 502 " in got or not got.endswith((b"ok", b"0\r\n\r\n"))


NUMBERS = st.sampled_from([0, 1, 1, 1, 2, 3, 2**31 - 1])
FIELDS = st.lists(
    st.tuples(
        st.sampled_from(["content-length", "x", "connection", "Upper", ":status", "grpc-status"]),
        st.sampled_from(["0", "2", "x", "", "close", "\x00", "1\r\n2"]),
    ),
    max_size=3,
)
PIECES = st.one_of(
    st.sampled_from([OK, head(), frame(0, 0, 1, b"data"), frame(0, 1, 1), SETTINGS]),
    st.builds(lambda fields, status, end: head(*fields, status=status, end=end), FIELDS,
              st.sampled_from(["200", "204", "103", "101", "500", "2x", ""]), st.booleans()),
    st.builds(frame, st.integers(0, 11), st.integers(0, 63), NUMBERS, st.binary(max_size=12)),
    st.builds(lambda code: frame(3, 0, 1, struct.pack("!I", code)), st.sampled_from(ErrorCodes)),
    st.builds(lambda last: frame(7, 0, 0, struct.pack("!II", last, 0)), NUMBERS),
)  # fmt: skip


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(PIECES, min_size=1, max_size=8), st.booleans(), st.sampled_from(["HTTP/1.1", "HTTP/2"])
)
def test_whatever_a_pod_sends_the_next_request_is_served(
    caplog: Any, pieces: list[bytes], leaves: bool, protocol: str
) -> None:
    caplog.clear()
    if leaves:
        # The beginning of a frame that has no end.
        pieces = [*pieces, b"\0\1\0\0\0\0"]
    with contextlib.suppress(ConnectionError):
        uvloop.run(served(RawPod(*pieces, leaves=leaves), protocol))
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_pod_that_lets_nothing_be_sent_is_waited_for_only_so_long() -> None:
    """A window of nothing, for a request with a body."""

    async def shut(call: Any) -> None:
        await asyncio.Event().wait()

    async with Http2Origin(shut) as pod, running_proxy(table(pod.port), QUICK) as (_, port):
        pod.takes_data = False
        async with client(port) as c:
            c.send(b"POST /x HTTP/1.1\r\nHost: a.io\r\nContent-Length: 900000\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                c.send(b"x" * 900_000)
            assert (await c.answer()).status == 504
