"""Answers from upstream, kept for as long as they may be, and aged as they are given out. Pure."""

from __future__ import annotations

import struct
from collections import OrderedDict

import dns.message
import dns.rcode
import dns.rdatatype

from meshkube.dns import wire
from meshkube.dns.wire import Query

MOST_ENTRIES = 10_000
LONGEST_TTL = 3600
# RFC 2308 allows a server that failed to be left alone for a while.
FAILURE_TTL = 5
# What an answer beyond its end may still be kept for.
STALE_TTL = 30
# An answer given out this often, in the last part of its life, is fetched anew before its end.
POPULAR = 3
LAST_PART = 0.1
LEAST_PREFETCH = 10

Key = tuple[bytes, int, int, bool, bool]


class Entry:
    """A message as it came, and how long it is good for, in seconds on the caller's clock."""

    __slots__ = ("asked", "expires", "message", "stored", "ttl_offsets")

    def __init__(self, message: bytes, stored: float, seconds: int) -> None:
        self.message = message
        self.ttl_offsets = tuple(wire.ttl_offsets(message))
        self.stored = stored
        self.expires = stored + seconds
        self.asked = 0
        """How often it was given out."""

    def wears_out(self, now: float) -> bool:
        """Whether it is asked for, and so near its end that a new one should be fetched."""
        life = self.expires - self.stored
        if self.asked < POPULAR or life < LEAST_PREFETCH:
            return False
        return self.expires - now <= max(life * LAST_PART, 1.0)


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
        self.stale = 0
        """Seconds that a message is kept beyond its end."""

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, key: Key, message: bytes, seconds: int, now: float) -> None:
        """Keeps a whole message for that many seconds. Raises `wire.Malformed`."""
        if seconds <= 0:
            return
        self._entries[key] = Entry(message, now, seconds)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def get(self, key: Key, now: float) -> Entry | None:
        """What is good at this time."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry.expires:
            if now >= entry.expires + self.stale:
                del self._entries[key]
            return None
        self._entries.move_to_end(key)
        entry.asked += 1
        return entry

    def get_stale(self, key: Key, now: float) -> Entry | None:
        """What was good, and may still be given where nothing better is to be had."""
        entry = self._entries.get(key)
        return entry if entry is not None and now < entry.expires + self.stale else None

    def clear(self) -> None:
        """Forgets everything: other servers may say other things."""
        self._entries.clear()


def aged(entry: Entry, query: Query, now: float) -> bytes:
    """The kept message as the answer to `query`, its times to live run down; beyond its end each is
    `STALE_TTL` (RFC 8767, section 4)."""
    if now >= entry.expires:
        return addressed(entry.message, query, entry.ttl_offsets, most=STALE_TTL)
    return addressed(entry.message, query, entry.ttl_offsets, age=int(now - entry.stored))


def addressed(
    message: bytes,
    query: Query,
    ttl_offsets: tuple[int, ...] = (),
    *,
    age: int = 0,
    most: int | None = None,
) -> bytes:
    """An upstream's message made the answer to `query`: its id, its question to the letter, and
    every time to live `age` seconds less, and `most` at most."""
    out = bytearray(message)
    struct.pack_into("!H", out, 0, query.id)
    out[12 : 12 + len(query.question)] = query.question
    if age or most is not None:
        for offset in ttl_offsets:
            (ttl,) = struct.unpack_from("!I", out, offset)
            left = max(0, ttl - age)
            struct.pack_into("!I", out, offset, left if most is None else min(left, most))
    return bytes(out)
