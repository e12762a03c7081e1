import itertools
import re
from collections.abc import Callable
from typing import Any

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.ingress import http1
from meshkube.ingress.chunked import ChunkedBody
from meshkube.ingress.http1 import CHUNKED, HeadError
from meshkube.ingress.response_fields import parse_response_fields

HOST = b"Host: a\r\n"


def status_of(parse: Callable[..., Any], *arguments: Any) -> int:
    """What a refusal gives; 0 where there is none."""
    try:
        parse(*arguments)
    except HeadError as error:
        return error.status
    return 0


def refused(block: bytes, minor: int = 1) -> int:
    return status_of(http1.parse_fields, block, minor)


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET / HTTP/1.1\r\n", 0),
        (b"M-SEARCH /x HTTP/1.0\r\n", 0),
        (b"GET http://x.io/a HTTP/1.1\r\n", 0),
        (b"OPTIONS * HTTP/1.1\r\n", 0),
        (b"GET  / HTTP/1.1\r\n", 400),
        (b"GET /\tHTTP/1.1\r\n", 400),
        (b"GET / x HTTP/1.1\r\n", 400),
        (b" GET / HTTP/1.1\r\n", 400),
        (b"get / HTTP/1.1\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / http/1.1\r\n", 400),
        (b"GET / HTTP/1.2\r\n", 505),
        (b"PRI * HTTP/2.0\r\n", 505),
        (b"GET /\r\n", 400),
        (b"GET x HTTP/1.1\r\n", 400),
        (b"GET * HTTP/1.1\r\n", 400),
        (b"GET ftp://x/ HTTP/1.1\r\n", 400),
        (b"GET http://u@x/ HTTP/1.1\r\n", 400),
        (b"CONNECT x:443 HTTP/1.1\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_request_lines(line: bytes, status: int) -> None:
    assert status_of(http1.parse_request_line, line) == status


def test_the_absolute_form_gives_path_and_authority() -> None:
    line = http1.parse_request_line(b"GET http://X.io:81?q HTTP/1.1\r\n")
    assert (line.target, line.authority) == (b"/?q", b"X.io:81")


# Each of these has been used to make two servers disagree about where a request ends.
SMUGGLING = {
    "both length and encoding": b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "encoding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "two lengths": b"Content-Length: 4\r\nContent-Length: 5\r\n",
    "the same length twice": b"Content-Length: 4\r\nContent-Length: 4\r\n",
    "a list of lengths": b"Content-Length: 4, 4\r\n",
    "a signed length": b"Content-Length: +4\r\n",
    "a negative length": b"Content-Length: -4\r\n",
    "a hexadecimal length": b"Content-Length: 0x4\r\n",
    "an empty length": b"Content-Length: \r\n",
    "a length with an underscore in it": b"Content-Length: 1_0\r\n",
    "a length that overflows": b"Content-Length: 99999999999999999999\r\n",
    "two encodings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "an encoding of two": b"Transfer-Encoding: gzip, chunked\r\n",
    "identity": b"Transfer-Encoding: identity\r\n",
    "an odd encoding": b"Transfer-Encoding: xchunked\r\n",
    "a quoted encoding": b'Transfer-Encoding: "chunked"\r\n',
    "a blank before the colon": b"Transfer-Encoding : chunked\r\n",
    "a tab before the colon": b"Content-Length\t: 4\r\n",
    "a vertical tab before the value": b"Transfer-Encoding:\x0bchunked\r\n",
    "a folded line": b"X: a\r\n Transfer-Encoding: chunked\r\n",
    "a line that begins with a tab": b"\tTransfer-Encoding: chunked\r\n",
    "a bare line feed": b"X: a\nTransfer-Encoding: chunked\r\n",
    "a bare carriage return": b"X: a\rTransfer-Encoding: chunked\r\n",
    "a NUL": b"X: a\x00\r\n",
    "a NUL in a name": b"X\x00: a\r\n",
    "no colon": b"Transfer-Encoding\r\n",
    "no name": b": chunked\r\n",
    "a name that is no token": b"X(y): a\r\n",
    "a second Host": b"Host: b\r\n",
    "Connection naming the length": b"Connection: content-length\r\nContent-Length: 4\r\n",
    "Connection naming the host": b"Connection: close, Host\r\n",
}


@pytest.mark.parametrize("block", SMUGGLING.values(), ids=SMUGGLING.keys())
def test_what_two_servers_could_read_differently_is_refused(block: bytes) -> None:
    assert refused(HOST + block) in (400, 501)


@pytest.mark.parametrize(
    "host", [b"a b", b"a/b", b"a@b", b"a,b c", b"[::1", b"a:b", b"\xff", b"<x>"]
)
def test_a_malformed_host_is_refused(host: bytes) -> None:
    assert refused(b"Host: " + host + b"\r\n") == 400


def test_a_host_is_required_in_1_1_only() -> None:
    assert refused(b"X: y\r\n") == 400
    assert refused(b"X: y\r\n", minor=0) == 0
    assert refused(HOST + b"Transfer-Encoding: chunked\r\n", minor=0) == 400


def test_hop_by_hop_lines_and_those_connection_names_are_cut() -> None:
    fields = http1.parse_fields(
        b"Connection: keep-alive, X-Secret\r\nHost: a\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n"
        b"Accept: */*\r\nTE: trailers\r\nProxy-Connection: x\r\nUpgrade: foo\r\nproxy: evil\r\n",
        1,
    )
    assert fields.kept == b"Host: a\r\nAccept: */*\r\n"
    assert fields.upgrade == b"foo"


@pytest.mark.parametrize(
    "name",
    [
        "X-Forwarded-For",
        "x_forwarded_for",
        "X-Real-IP",
        "X_REAL_IP",
        "Forwarded",
        "X-Request-Id",
        "X-Forwarded-Proto",
        "X_Forwarded-Host",
        "Content_Length",
        "Transfer_Encoding",
    ],
)
def test_what_only_the_proxy_may_say_is_cut_in_every_spelling(name: str) -> None:
    fields = http1.parse_fields(HOST + name.encode() + b": 1\r\nA: b\r\n", 1)
    assert fields.kept == HOST + b"A: b\r\n"
    assert fields.length == 0


def test_names_that_only_look_alike_stay() -> None:
    block = HOST + b"X-Host: a\r\nHosts: b\r\nX-Connection: close\r\nA: connection: close\r\n"
    fields = http1.parse_fields(block, 1)
    assert fields.kept == block
    assert fields.connection == frozenset()


def test_neighbouring_lines_are_all_found() -> None:
    fields = http1.parse_fields(
        b"Connection: close\r\nConnection: upgrade\r\nUpgrade: websocket\r\nHost: a\r\n", 1
    )
    assert fields.kept == HOST
    assert fields.connection == {b"close", b"upgrade"}


@pytest.mark.parametrize(
    ("block", "kept", "length", "close", "verbatim"),
    [
        (b"Content-Length: 5\r\n", b"Content-Length: 5\r\n", 5, False, True),
        (b"A: b\r\nTransfer-Encoding: chunked\r\n", b"A: b\r\n", CHUNKED, False, True),
        (b"Connection: close\r\nA: b\r\n", b"A: b\r\n", None, True, False),
        (b"Content-Length: 5\r\nContent-Length: 5\r\n", b"Content-Length: 5\r\n", 5, False, False),
        (b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"", CHUNKED, True, False),
    ],
)
def test_response_heads(
    block: bytes, kept: bytes, length: Any, close: bool, verbatim: bool
) -> None:
    fields = parse_response_fields(block)
    found = fields.kept, fields.length, fields.close, fields.verbatim
    assert found == (kept, length, close, verbatim)


@pytest.mark.parametrize(
    "block",
    [
        b"Content-Length: 5\r\nContent-Length: 6\r\n",
        b"Content-Length: x\r\n",
        b"A: b\nC: d\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"A b\r\n",
    ],
)
def test_a_response_that_cannot_be_trusted_is_a_bad_gateway(block: bytes) -> None:
    with pytest.raises(HeadError) as caught:
        parse_response_fields(block)
    assert caught.value.status == 502


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\n\n", 400),
        (b"\x16\x03\x01", 400),
        (b"GET /" + b"a" * 2000, 414),
        (b"GET / HTTP/1.1\r\nA: " + b"a" * 2000, 431),
        (b"nonsense", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n", 0),
        (b"GE", 0),
        (b"GET / HTTP/1.1\r", 0),
    ],
)
def test_a_head_that_cannot_end_well_is_refused_early(data: bytes, status: int) -> None:
    assert status_of(http1.check_partial, data, 1024) == status


