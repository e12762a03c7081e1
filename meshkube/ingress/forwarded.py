"""The headers that tell a backend who asked and how. Pure.

X-Forwarded-* and X-Real-IP as every proxy sets them. What a client claims in them is dropped, and
kept only from a trusted proxy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from meshkube.ingress.client_auth import ClientCertificate
from meshkube.ingress.http1 import Fields

_SANE_ID = re.compile(rb"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Peer:
    """The client's end of a connection, and the port it came in by."""

    address: bytes
    port: int
    """Of the listener."""
    scheme: bytes
    trusted: bool = False
    certificate: ClientCertificate | None = None
    """What it has shown of itself, where its connection was asked to."""


def lines(peer: Peer, fields: Fields, host: bytes) -> bytes:
    """The header lines to add to a request for `host` (as in its Host header)."""
    chain, real, proto = peer.address, peer.address, peer.scheme
    forwarded_host, port = host, b"%d" % peer.port
    if peer.trusted:
        if fields.forwarded_for:
            chain = fields.forwarded_for + b", " + peer.address
            real = fields.forwarded_for.split(b",")[0].strip() or real
        proto = fields.forwarded_proto or proto
        forwarded_host = fields.forwarded_host or host
        port = fields.forwarded_port or port
    return (
        b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\nX-Forwarded-Proto: %b\r\n"
        b"X-Forwarded-Host: %b\r\nX-Forwarded-Port: %b\r\n"
    ) % (chain, real, proto, forwarded_host, port)


def sane_id(given: bytes) -> bytes:
    """A client's X-Request-Id where it can be passed on, empty otherwise."""
    return given if _SANE_ID.fullmatch(given) else b""


def id_series() -> tuple[bytes, Iterator[int]]:
    """What makes request ids: a prefix of this process, and the numbers that follow it as 12
    hexadecimal digits. Unique and cheap, and not secret."""
    return os.urandom(10).hex().encode(), count(int.from_bytes(os.urandom(3)))
