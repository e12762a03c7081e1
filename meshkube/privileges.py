"""What the kernel lets this process do."""

from __future__ import annotations

from pathlib import Path

NET_BIND_SERVICE = 10
NET_ADMIN = 12
"""Numbers of capabilities(7)."""
_STATUS = Path("/proc/self/status")
_LOWEST = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def has(capability: int) -> bool:
    """Whether this process has a capability in the user namespace it runs in."""
    for line in _STATUS.read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def may_listen(port: int) -> bool:
    """Whether this process may listen on a port, as far as its number goes."""
    if has(NET_BIND_SERVICE):
        return True
    try:
        return port >= int(_LOWEST.read_text())
    except (OSError, ValueError):
        return port >= 1024