# The strict grammar against llhttp: what we let pass, it must read in the same way.


class Seen:
    def __init__(self) -> None:
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


WORDS = st.sampled_from(
    [
        b"Host",
        b"Content-Length",
        b"Transfer-Encoding",
        b"X",
        b"Connection",
        b"chunked",
        b"4",
        b"a",
        b":",
        b": ",
        b" ",
        b"\t",
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b",",
        b"close",
        b"\r\n ",
    ]
)


@given(st.lists(WORDS, max_size=16).map(b"".join))
def test_a_head_we_accept_means_the_same_to_another_parser(block: bytes) -> None:
    block = b"Host: a\r\n" + block + b"\r\n"
    try:
        fields = http1.parse_fields(block, 1)
    except HeadError:
        return
    seen = Seen()
    parser = httptools.HttpRequestParser(seen)
    parser.feed_data(b"POST /x HTTP/1.1\r\n" + fields.kept + b"\r\n")
    assert seen.complete
    names = [name.lower() for name, _ in seen.headers]
    assert names.count(b"host") == 1
    assert b"transfer-encoding" not in names
    lengths = [int(value) for name, value in seen.headers if name.lower() == b"content-length"]
    assert lengths == ([fields.length] if fields.has_length else [])
    assert re.sub(rb"\r\n\Z", b"", fields.kept).count(b"\n") == len(seen.headers) - 1


