"""Signs that links, addresses or the pod network's routes of this host have changed.

Links of pods come and go all the time and are no sign. Source: rtnetlink(7).
"""

from __future__ import annotations

import socket

from meshkube.dataplane.netlink_wire import attributes, messages
from meshkube.dataplane.network_plan import ROUTE_PROTOCOL

_ROUTE = 0
# Links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes, IPv4 and IPv6 rules.
_GROUPS = (1, 5, 9, 7, 11, 8, 19)
_NEW_LINK, _DELETE_LINK = 16, 17
_ADDRESSES, _ROUTES, _RULES = (20, 21), (24, 25), (32, 33)
_LINK_NAME, _RULE_PROTOCOL = 3, 21
_NETLINK, _ADD_MEMBERSHIP = 270, 1


def watch() -> socket.socket:
    """A socket that can be read, and drained, when there are events."""
    link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _ROUTE)
    link.bind((0, 0))
    for group in _GROUPS:
        link.setsockopt(_NETLINK, _ADD_MEMBERSHIP, group)
    link.setblocking(False)
    return link


def drain(link: socket.socket) -> bool:
    """Reads all there is. Whether any of it matters; what overflowed (`ENOBUFS`) does."""
    found = False
    while True:
        try:
            found |= any(matters(kind, body) for kind, body in messages(link.recv(65536)))
        except BlockingIOError:
            return found
        except OSError:
            found = True


def matters(kind: int, body: bytes) -> bool:
    """Whether one event may ask for a look at the pod network."""
    if kind in (_NEW_LINK, _DELETE_LINK):
        name = attributes(body[16:]).get(_LINK_NAME, b"").rstrip(b"\0")
        return not name.startswith(b"veth")
    if kind in _ROUTES:
        # struct rtmsg: family, lengths of destination and source, tos, table, protocol.
        return body[5] == ROUTE_PROTOCOL
    if kind in _RULES:
        return attributes(body[12:]).get(_RULE_PROTOCOL) == bytes([ROUTE_PROTOCOL])
    return kind in _ADDRESSES
