"""Odd questions against the answers that are kept: whatever came before, an answer is the one that
the zone gives now, for exactly the packet that asked."""

from __future__ import annotations

import struct

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.dns import names, wire
from meshkube.dns.cache import AnswerCache, Finished
from meshkube.dns.records import CNAME, A, Record
from meshkube.dns.responder import Answer, Authority, respond
from meshkube.dns.wire import Malformed
from meshkube.dns.zone import Zone

AUTHORITY = Authority.of("c.l", ["10.43.0.0/16"])
NAMES = ["a.n.svc.c.l", "b.n.svc.c.l", "x.a.n.svc.c.l", "svc.c.l", "c.l", "example.org"]
KINDS = [1, 2, 5, 6, 12, 16, 28, 33, 41, 252, 255, 65535]


def packet(name: str, kind: int, klass: int, flags: int, edns: bytes, case: int) -> bytes:
    encoded = bytes(
        byte ^ 0x20 if case >> n & 1 and 97 <= byte <= 122 else byte
        for n, byte in enumerate(names.encode(name))
    )
    head = struct.pack("!HHHHHH", 7, flags, 1, 0, 0, 1 if edns else 0)
    return head + encoded + struct.pack("!HH", kind, klass) + edns


def opt(size: int, options: bytes) -> bytes:
    return b"\0" + struct.pack("!HHIH", 41, size, 0, len(options)) + options


queries = st.builds(
    packet,
    st.sampled_from(NAMES),
    st.one_of(st.just(1), st.sampled_from(KINDS)),
    st.one_of(st.just(1), st.sampled_from([3, 255])),
    st.sampled_from([0, 0x0100, 0x0110, 0x0010, 0x2800]),
    st.one_of(
        st.just(b""),
        st.builds(opt, st.sampled_from([0, 512, 1232, 65535]), st.binary(max_size=8)),
    ),
    st.integers(0, 1 << 20),
)
mangled = st.builds(
    lambda query, at, byte: query[: at % len(query)] + bytes([byte]) + query[at % len(query) + 1 :],
    queries,
    st.integers(0, 100),
    st.integers(0, 255),
)
changes = st.tuples(
    st.sampled_from(["one", "other"]),
    st.lists(
        st.one_of(
            st.builds(
                lambda name, last: Record(names.encode(name), A, bytes([10, 43, 0, last])),
                st.sampled_from(NAMES[:3]),
                st.integers(0, 3),
            ),
            st.builds(
                lambda name, to: Record(names.encode(name), CNAME, names.encode(to)),
                st.sampled_from(NAMES[:3]),
                st.sampled_from(NAMES),
            ),
        ),
        max_size=4,
    ),
)


@settings(max_examples=200)
@given(
    st.lists(st.one_of(queries, mangled), min_size=1, max_size=3),
    st.lists(st.one_of(st.integers(0, 2), changes), min_size=3, max_size=30),
)
def test_a_kept_answer_is_what_the_zone_says_now(asked: list[bytes], steps: list[object]) -> None:
    zone, cache = Zone(), AnswerCache(most=2)
    for chosen in steps:
        if isinstance(chosen, tuple):
            cache.forget(zone.replace(*chosen))
            continue
        assert isinstance(chosen, int)
        step = asked[chosen % len(asked)]
        kept = cache.entries.get(step[2:])
        try:
            query = wire.read(step)
        except Malformed:
            assert kept is None
            continue
        found = respond(zone, AUTHORITY, query, query.udp_size)
        if not isinstance(found, Answer):
            assert kept is None
            continue
        tails = tuple(message[2:] for message in found.messages)
        if kept is not None:
            assert _without_serial(kept.answers) == _without_serial(tails)
        elif query.plain and found.depends_on:
            cache.add(step[2:], Finished([0], tails), found.depends_on)


def _without_serial(answers: tuple[bytes, ...]) -> list[bytes]:
    """The zone's serial number goes up with every change; an answer kept for 5 s may lag."""
    mark = struct.pack("!IIII", 7200, 1800, 86400, 5)
    return [
        answer if (at := answer.find(mark)) < 4 else answer[: at - 4] + answer[at:]
        for answer in answers
    ]
