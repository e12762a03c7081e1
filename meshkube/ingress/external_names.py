"""The addresses of ExternalName backends: asked for again and again, the last good ones kept."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from meshkube.ingress.routes import RouteTable

Nameserver: TypeAlias = tuple[str, int]
"""Address and port."""

log = logging.getLogger(__name__)

SHORTEST, LONGEST, USUAL = 5.0, 300.0, 30.0
"""Seconds until a name is asked for again: as its answer says, within these bounds."""
PATIENCE = 5.0
AT_ONCE = 16


class ExternalNames:
    """Keeps a table's names up to date."""

    def __init__(self, table: RouteTable, nameservers: Sequence[Nameserver] = ()) -> None:
        """`nameservers` are asked first, the host's own way second."""
        self._table = table
        self._nameservers = list(nameservers)
        self._due: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._limit = asyncio.Semaphore(AT_ONCE)
        table.names_changed = self._wake.set

    async def run(self) -> None:
        """Works until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = loop.time()
            names = self._table.external_names()
            self._due = {name: self._due.get(name, 0.0) for name in names}
            await asyncio.gather(
                *(self._ask(name) for name, due in self._due.items() if due <= now)
            )
            pause = min((due - loop.time() for due in self._due.values()), default=None)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _ask(self, name: str) -> None:
        async with self._limit:
            loop = asyncio.get_running_loop()
            ttl = USUAL
            try:
                async with asyncio.timeout(PATIENCE):
                    addresses, ttl = await self._resolved(name)
            except (OSError, TimeoutError, UnicodeError) as error:
                log.warning("name not resolved", extra={"host": name, "reason": str(error)})
                ttl = SHORTEST
            else:
                self._table.set_name(name, addresses)
            if name in self._due:
                self._due[name] = loop.time() + min(max(ttl, SHORTEST), LONGEST)

    async def _resolved(self, name: str) -> tuple[list[str], float]:
        """The addresses of a name, and for how long that is true. Raises `OSError`."""
        if self._nameservers:
            found = await _asked(name, self._nameservers)
            if found is not None:
                return found
        infos = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        return list(dict.fromkeys(str(info[4][0]) for info in infos)), USUAL


async def _asked(name: str, nameservers: list[Nameserver]) -> tuple[list[str], float] | None:
    """None where these do not know the name or do not answer: somebody else may."""
    import dns.asyncresolver
    import dns.exception
    import dns.nameserver

    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = [dns.nameserver.Do53Nameserver(*each) for each in nameservers]
    resolver.lifetime = PATIENCE / 2
    addresses: list[str] = []
    ttl = LONGEST
    for kind in ("A", "AAAA"):
        with suppress(dns.exception.DNSException, OSError):
            answer = await resolver.resolve(f"{name}.", kind, search=False)
            addresses += [str(each) for each in answer]
            ttl = min(ttl, answer.rrset.ttl if answer.rrset is not None else USUAL)
        if addresses:
            break
    return (addresses, ttl) if addresses else None
