"""Which address this host is known by."""

from __future__ import annotations

import json
import socket
import subprocess

# TEST-NET-1 (RFC 5737): connecting a UDP socket sends nothing, and only asks the routing table.
_SOMEWHERE_ELSE = ("192.0.2.1", 9)
# The documentation range of IPv6 (RFC 3849).
_SOMEWHERE_ELSE_6 = ("2001:db8::1", 9)


def primary() -> str:
    """The IPv4 address from which this host reaches others; without a default route, its first
    global one; without any, the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE_ELSE)
            return str(probe.getsockname()[0])
        except OSError:
            return next(iter(global_addresses()), "127.0.0.1")


def primary_6() -> str:
    """The IPv6 address from which this host reaches others; empty without a route to them."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.connect(_SOMEWHERE_ELSE_6)
            return str(probe.getsockname()[0])
    except OSError:
        return ""


def global_addresses() -> list[str]:
    """Every IPv4 address of global scope on this host, in the kernel's order."""
    command = ["ip", "-json", "-4", "address", "show", "scope", "global"]
    links = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return [str(entry["local"]) for link in links for entry in link.get("addr_info", ())]
