"""The headers that tell a backend who asked and how. Pure.

X-Forwarded-* and X-Real-IP as every proxy sets them. What a client claims in them is dropped, and
kept only from a trusted proxy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import count
from typing import Any, TypeAlias

from meshkube.ingress.client_auth import ClientCertificate
from meshkube.ingress.forwarded_header import element, read
from meshkube.ingress.http1 import Fields

Network: TypeAlias = IPv4Network | IPv6Network

_SANE_ID = re.compile(rb"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Trust:
    """Which proxies in front are believed."""

    networks: tuple[Network, ...] = ()
    hops: int = 0
    """So many proxies are in front, whatever their addresses; 0: `networks` says."""
    forwarded: bool = False
    """Whether pods get a Forwarded header, too."""

    def believes(self, address: bytes) -> bool:
        """Whether what this end of a connection says of its client counts."""
        return self.hops > 0 or within(address.decode("latin-1"), self.networks)

    def client(self, chain: bytes) -> bytes:
        """The client in an X-Forwarded-For that a trusted proxy sent: the last one added that is
        no proxy of ours. What is before it anybody may have written."""
        addresses = [each.strip() for each in chain.split(b",")]
        if self.hops:
            return addresses[-self.hops] if self.hops <= len(addresses) else addresses[0]
        for address in reversed(addresses):
            if not within(address.decode("latin-1"), self.networks):
                return address
        return addresses[0]


NOBODY = Trust()


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
    trust: Trust = NOBODY


def client_of(peer: Peer, fields: Fields) -> bytes:
    """The address of whoever asks, behind the proxies that are trusted."""
    if not peer.trusted:
        return peer.address
    chain = fields.forwarded_for or read(fields.forwarded)[0]
    return (peer.trust.client(chain) if chain else b"") or peer.address


def scheme_of(peer: Peer, fields: Fields) -> bytes:
    """How they ask, in lower case."""
    if not peer.trusted:
        return peer.scheme
    return (fields.forwarded_proto or read(fields.forwarded)[1]).lower() or peer.scheme


def lines(peer: Peer, fields: Fields, host: bytes) -> bytes:
    """The header lines to add to a request for `host` (as in its Host header)."""
    chain, real, proto = peer.address, peer.address, peer.scheme
    forwarded_host, port = host, b"%d" % peer.port
    if peer.trusted:
        before, said_proto, said_host = fields.forwarded_for, b"", b""
        if fields.forwarded:
            clients, said_proto, said_host = read(fields.forwarded)
            before = before or clients
        if before:
            chain = before + b", " + peer.address
            real = peer.trust.client(before) or real
        proto = fields.forwarded_proto or said_proto or proto
        forwarded_host = fields.forwarded_host or said_host or host
        port = fields.forwarded_port or port
    made = (
        b"X-Forwarded-For: %b\r\nX-Real-IP: %b\r\nX-Forwarded-Proto: %b\r\n"
        b"X-Forwarded-Host: %b\r\nX-Forwarded-Port: %b\r\n"
    ) % (chain, real, proto, forwarded_host, port)
    if peer.trust.forwarded:
        said = element(peer.address, peer.scheme, host)
        if peer.trusted and fields.forwarded:
            said = fields.forwarded + b", " + said
        made += b"Forwarded: %b\r\n" % said
    return made


def address_of(peername: Any) -> str:
    """The address of a socket's peer; that of IPv4 where it came mapped into IPv6."""
    return str(peername[0]).removeprefix("::ffff:") if peername else ""


def within(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address is in one of these networks."""
    if not networks:
        return False
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found.version == each.version and found in each for each in networks)


def sane_id(given: bytes) -> bytes:
    """A client's X-Request-Id where it can be passed on, empty otherwise."""
    return given if _SANE_ID.fullmatch(given) else b""


def id_series() -> tuple[bytes, Iterator[int]]:
    """What makes request ids: a prefix of this process, and the numbers that follow it as 12
    hexadecimal digits. Unique and cheap, and not secret."""
    return os.urandom(10).hex().encode(), count(int.from_bytes(os.urandom(3)))
