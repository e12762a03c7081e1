"""Huge, deep, slow and idle: each refused or borne, in bounded time and memory."""

from __future__ import annotations

import json
import socket
import ssl
import time
from itertools import pairwise

import pytest

from meshkube.control.apiserver.http import LARGEST_BODY
from tests.fuzz.conftest import Victim, judged

MAPS = "/api/v1/namespaces/default/configmaps"
PODS = "/api/v1/namespaces/default/pods"
JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
DEPTH = 100_000
LAUGHS = "\n".join(
    ["a: &a [x,x,x,x,x,x,x,x,x]"]
    + [f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]" for old, new in pairwise("abcdefghi")]
)
BODIES = {
    "too big": (b"x" * (LARGEST_BODY + 1), JSON, 413),
    "deep lists": (b"[" * DEPTH + b"]" * DEPTH, JSON, 400),
    "deep objects": (b'{"a":' * DEPTH + b"1" + b"}" * DEPTH, JSON, 400),
    "deep yaml": (b"[" * DEPTH, YAML, 400),
    "yaml that grows": (LAUGHS.encode(), YAML, 400),
    "yaml that holds itself": (b"a: &a [*a]\nmetadata: {name: x}", YAML, 400),
    "half json": (b'{"metadata":', JSON, 400),
    "json twice": (b"{}{}", JSON, 400),
    "not utf-8": (b'{"a":"\xff"}', JSON, 400),
    "half protobuf": (b"k8s\x00\x0a\x80\x80\x80\x80\x08abc", PROTOBUF, 400),
    "unknown type": (b"{}", "application/cbor", 415),
    "nothing": (b"", JSON, 400),
    "a number": (b"1", JSON, 400),
    "null": (b"null", JSON, 400),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_at_once(victim: Victim, name: str):
    body, media, code = BODIES[name]
    started = time.monotonic()
    answer = victim.ask("POST", MAPS, body, Content_Type=media)
    judged(answer)
    assert answer[0] == code
    assert time.monotonic() - started < 15
    assert victim.faults() == []


@pytest.mark.parametrize("depth", [200, 1000, 5000])
@pytest.mark.parametrize("media", ["merge", "strategic-merge", "json"])
def test_deep_patches(victim: Victim, media: str, depth: int):
    victim.ask("POST", MAPS, json.dumps({"metadata": {"name": "deep"}}).encode())
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    if media == "json":
        deep = b'[{"op":"add","path":"/data","value":' + deep + b"}]"
    answer = victim.ask(
        "PATCH", f"{MAPS}/deep", deep, Content_Type=f"application/{media}-patch+json"
    )
    judged(answer)
    assert victim.faults() == []


def test_a_deep_object_where_any_shape_is_allowed(victim: Victim):
    data = b'{"a":' * 5000 + b"1" + b"}" * 5000
    body = b'{"metadata":{"name":"x"},"revision":1,"data":' + data + b"}"
    path = "/apis/apps/v1/namespaces/default/controllerrevisions"
    judged(victim.ask("POST", path, body))
    judged(victim.ask("PATCH", f"{path}/x?fieldManager=f", body,
                      Content_Type="application/apply-patch+yaml"))  # fmt: skip
    assert victim.faults() == []


def test_big_objects_do_not_hold_the_loop(victim: Victim):
    """One of 1 MB in 20,000 entries, and a list of many thousand wrong fields."""
    victim.longest_hold()
    data = {f"key-{n}": "x" * 40 for n in range(20_000)}
    body = json.dumps({"metadata": {"name": "big"}, "data": data}).encode()
    judged(victim.ask("POST", f"{MAPS}?dryRun=All", body))
    wrong = json.dumps({"metadata": {"name": "big"}, "spec": {"containers": [{"x": 1}] * 30_000}})
    judged(victim.ask("POST", PODS, wrong.encode()))
    assert victim.longest_hold() < 1000
    assert victim.faults() == []


def test_garbage_does_not_stay_in_memory(victim: Victim):
    junk = b"{" + b'"x":1,' * 100_000
    for _ in range(10):
        victim.ask("POST", MAPS, junk)
    before = victim.megabytes()
    for number in range(60):
        victim.ask("POST", MAPS, junk)
        victim.ask("GET", f"{MAPS}?labelSelector={'a' * 60}{number}%3D{'b' * 3000}")
        victim.ask("GET", f"/{number}{'x' * 3000}", Accept=f"application/{number}")
    assert victim.megabytes() - before < 40


def test_a_head_or_a_body_that_never_ends_holds_nobody_else(victim: Victim):
    slow = [victim.socket() for _ in range(20)]
    for number, each in enumerate(slow):
        each.sendall(b"POST /api/v1/namespaces HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n")
        if number % 2:
            each.sendall(b"\r\n{")
    started = time.monotonic()
    assert victim.ask("GET", "/livez")[0] == 200
    assert time.monotonic() - started < 5
    for each in slow:
        each.close()


def test_what_is_no_http_gets_an_answer_that_says_so(victim: Victim):
    for garbage in (
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01" * 10 + b"\r\n\r\n",
    ):
        with victim.socket() as connection:
            connection.sendall(garbage)
            assert connection.recv(100)[8:12] == b" 400"
    with socket.create_connection(("127.0.0.1", victim.port)) as plain:  # not even TLS
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        plain.settimeout(10)
        with pytest.raises((ConnectionError, AssertionError)):
            assert plain.recv(100) != b""
    assert victim.ask("GET", "/livez")[0] == 200


def _watch(victim: Victim, query: str = "", session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    connection = victim.socket(session)
    head = f"GET {MAPS}?watch=1{query} HTTP/1.1\r\nHost: x\r\n\r\n"
    connection.sendall(head.encode())
    return connection


def test_many_idle_watches_cost_little(victim: Victim):
    nobody = "&fieldSelector=metadata.name%3Dnobody"
    before = victim.megabytes()
    first = _watch(victim, nobody)
    assert first.recv(20).startswith(b"HTTP/1.1 200")
    # The other handshakes would be most of the test.
    others = [_watch(victim, nobody, first.session) for _ in range(1999)]
    for each in others:
        assert each.recv(20).startswith(b"HTTP/1.1 200")
    assert all(each.session_reused for each in others)
    assert victim.megabytes() - before < 200
    victim.longest_hold()
    name = f"{MAPS}/idle"
    victim.ask("POST", MAPS, json.dumps({"metadata": {"name": "idle"}}).encode())
    assert victim.ask("DELETE", name)[0] == 200
    assert victim.longest_hold() < 100
    for each in (first, *others):
        each.close()


def test_a_watcher_that_never_reads_is_cut_off(victim: Victim):
    made = {"metadata": {"name": "busy"}, "data": {"x": "y" * 900_000}}
    victim.ask("POST", MAPS, json.dumps(made).encode())
    stuck = _watch(victim)
    stuck.recv(1)
    before = victim.megabytes()
    patched = {"Content_Type": "application/merge-patch+json"}
    for number in range(110):  # 100 MB of events
        patch = json.dumps({"metadata": {"annotations": {"n": str(number)}}}).encode()
        assert victim.ask("PATCH", f"{MAPS}/busy", patch, **patched)[0] == 200
    stuck.settimeout(10)
    received = 0
    try:
        while piece := stuck.recv(1 << 20):
            received += len(piece)
    except OSError:
        pass
    assert received < 90_000_000
    stuck.close()
    assert victim.megabytes() - before < 400
    assert victim.ask("DELETE", f"{MAPS}/busy")[0] == 200