def test_lines_are_judged_alike_however_often_they_come() -> None:
    good = b"Host: a\r\nX-Forwarded-For: 1.2.3.4\r\nA: b\r\nConnection: close\r\n"
    for _ in range(3):
        fields = http1.parse_fields(good, 1)
        assert (fields.host, fields.kept) == (b"a", b"Host: a\r\nA: b\r\n")
        assert fields.forwarded_for == b"1.2.3.4"
        for bad in (b"A: b\nC: d\r\n", b" A: b\r\n", b"A : b\r\n", b"\r\n", b"A: b"):
            with pytest.raises(HeadError):
                http1.parse_fields(b"Host: a\r\n" + bad, 1)
    for number in range(20_000):
        http1.parse_fields(b"Host: a%d\r\nX: %d\r\n" % (number, number), 1)
    assert http1.parse_fields(good, 1).kept == b"Host: a\r\nA: b\r\n"
    assert len(http1._plain) + len(http1._special) <= 8192


# Chunked bodies


def feed(pieces: list[bytes]) -> tuple[bytes, bool, int]:
    body = ChunkedBody()
    payload: list[bytes] = []
    used = sum(body.feed(piece, payload) for piece in pieces)
    return b"".join(payload), body.done, used


GOOD = b"4\r\nwiki\r\n6;a=b\r\npedia \r\nB\r\nin \r\nchunks\r\n0\r\nX-Sum: 1\r\n\r\n"


@given(st.lists(st.integers(0, len(GOOD)), max_size=8))
def test_chunks_are_read_however_they_are_split(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(GOOD)]
    pieces = [GOOD[a:b] for a, b in itertools.pairwise(edges)]
    assert feed(pieces) == (b"wikipedia in \r\nchunks", True, len(GOOD))


def test_what_follows_a_chunked_body_is_left_alone() -> None:
    assert feed([b"0\r\n\r\nGET / HTTP/1.1"]) == (b"", True, 5)


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x4\r\nwiki\r\n",
        b"4\nwiki\r\n",
        b"4\r\nwikipedia\r\n",
        b"4\r\nwiki\n0",
        b"4 4\r\n",
        b"4;a\rb\r\n",
        b"4;a\x00\r\n",
        b"10000000000000000\r\n",
        b"0\r\nA b\r\n\r\n",
        b"0\r\nContent-Length: 4\r\n\r\n",
        b"0\r\nHost: a\r\n\r\n",
        b"0\r\nA: b\n\r\n",
        b"0\r\n\n",
        b" 4\r\nwiki\r\n",
        b"4\r\nwiki4\r\n",
        b"1;" + b"a" * 5000,
    ],
)
def test_malformed_chunks_are_refused(data: bytes) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(HeadError):
            feed(pieces)
