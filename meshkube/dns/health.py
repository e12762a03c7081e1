"""Which name servers answer: learnt from the questions, and, of those that do not, by asking."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from meshkube.clock import Clock
from meshkube.dns.settings import Server

log = logging.getLogger(__name__)

# A server that failed is asked last until it answers, or for this long at most.
SHUN_SECONDS = 30.0


class Health:
    """What is known of each server, and what it did."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._down: dict[Server, float] = {}
        self.looping: set[Server] = set()
        """Those that ask us again what we ask them: never to be asked."""
        self.asked: dict[Server, int] = {}
        self.failures: dict[Server, int] = {}

    def answered(self, server: Server) -> None:
        if self._down.pop(server, None) is not None:
            log.info("upstream answers again", extra={"server": server[0]})

    def failed(self, server: Server, reason: str) -> None:
        """It gave no answer, or none that can be believed."""
        self.failures[server] = self.failures.get(server, 0) + 1
        if server not in self._down:
            log.warning("upstream did not answer", extra={"server": server[0], "reason": reason})
        self._down[server] = self._clock.monotonic()

    def is_up(self, server: Server) -> bool:
        since = self._down.get(server)
        if server in self.looping:
            return False
        return since is None or self._clock.monotonic() - since >= SHUN_SECONDS

    def down(self) -> list[Server]:
        """Those to be asked whether they are back."""
        return [server for server in self._down if server not in self.looping]

    def in_order(self, servers: Iterable[Server]) -> list[Server]:
        """Those that answer first, each in the order given; a looping one not at all."""
        usable = [server for server in servers if server not in self.looping]
        return sorted(usable, key=lambda server: not self.is_up(server))

    def forget(self, servers: Iterable[Server]) -> None:
        """Knows nothing of any but these."""
        known = set(servers)
        self._down = {server: at for server, at in self._down.items() if server in known}
        self.looping &= known
