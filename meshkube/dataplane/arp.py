"""Frames that tell a link who has an address, and ask whether somebody else has it. Pure.

Sources: RFC 826 and RFC 5227 (ARP), RFC 4861 section 4.4 (neighbor advertisement).
"""

from __future__ import annotations

import ipaddress
import struct

ETHERNET_ARP = 0x0806
BROADCAST = b"\xff" * 6
_REQUEST, _REPLY = 1, 2
_ADVERTISEMENT, _OVERRIDE, _TARGET_LINK_ADDRESS = 136, 0x20000000, 2


def gratuitous(mac: bytes, address: str) -> bytes:
    """An Ethernet frame: all who have an entry for the address correct it."""
    return _frame(mac, _REQUEST, mac, address, bytes(6), address)


def probe(mac: bytes, address: str) -> bytes:
    """An Ethernet frame: whoever has the address answers; nobody's entry changes."""
    return _frame(mac, _REQUEST, mac, "0.0.0.0", bytes(6), address)


def claim(frame: bytes) -> tuple[bytes, str] | None:
    """Who says in this frame to have which address: `(MAC, address)`; None: nobody does."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x06":
        return None
    sender, address = frame[22:28], str(ipaddress.IPv4Address(frame[28:32]))
    return None if address == "0.0.0.0" else (sender, address)


def advertisement(mac: bytes, address: str) -> bytes:
    """An ICMPv6 message, its checksum left to the kernel: the same for IPv6."""
    target = ipaddress.IPv6Address(address).packed
    header = struct.pack("!BBHI", _ADVERTISEMENT, 0, 0, _OVERRIDE)
    return header + target + bytes([_TARGET_LINK_ADDRESS, 1]) + mac


def _frame(
    source: bytes, operation: int, sender: bytes, address: str, target: bytes, asked: str
) -> bytes:
    return b"".join(
        (
            BROADCAST,
            source,
            struct.pack("!HHHBBH", ETHERNET_ARP, 1, 0x0800, 6, 4, operation),
            sender,
            ipaddress.IPv4Address(address).packed,
            target,
            ipaddress.IPv4Address(asked).packed,
        )
    )
