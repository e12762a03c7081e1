"""The two small things asked of the kernel over netfilter netlink: the generation of its nftables
rules, and connection tracking entries of UDP flows whose backend is gone.

Blocking, each bounded by a time-out. Source: linux/netfilter/nfnetlink*.h, RFC 3549.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from meshkube.dataplane.services import Stale

_NETFILTER = 12
_CTNETLINK, _NFTABLES = 1, 10
_GET, _DELETE, _GET_GENERATION = 1, 2, 16
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
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
    header = struct.pack("=IHHII", 20 + len(attributes), kind, flags, 1, 0)
    return header + struct.pack("=BBH", family, 0, 0) + attributes


def attribute(kind: int, data: bytes) -> bytes:
    padded = data + bytes(-len(data) % 4)
    return struct.pack("=HH", 4 + len(data), kind) + padded


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 16:
        size, kind = struct.unpack_from("=IH", data)
        yield kind, data[16:size]
        data = data[(size + 3) & ~3 :]


def attributes(data: bytes) -> dict[int, bytes]:
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        size, kind = struct.unpack_from("=HH", data, offset)
        found[kind & 0x3FFF] = data[offset + 4 : offset + size]
        offset += (size + 3) & ~3
    return found
