"""The rule that remembers where a client's IPv6 connection went, as netlink attributes.

Pure. nft 1.0.6 (Debian 12) gives up on a map update whose key and value are larger than a quarter
of the kernel's registers; the kernel itself takes it. Source: linux/netfilter/nf_tables.h.
"""

from __future__ import annotations

from meshkube.dataplane.netlink_wire import attribute

_NESTED = 0x8000
_TABLE, _CHAIN, _EXPRESSIONS = 1, 2, 4
_NAME, _DATA, _ELEMENT = 1, 2, 1

# Sixteen registers of 4 bytes each. The key: the client, the front's address, its protocol and its
# port; then the value: the backend's address and port.
_CLIENT, _FRONT, _PROTOCOL, _PORT, _BACKEND, _BACKEND_PORT = 8, 12, 16, 17, 18, 22
_CT_SOURCE_6, _CT_DESTINATION_6, _CT_DESTINATION_PORT = 21, 22, 12
_ORIGINAL = b"\0"
_META_PROTOCOL = 16
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
_DESTINATION_6 = 24, 16
"""Where an IPv6 header has its destination, and how many bytes."""
_DESTINATION_PORT = 2, 2
_UPDATE = 1


def rule(table: str, chain: str, memory: str, seconds: int) -> bytes:
    """At the end of `chain`: the map `memory` keeps the connection's backend for so long."""
    expressions = (
        _ct(_CLIENT, _CT_SOURCE_6),
        _ct(_FRONT, _CT_DESTINATION_6),
        _expression("meta", (1, _number(_PROTOCOL)), (2, _number(_META_PROTOCOL))),
        _ct(_PORT, _CT_DESTINATION_PORT),
        _payload(_BACKEND, _NETWORK_HEADER, *_DESTINATION_6),
        _payload(_BACKEND_PORT, _TRANSPORT_HEADER, *_DESTINATION_PORT),
        _expression(
            "dynset",
            (1, _text(memory)),
            (3, _number(_UPDATE)),
            (4, _number(_CLIENT)),
            (5, _number(_BACKEND)),
            (6, (seconds * 1000).to_bytes(8, "big")),
        ),
    )
    return (
        attribute(_TABLE, _text(table))
        + attribute(_CHAIN, _text(chain))
        + attribute(_EXPRESSIONS | _NESTED, b"".join(expressions))
    )


def _ct(register: int, key: int) -> bytes:
    return _expression("ct", (1, _number(register)), (2, _number(key)), (3, _ORIGINAL))


def _payload(register: int, base: int, offset: int, size: int) -> bytes:
    numbers = (register, base, offset, size)
    return _expression("payload", *((kind, _number(n)) for kind, n in enumerate(numbers, 1)))


def _expression(name: str, *content: tuple[int, bytes]) -> bytes:
    data = b"".join(attribute(kind, value) for kind, value in content)
    named = attribute(_NAME, _text(name)) + attribute(_DATA | _NESTED, data)
    return attribute(_ELEMENT | _NESTED, named)


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _text(value: str) -> bytes:
    return value.encode() + b"\0"
