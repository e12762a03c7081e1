"""The small things asked of the kernel over netfilter netlink: the generation of its nftables
rules, rules that nft cannot write, and connection tracking entries of UDP flows whose backend is
gone.

Blocking, each bounded by a time-out. Source: linux/netfilter/nfnetlink*.h, RFC 3549.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from meshkube.dataplane.netlink_wire import attribute, attributes, messages
from meshkube.dataplane.services import Stale

_NETFILTER = 12
_CTNETLINK, _NFTABLES = 1, 10
_GET, _DELETE, _GET_GENERATION = 1, 2, 16
_BEGIN, _END = 16, 17
_NEW_RULE, _INET = 6, 1
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_CREATE_LAST = 0xC00
_ERROR, _DONE = 2, 3
_TUPLE_ORIGINAL, _TUPLE_REPLY = 1, 2
_TIMEOUT = 2.0


class _Flow(NamedTuple):
    source: str
    """Who answers, in the reply direction."""
    destination: str
    protocol: int
    port: int


class Generations:
    """Reads the generation of this network namespace's nftables rules: a number that grows by one
    with each transaction, anybody's.

    Its socket stays open: closing one waits until the kernel has freed what the last transaction
    deleted, 10 ms or more.
    """

    def __init__(self) -> None:
        self._link = _open()

    def now(self) -> int:
        """Raises `OSError`."""
        link = self._link
        link.send(_message(_NFTABLES << 8 | _GET_GENERATION, _REQUEST, socket.AF_UNSPEC, b""))
        for kind, body in messages(link.recv(65536)):
            if kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "no nftables generation")
            return int.from_bytes(attributes(body[4:])[1], "big")
        raise OSError("no nftables generation")

    def close(self) -> None:
        self._link.close()


def add_rules(rules: Collection[bytes]) -> None:
    """Rules of family inet, by their attributes, at the end of their chains: one transaction.
    Raises `OSError`; then nothing has changed."""
    ours = struct.pack("=BBH", socket.AF_UNSPEC, 0, socket.htons(_NFTABLES))
    batch = _framed(_BEGIN, _REQUEST, ours)
    for rule in rules:
        batch += _message(_NFTABLES << 8 | _NEW_RULE, _REQUEST | _ACK | _CREATE_LAST, _INET, rule)
    with _open() as link:
        link.send(batch + _framed(_END, _REQUEST, ours))
        answered = 0
        while answered < len(rules):
            for kind, body in messages(link.recv(65536)):
                code = -struct.unpack_from("=i", body)[0] if kind == _ERROR else 0
                if code:
                    raise OSError(code, f"nftables: {os.strerror(code)}")
                answered += 1


def forget(stale: Iterable[Stale]) -> int:
    """Ends the tracking of those UDP flows, so that their next packet finds a new backend. Returns
    how many there were. Raises `OSError`."""
    wanted: dict[tuple[str, int, int], set[str]] = {}
    for front, backend in stale:
        wanted.setdefault((front.address, front.protocol, front.port), set()).add(backend)
    if not wanted:
        return 0
    with _open() as link:
        found = [
            (family, original)
            for family in (socket.AF_INET, socket.AF_INET6)
            for original, flow in _flows(link, family)
            if _is_stale(flow, wanted)
        ]
        for family, original in found:
            kind = _CTNETLINK << 8 | _DELETE
            link.send(_message(kind, _REQUEST | _ACK, family, attribute(0x8001, original)))
            link.recv(65536)
    return len(found)


def _is_stale(flow: _Flow, wanted: dict[tuple[str, int, int], set[str]]) -> bool:
    for address in (flow.destination, ""):
        backends = wanted.get((address, flow.protocol, flow.port))
        if backends is not None and ("" in backends or flow.source in backends):
            return True
    return False


def _flows(link: socket.socket, family: int) -> Iterator[tuple[bytes, _Flow]]:
    """Each tracked flow: its original tuple as the kernel wrote it, and where it leads."""
    link.send(_message(_CTNETLINK << 8 | _GET, _REQUEST | _DUMP, family, b""))
    while True:
        for kind, body in messages(link.recv(1 << 18)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "no connection tracking")
            entry = attributes(body[4:])
            original = entry[_TUPLE_ORIGINAL]
            _, destination, protocol, port = _tuple(original)
            source, _, _, _ = _tuple(entry[_TUPLE_REPLY])
            yield original, _Flow(source, destination, protocol, port)


def _tuple(data: bytes) -> tuple[str, str, int, int]:
    """Source, destination, protocol, destination port."""
    parts = attributes(data)
    addresses, protocol = attributes(parts[1]), attributes(parts[2])
    source = addresses.get(1) or addresses[3]
    destination = addresses.get(2) or addresses[4]
    port = int.from_bytes(protocol.get(3, b""), "big")
    return (
        str(ipaddress.ip_address(source)),
        str(ipaddress.ip_address(destination)),
        protocol[1][0],
        port,
    )


def _open() -> socket.socket:
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    link.settimeout(_TIMEOUT)
    return link


def _message(kind: int, flags: int, family: int, attributes: bytes) -> bytes:
    return _framed(kind, flags, struct.pack("=BBH", family, 0, 0) + attributes)


def _framed(kind: int, flags: int, content: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(content), kind, flags, 1, 0) + content
