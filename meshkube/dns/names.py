"""Domain names in wire form: length-prefixed labels, in lower case (RFC 1035, section 3.1).

Wire form is what a question holds, so a look-up costs one slice and one `lower()`. Length bytes are
below 64 and `lower()` touches only 65 to 90, so it leaves them alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

LONGEST_NAME = 255
LONGEST_LABEL = 63


def encode(name: str) -> bytes:
    """`user.shop.svc.cluster.local` (a final dot is optional) in wire form and lower case.
    Raises `ValueError` for a name that DNS cannot carry."""
    wire = bytearray()
    for label in name.rstrip(".").split(".") if name.strip(".") else ():
        raw = label.encode("idna" if not label.isascii() else "ascii")
        if not 0 < len(raw) <= LONGEST_LABEL:
            raise ValueError(f"{name!r} has a label of {len(raw)} bytes")
        wire.append(len(raw))
        wire += raw.lower()
    wire.append(0)
    if len(wire) > LONGEST_NAME:
        raise ValueError(f"{name!r} is longer than {LONGEST_NAME} bytes")
    return bytes(wire)


def decode(wire: bytes) -> str:
    """The readable form, with no final dot; `.` for the root."""
    labels = []
    position = 0
    while length := wire[position]:
        labels.append(wire[position + 1 : position + 1 + length].decode("ascii", "replace"))
        position += length + 1
    return ".".join(labels) or "."


def parents(wire: bytes) -> Iterator[bytes]:
    """Each name above this one, nearest first, the root last."""
    position = 0
    while length := wire[position]:
        position += length + 1
        yield wire[position:]


def within(wire: bytes, zone: bytes) -> bool:
    """True where the name is the zone's apex or below it."""
    return wire == zone or (wire.endswith(zone) and zone in parents(wire))


def reverse(address: str) -> str:
    """`10.43.0.1` -> `1.0.43.10.in-addr.arpa`; IPv6 in nibbles under ip6.arpa (RFC 3596)."""
    return ipaddress.ip_address(address).reverse_pointer


def reverse_zone(network: str) -> str:
    """The smallest reverse zone, on an octet (IPv6: nibble) boundary, that holds the network."""
    parsed = ipaddress.ip_network(network)
    step = 8 if parsed.version == 4 else 4
    labels = parsed.network_address.reverse_pointer.split(".")
    host_labels = parsed.max_prefixlen // step - parsed.prefixlen // step
    return ".".join(labels[host_labels:])
