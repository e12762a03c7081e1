"""DNS messages as bytes: reading a question, writing an answer (RFC 1035, RFC 6891). Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple

from meshkube.dns.records import OPT, SRV, Record

IN = 1

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
BADVERS = 16

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
CD = 0x0010
OPCODE = 0x7800

# What fits a link without fragments (DNS Flag Day 2020).
LARGEST_UDP = 1232
PLAIN_UDP = 512
LARGEST_TCP = 65535

_HEADER = struct.Struct("!HHHHHH")
_QUESTION = struct.Struct("!HH")
_OPT = struct.Struct("!HHBBHH")
# Owner name, as a pointer to the question; type; class; time to live; data length.
_ANSWER = struct.Struct("!HHHIH")
_RECORD = struct.Struct("!HHIH")
_TO_QUESTION = 0xC00C
_LAST_POINTER = 0x3FFF


class Malformed(Exception):
    """No query that can be read: answer FORMERR, or nothing where `reply` is false."""

    def __init__(self, reply: bool) -> None:
        super().__init__("malformed query")
        self.reply = reply


class Query(NamedTuple):
    """A query, read."""

    id: int
    flags: int
    name: bytes
    """In lower-case wire form: what zones are keyed by."""
    type: int
    klass: int
    question: bytes
    """As it came, case kept: it is sent back to the letter."""
    edns: int
    """The EDNS version, -1 without EDNS."""
    udp_size: int
    """The largest answer the asker takes over UDP, in bytes."""
    dnssec_ok: bool
    plain: bool
    """True where the packet holds nothing else, so that equal packets have equal answers."""


def read(packet: bytes) -> Query:
    """Reads a query. Raises `Malformed`."""
    if len(packet) < _HEADER.size:
        raise Malformed(reply=False)
    number, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
    if flags & QR:
        raise Malformed(reply=False)
    if questions != 1 or answers or authorities:
        raise Malformed(reply=True)
    end = _name_end(packet, _HEADER.size)
    if end + _QUESTION.size > len(packet):
        raise Malformed(reply=True)
    kind, klass = _QUESTION.unpack_from(packet, end)
    after = end + _QUESTION.size
    edns, size, dnssec_ok = _read_opt(packet, after, additionals)
    plain = len(packet) == after + (0 if edns < 0 else 1 + _OPT.size)
    return Query(
        number,
        flags,
        packet[_HEADER.size : end].lower(),
        kind,
        klass,
        packet[_HEADER.size : after],
        edns,
        size,
        dnssec_ok,
        plain,
    )


def _name_end(packet: bytes, position: int) -> int:
    """Where an uncompressed name ends."""
    start = position
    try:
        while length := packet[position]:
            if length > 63:
                raise Malformed(reply=True)
            position += length + 1
    except IndexError:
        raise Malformed(reply=True) from None
    if position + 1 - start > 255:
        raise Malformed(reply=True)
    return position + 1


def _read_opt(packet: bytes, position: int, additionals: int) -> tuple[int, int, bool]:
    """(version, UDP size, DO) of the OPT record; other additional records (a TSIG) are passed
    over, as their meaning is between others."""
    for _ in range(additionals):
        end = _skip_name(packet, position)
        if end + _RECORD.size > len(packet):
            raise Malformed(reply=True)
        kind, size, ttl, length = _RECORD.unpack_from(packet, end)
        position = end + _RECORD.size + length
        if position > len(packet):
            raise Malformed(reply=True)
        if kind == OPT:
            udp_size = min(max(size, PLAIN_UDP), LARGEST_UDP)
            return (ttl >> 16) & 0xFF, udp_size, bool(ttl & 0x8000)
    return -1, PLAIN_UDP, False


def _skip_name(packet: bytes, position: int) -> int:
    """Where a name, maybe compressed, ends in place."""
    while position < len(packet):
        length = packet[position]
        if length == 0:
            return position + 1
        if length >= 0xC0:
            return position + 2
        if length > 63:
            break
        position += length + 1
    raise Malformed(reply=True)


def write(
    query: Query,
    rcode: int,
    answers: Sequence[Record] = (),
    authorities: Sequence[Record] = (),
    additionals: Sequence[Record] = (),
    *,
    ttl: int,
    largest: int,
    authoritative: bool = True,
) -> bytes:
    """The answer to `query` in at most `largest` bytes: what does not fit is left out, additional
    records first, and TC is set once an answer or authority is missing (RFC 2181, section 9)."""
    opt = _opt(query, rcode)
    out = bytearray(_HEADER.size)
    out += query.question
    written: dict[bytes, int] = {}
    counts = [0, 0, 0]
    truncated = False
    for section, records in enumerate((answers, authorities, additionals)):
        for record in records:
            before = len(out)
            _append(out, query, record, ttl, written)
            if len(out) + len(opt) > largest:
                del out[before:]
                truncated = truncated or section < 2
                break
            counts[section] += 1
        if truncated:
            break
    flags = QR | (query.flags & (RD | CD | OPCODE)) | RA | (rcode & 0xF)
    if authoritative:
        flags |= AA
    if truncated:
        flags |= TC
    if opt:
        counts[2] += 1
    _HEADER.pack_into(out, 0, query.id, flags, 1, *counts)
    out += opt
    return bytes(out)


def _append(
    out: bytearray, query: Query, record: Record, ttl: int, written: dict[bytes, int]
) -> None:
    if record.name == query.name:
        out += _ANSWER.pack(_TO_QUESTION, record.type, IN, ttl, len(record.data))
    else:
        pointer = written.get(record.name)
        if pointer is not None:
            out += struct.pack("!H", 0xC000 | pointer)
        else:
            _remember(written, record.name, len(out))
            out += record.name
        out += _RECORD.pack(record.type, IN, ttl, len(record.data))
    if record.type == SRV:
        # The target is the owner of an additional record: that one can point here.
        _remember(written, record.data[6:], len(out) + 6)
    out += record.data


def _remember(written: dict[bytes, int], name: bytes, position: int) -> None:
    if position <= _LAST_POINTER:
        written.setdefault(name, position)


def _opt(query: Query, rcode: int) -> bytes:
    if query.edns < 0:
        return b""
    flags = 0x8000 if query.dnssec_ok else 0
    return b"\0" + _OPT.pack(OPT, LARGEST_UDP, rcode >> 4, 0, flags, 0)


def refusal(packet: bytes, rcode: int) -> bytes:
    """An answer with nothing but a code, to a packet whose question could not be read."""
    number, flags = struct.unpack_from("!HH", packet)
    return _HEADER.pack(number, QR | (flags & (RD | OPCODE)) | RA | rcode, 0, 0, 0, 0)


def ttl_offsets(packet: bytes) -> list[int]:
    """Where each record's time to live stands in a response (that of OPT is none).
    Raises `Malformed`."""
    _, _, questions, *counts = _HEADER.unpack_from(packet)
    position = _HEADER.size
    for _ in range(questions):
        position = _skip_name(packet, position) + _QUESTION.size
    offsets = []
    for _ in range(sum(counts)):
        position = _skip_name(packet, position)
        if position + _RECORD.size > len(packet):
            raise Malformed(reply=False)
        kind, _, _, length = _RECORD.unpack_from(packet, position)
        if kind != OPT:
            offsets.append(position + 4)
        position += _RECORD.size + length
    if position > len(packet):
        raise Malformed(reply=False)
    return offsets
