"""Netlink messages and their attributes as bytes.

Pure. Source: RFC 3549, linux/netlink.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to the next."""
    padded = data + bytes(-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + padded


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each message of a datagram."""
    while len(data) >= 16:
        size, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:size]
        data = data[(size + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    """By kind, without the flags of it; the last one of a kind."""
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found
