"""Ports of the pods' bridge: each may send a frame back to where it came from ("hairpin").

With bridge-nf-call-iptables, a packet from a pod to a Service is translated while it crosses the
bridge. Where the backend chosen is the pod itself, it has to leave by the port it came in by.

Source: rtnetlink(7), linux/if_link.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

from meshkube.dataplane.netlink_wire import attribute, attributes, messages

_ROUTE = 0
# Links, IPv4 routes, IPv6 routes.
_GROUPS = (1, 7, 11)
_NEW_LINK, _GET_LINK, _SET_LINK = 16, 18, 19
_ERROR, _DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_BRIDGE = 7
_NAME, _MASTER, _PORT_DATA, _PORT_HAIRPIN = 3, 10, 12, 4
_NESTED = 0x8000
_TIMEOUT = 2.0


def watch() -> socket.socket:
    """A socket that can be read, and drained, when a link or a route was added or changed."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)
    link.bind((0, sum(1 << (group - 1) for group in _GROUPS)))
    link.setblocking(False)
    return link


def drain(link: socket.socket) -> None:
    """Reads all there is. What overflowed (`ENOBUFS`) is a change as well."""
    while True:
        try:
            link.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            continue


def allow_hairpins(bridge: str) -> list[str]:
    """Sets it on every port that lacks it. Returns those ports; raises `OSError`."""
    try:
        master = socket.if_nametoindex(bridge)
    except OSError:
        return []
    changed = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE) as link:
        link.settimeout(_TIMEOUT)
        for index, name in list(_ports_without(link, master)):
            hairpin = attribute(_PORT_HAIRPIN, b"\1")
            _send(link, _SET_LINK, _ACK, index, attribute(_PORT_DATA | _NESTED, hairpin))
            # The port may be gone by now, which is as good.
            link.recv(65536)
            changed.append(name)
    return changed


def _ports_without(link: socket.socket, master: int) -> Iterator[tuple[int, str]]:
    _send(link, _GET_LINK, _DUMP, 0, b"")
    while True:
        for kind, body in messages(link.recv(1 << 18)):
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError(-struct.unpack_from("=i", body)[0], "links cannot be listed")
            found = attributes(body[16:])
            if kind != _NEW_LINK or found.get(_MASTER) != struct.pack("=I", master):
                continue
            port = attributes(found.get(_PORT_DATA, b""))
            if port.get(_PORT_HAIRPIN) == b"\0":
                index = struct.unpack_from("=i", body, 4)[0]
                yield index, found.get(_NAME, b"").rstrip(b"\0").decode()


def _send(link: socket.socket, kind: int, flags: int, index: int, data: bytes) -> None:
    header = struct.pack("=IHHII", 32 + len(data), kind, _REQUEST | flags, 1, 0)
    link.send(header + struct.pack("=BxHiII", _BRIDGE, 0, index, 0, 0) + data)
