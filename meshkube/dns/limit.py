"""How many answers a second one client may have over UDP, where its address may be forged. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

MOST_CLIENTS = 20_000
# Every so many answers above the limit are given cut, so that a true client comes back by TCP.
SLIP = 4


class RateLimit:
    """Counts by client; `tick` ends the second."""

    def __init__(self, networks: Sequence[str]) -> None:
        """`networks` are the cluster's own; loopback is too."""
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._limits = (0, 0)
        self._of: dict[bytes, int] = {}
        self._counts: dict[bytes, int] = {}
        self.unlimited: set[bytes] = set()
        """Clients that need not be counted."""
        self.limited = 0
        """Answers withheld or cut since the start."""

    def configure(self, inside: int, outside: int) -> None:
        """Answers a second for each client in, and outside of, the cluster; 0 for no limit."""
        self._limits = (inside, outside)
        self._of.clear()
        self.unlimited.clear()

    def excess(self, client: bytes) -> int:
        """By how much this query is above the limit of a client (its address in the kernel's form);
        0 where it is not."""
        limit = self._of.get(client)
        if limit is None:
            limit = self._remember(client)
        if not limit:
            return 0
        count = self._counts.get(client, 0) + 1
        if count <= limit or client in self._counts or len(self._counts) < MOST_CLIENTS:
            self._counts[client] = count
        if count <= limit:
            return 0
        self.limited += 1
        return count - limit

    def tick(self) -> None:
        """A second has passed."""
        self._counts.clear()

    def _remember(self, client: bytes) -> int:
        if len(self._of) >= MOST_CLIENTS:
            self._of.clear()
            self.unlimited.clear()
        parsed = ipaddress.ip_address(client)
        inside = parsed.is_loopback or any(parsed in network for network in self._networks)
        limit = self._of[client] = self._limits[0 if inside else 1]
        if not limit:
            self.unlimited.add(client)
        return limit
