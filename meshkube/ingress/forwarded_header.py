"""The Forwarded header (RFC 7239): in one line what X-Forwarded-* say in several. Pure."""

from __future__ import annotations

import re

_PAIR = re.compile(rb'([A-Za-z]+)=(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z:\[\]-]+))')
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def read(value: bytes) -> tuple[bytes, bytes, bytes]:
    """What a trusted proxy's header says as X-Forwarded-For, -Proto and -Host would: all clients
    with commas, and protocol and host of the first element that names them."""
    clients: list[bytes] = []
    proto = host = b""
    for name, quoted, plain in _PAIR.findall(value):
        found = re.sub(rb"\\(.)", rb"\1", quoted) if quoted else plain
        if name.lower() == b"for":
            clients.append(_address(found))
        elif name.lower() == b"proto":
            proto = proto or found
        elif name.lower() == b"host":
            host = host or found
    return b", ".join(clients), proto, host


def _address(node: bytes) -> bytes:
    """A node without its port, and without the brackets of IPv6."""
    if node.startswith(b"["):
        return node[1:].partition(b"]")[0]
    return node.partition(b":")[0]


def element(address: bytes, proto: bytes, host: bytes) -> bytes:
    """One proxy's element of the header."""
    node = b'"[%b]"' % address if b":" in address else address
    said = host if _TOKEN.fullmatch(host) else b'"%b"' % re.sub(rb'(["\\])', rb"\\\1", host)
    return b"for=%b;host=%b;proto=%b" % (node, said, proto)
