"""Which backend a client of a front gets, where this process carries its traffic.

Pure.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from meshkube.dataplane.services import Backend, Frontend

MOST_CLIENTS = 65536
"""How many clients with affinity a front remembers."""

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(slots=True)
class Choice:
    """One front: its backends for clients inside the cluster and outside, and who keeps to whom."""

    inside: Frontend
    outside: Frontend | None = None
    """For clients outside the cluster, where the traffic policy binds those to this node."""
    sources: Sequence[_Network] = ()
    """Who may come; empty: all."""
    _turn: int = 0
    _kept: OrderedDict[str, tuple[Backend, float]] = field(default_factory=OrderedDict)

    def update(
        self, inside: Frontend, outside: Frontend | None, sources: Sequence[str] = ()
    ) -> None:
        """Whoever keeps to a backend that is still there goes on keeping to it."""
        self.inside, self.outside = inside, outside
        self.sources = [ipaddress.ip_network(text) for text in sources]

    def pick(self, client: str, is_outside: bool, now: float) -> list[Backend]:
        """Backends in the order to try them; none: the client gets no answer. `now` in seconds."""
        if self.sources and not self._allows(client):
            return []
        chosen = self.outside if is_outside and self.outside is not None else self.inside
        backends = chosen.backends
        if not backends:
            return []
        self._turn += 1
        start = self._turn % len(backends)
        order = [*backends[start:], *backends[:start]]
        if chosen.sticky:
            kept, last = self._kept.get(client, (None, 0.0))
            if kept in backends and now - last <= chosen.sticky:
                assert kept is not None
                order.remove(kept)
                order.insert(0, kept)
        return order

    def keep(self, client: str, backend: Backend, now: float) -> None:
        """A connection of this client was made to this backend."""
        if not self.inside.sticky:
            return
        self._kept[client] = backend, now
        self._kept.move_to_end(client)
        while len(self._kept) > MOST_CLIENTS or self._oldest() < now - self.inside.sticky:
            self._kept.popitem(last=False)

    def _oldest(self) -> float:
        return next(iter(self._kept.values()))[1]

    def _allows(self, client: str) -> bool:
        address = ipaddress.ip_address(client)
        return any(address in network for network in self.sources)
