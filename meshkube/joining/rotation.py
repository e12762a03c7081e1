"""Certificates are renewed while they are used: at 70 to 90 % of their life, without a restart and
without ending a connection."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from meshkube import pki
from meshkube.api.errors import ApiError
from meshkube.client.backoff import Backoff
from meshkube.client.http import HttpClient
from meshkube.clock import Clock
from meshkube.joining import requests
from meshkube.joining.identity import CLIENT, SERVING, Identity
from meshkube.joining.requests import Denied

log = logging.getLogger(__name__)

LONGEST_SLEEP = 3600.0
"""A clock that is set moves no sleep: it is looked at again."""


def due(certificate: bytes, chance: float) -> datetime:
    """When to renew a PEM certificate; `chance` (0 to 1) spreads that: 70 to 90 % of its life."""
    start, end = pki.validity(certificate)
    return start + (end - start) * (0.7 + 0.2 * chance)


def _nothing() -> None:
    """Another certificate says when all is there."""


class Certificates:
    """Part `certificates` of a node without a control plane: its client certificate, and the one it
    serves under `names` (none: it serves nothing)."""

    name = "certificates"

    def __init__(
        self, *, client: HttpClient, identity: Identity, node: str, names: list[str], clock: Clock
    ) -> None:
        self._client = client
        self._identity = identity
        self._node = node
        self._names = names
        self._clock = clock

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`."""
        async with asyncio.TaskGroup() as group:
            last = not self._names
            group.create_task(self._keep(CLIENT, self._renew_client, ready if last else _nothing))
            if self._names:
                group.create_task(self._keep(SERVING, self._renew_serving, ready))

    async def _keep(
        self,
        name: str,
        renew: Callable[[], Awaitable[None]],
        ready: Callable[[], None],
    ) -> None:
        backoff = Backoff(1.0, 60.0)
        while True:
            wait = self._wait(name)
            if wait > 0:
                ready()
                await self._clock.sleep(min(wait, LONGEST_SLEEP))
                continue
            try:
                await renew()
            except (ApiError, TimeoutError, Denied) as error:
                delay = backoff.next()
                reason = str(error) or "nobody signs it in time"
                if name == CLIENT and self._ended():
                    reason += "; it has ended: start this agent with --token"
                about = {"certificate": name, "reason": reason}
                log.warning("certificate not renewed: tries again", extra=about)
                await self._clock.sleep(delay)
            else:
                backoff.reset()
                end = pki.not_after(self._identity.certificate(name))
                log.info("new certificate", extra={"certificate": name, "until": end.isoformat()})

    def _wait(self, name: str) -> float:
        """Seconds until a certificate is to be renewed."""
        held = self._identity.certificate(name)
        if not held:
            return 0.0
        if name == SERVING and not set(self._names) <= pki.alternative_names(held):
            return 0.0
        # The same for one certificate each time it is looked at.
        chance = random.Random(held).random()
        return max((due(held, chance) - self._clock.now()) / timedelta(seconds=1), 0.0)

    def _ended(self) -> bool:
        held = self._identity.certificate(CLIENT)
        return not held or pki.remaining(held) <= timedelta(0)

    async def _renew_client(self) -> None:
        self._identity.take(CLIENT, await self._obtain(requests.NODE_CLIENT))
        await self._client.renew()

    async def _renew_serving(self) -> None:
        self._identity.take(SERVING, await self._obtain(requests.NODE_SERVING, self._names))

    async def _obtain(self, wanted: requests.Wanted, names: list[str] | None = None) -> bytes:
        return await requests.obtain(
            self._client, wanted, self._identity.key, self._node, names or ()
        )
