"""Answers from upstream, kept for as long as they may be, and aged as they are given out. Pure."""

from __future__ import annotations

import struct
from collections import OrderedDict
from typing import NamedTuple

import dns.message
import dns.rcode
import dns.rdatatype

from meshkube.dns import wire
from meshkube.dns.wire import Query

MOST_ENTRIES = 10_000
LONGEST_TTL = 3600
# RFC 2308 allows a server that failed to be left alone for a while.
FAILURE_TTL = 5

Key = tuple[bytes, int, int, bool, bool]


class Entry(NamedTuple):
    """A message as it came, and how long it is good for."""

    message: bytes
    ttl_offsets: tuple[int, ...]
    stored: float
    expires: float
    """Seconds on the clock that the caller keeps."""


def key_of(query: Query) -> Key:
    """What makes two queries have the same upstream answer."""
    flags = query.flags & (wire.RD | wire.CD)
    return (query.name, query.type, flags, query.edns >= 0, query.dnssec_ok)


def lifetime(message: dns.message.Message) -> int:
    """Seconds for which an answer may be kept: its least TTL; for a negative one that of the SOA
    (RFC 2308, section 5)."""
    if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        return FAILURE_TTL
    if message.answer and message.rcode() == dns.rcode.NOERROR:
        return min(LONGEST_TTL, *(rrset.ttl for rrset in message.answer))
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return min(LONGEST_TTL, rrset.ttl, int(rrset[0].minimum))
    return 0


class ForwardedCache:
    """Messages by question; the least recently used makes room."""

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self._most = most
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def add(self, key: Key, message: bytes, seconds: int, now: float) -> None:
        """Keeps a whole message for that many seconds."""
        if seconds <= 0:
            return
        offsets = tuple(wire.ttl_offsets(message))
        self._entries[key] = Entry(message, offsets, now, now + seconds)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, query: Query, now: float) -> bytes | None:
        """The answer for this query, with its own id and question, and times to live that have
        run down; None where nothing good is kept."""
        key = key_of(query)
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.expires:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return addressed(entry.message, query, entry.ttl_offsets, int(now - entry.stored))


def addressed(
    message: bytes, query: Query, ttl_offsets: tuple[int, ...] = (), age: int = 0
) -> bytes:
    """An upstream's message made the answer to `query`: its id, its question to the letter, and
    every time to live `age` seconds less."""
    out = bytearray(message)
    struct.pack_into("!H", out, 0, query.id)
    out[12 : 12 + len(query.question)] = query.question
    if age:
        for offset in ttl_offsets:
            (ttl,) = struct.unpack_from("!I", out, offset)
            struct.pack_into("!I", out, offset, max(0, ttl - age))
    return bytes(out)
