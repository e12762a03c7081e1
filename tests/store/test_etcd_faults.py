"""What etcd's errors mean: the very answers that etcd 3.4 to 3.6 gave."""

import pytest

from meshkube.store.etcd_faults import Fault, read_error
from meshkube.store.etcd_wire import end_of


@pytest.mark.parametrize(
    ("status", "body", "fault"),
    [
        (
            400,
            b'{"error":"etcdserver: mvcc: required revision has been compacted","code":11}',
            "COMPACTED",
        ),
        (
            400,
            b'{"code":11,"message":"etcdserver: mvcc: required revision is a future revision"}',
            "FUTURE",
        ),
        (503, b'{"error":"etcdserver: request timed out","code":14}', "UNKNOWN"),
        (503, b'{"error":"etcdserver: leader changed","code":14}', "UNKNOWN"),
        (503, b'{"error":"etcdserver: no leader","code":14}', "NOT_DONE"),
        (429, b'{"error":"etcdserver: too many requests","code":8}', "NOT_DONE"),
        (429, b'{"error":"etcdserver: mvcc: database space exceeded","code":8}', "FULL"),
        (401, b'{"error":"etcdserver: invalid auth token","code":16}', "TOKEN"),
        (400, b'{"error":"etcdserver: user name is empty","code":3}', "TOKEN"),
        (400, b'{"error":"etcdserver: revision of auth store is old","code":3}', "TOKEN"),
        (403, b'{"error":"etcdserver: permission denied","code":7}', "REFUSED"),
        (400, b'{"error":"etcdserver: request is too large","code":3}', "TOO_LARGE"),
        (
            400,
            b'{"error":"etcdserver: authentication failed, invalid user ID or password","code":3}',
            "REFUSED",
        ),
        (404, b"404 page not found", "REFUSED"),
        (502, b"<html>", "UNKNOWN"),
        (500, b"[]", "UNKNOWN"),
    ],
)
def test_errors(status: int, body: bytes, fault: str) -> None:
    assert read_error(status, body).fault is Fault[fault]


def test_an_error_in_a_stream() -> None:
    body = b'{"error":{"grpc_code":14,"http_code":503,"message":"etcdserver: no leader"}}'
    error = read_error(200, body)
    assert (error.fault, str(error)) == (Fault.NOT_DONE, "etcdserver: no leader")


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"/a/", b"/a0"), (b"a", b"b"), (b"a\xff\xff", b"b"), (b"\xc3\xbf", b"\xc3\xc0")],
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert end_of(prefix) == end
