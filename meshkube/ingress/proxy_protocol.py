"""The PROXY protocol, as a load balancer in front speaks it: who the client really is. Pure.

Source: "The PROXY protocol, versions 1 & 2" (HAProxy's proxy-protocol.txt), sections 2.1 and 2.2.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple, TypeAlias

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_LONGEST_LINE = 107
_LONGEST_BLOCK = 4096
_LOCAL, _PROXY = 0x20, 0x21
_IPV4, _IPV6 = 1, 2

Address: TypeAlias = tuple[str, int]


class BadHeader(ValueError):
    """What came is no such header: the message says why."""


class Header(NamedTuple):
    client: Address | None
    """None: the connection is the balancer's own (a health check), or it does not know."""
    size: int
    """Of the header, in bytes."""


def parse(data: bytes) -> Header | None:
    """The header at the start of a connection's bytes; None while more have to come. Raises
    `BadHeader`."""
    if data.startswith(SIGNATURE):
        return _binary(data)
    if data.startswith(b"PROXY "):
        return _line(data)
    if SIGNATURE.startswith(data) or b"PROXY ".startswith(data):
        return None
    raise BadHeader("the connection does not begin with a PROXY header")


def _line(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, _LONGEST_LINE)
    if end < 0:
        if len(data) >= _LONGEST_LINE:
            raise BadHeader("the PROXY line does not end")
        return None
    words = data[:end].split(b" ")
    if words[1] == b"UNKNOWN":
        return Header(None, end + 2)
    if len(words) != 6 or words[1] not in (b"TCP4", b"TCP6"):
        raise BadHeader("the PROXY line is malformed")
    try:
        kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
        source, _ = (kind(word.decode("ascii")) for word in words[2:4])
        port, _ = (_port(word) for word in words[4:6])
    except ValueError:
        raise BadHeader("the PROXY line is malformed") from None
    return Header((str(source), port), end + 2)


def _port(word: bytes) -> int:
    if not word.isdigit() or len(word) > 5 or int(word) > 65535:
        raise ValueError
    return int(word)


def _binary(data: bytes) -> Header | None:
    if len(data) < 16:
        return None
    command, family = data[12], data[13] >> 4
    length = int.from_bytes(data[14:16])
    if length > _LONGEST_BLOCK:
        raise BadHeader("the PROXY header is too long")
    if command not in (_LOCAL, _PROXY):
        raise BadHeader("the PROXY header is of an unknown version or command")
    if len(data) < 16 + length:
        return None
    block = data[16 : 16 + length]
    client: Address | None = None
    if command == _PROXY and family == _IPV4:
        if length < 12:
            raise BadHeader("the PROXY header is too short")
        client = str(IPv4Address(block[:4])), int.from_bytes(block[8:10])
    elif command == _PROXY and family == _IPV6:
        if length < 36:
            raise BadHeader("the PROXY header is too short")
        client = str(IPv6Address(block[:16])), int.from_bytes(block[32:34])
    return Header(client, 16 + length)
