"""A server's own certificates are made again while it runs, and nobody notices."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence

from meshkube.clock import Clock
from meshkube.credentials import Credentials

log = logging.getLogger(__name__)

LONGEST_SLEEP = 3600.0
"""A clock that is set moves no sleep: it is looked at again."""
RETRY = 30.0


class OwnCertificates:
    """Part `certificates` of a server. `make` makes what is due again and returns all there is;
    `contexts` (the name of a pair, who shows it) then show the new ones; `told` writes what else
    holds a certificate."""

    name = "certificates"

    def __init__(
        self,
        *,
        credentials: Credentials,
        make: Callable[[], Credentials],
        contexts: Sequence[tuple[str, ssl.SSLContext]],
        told: Callable[[Credentials], None],
        clock: Clock,
    ) -> None:
        self._credentials = credentials
        self._make = make
        self._contexts = contexts
        self._told = told
        self._clock = clock

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`."""
        ready()
        while True:
            left = (self._credentials.renew_at() - self._clock.now()).total_seconds()
            if left > 0:
                # A moment more: due is what is past the moment.
                await self._clock.sleep(min(left + 0.1, LONGEST_SLEEP))
                continue
            try:
                await self._renew()
            except OSError as error:
                log.error("certificates not renewed: tries again", extra={"reason": str(error)})
                await self._clock.sleep(RETRY)

    async def _renew(self) -> None:
        self._credentials = await asyncio.to_thread(self._make)
        for name, context in self._contexts:
            self._credentials.load_into(context, name)
        self._told(self._credentials)
        until = self._credentials.renew_at().isoformat()
        log.info("new certificates of this server", extra={"next": until})
