"""What all connections share: the table, the pool, ids, counts, the log and the clock's sweep."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from meshkube.ingress import tracing
from meshkube.ingress.access_log import AccessLog, Entry
from meshkube.ingress.exchange import Exchange
from meshkube.ingress.forwarded import Peer, Trust, address_of, id_series
from meshkube.ingress.policies import Denial
from meshkube.ingress.pool import Pool, Spawn
from meshkube.ingress.problems import Problem
from meshkube.ingress.route import Route
from meshkube.ingress.routes import RouteTable
from meshkube.ingress.settings import Settings
from meshkube.ingress.sides import Downstream
from meshkube.ingress.stats import RouteStats

if TYPE_CHECKING:
    from meshkube.ingress.limiting import Limiter
    from meshkube.ingress.managed import Guard
    from meshkube.ingress.policies import Asked

log = logging.getLogger(__name__)

_NOWHERE = {"ingress": "", "rule": "", "service": "", "pod": ""}


def no_guards(route: Route, asked: Asked) -> Sequence[Guard]:
    """For a proxy that nobody gave guards: what wants one is not served."""
    policy = route.policy
    if policy is None or (policy.basic_auth is None and policy.external_auth is None):
        return ()

    async def closed() -> Denial:
        return Denial(503, "nobody is here who could check who asks")

    return (closed,)


class ClientConnection(Protocol):
    """A client's connection, in any version of HTTP, as the proxy looks after it."""

    def check(self, now: float) -> None:
        """Acts on whatever deadline has passed."""

    def drain(self) -> None:
        """Finish what is under way, take nothing new."""

    def abort(self) -> None:
        """End now."""


class Proxy:
    """The core that client connections of every kind work through."""

    def __init__(self, table: RouteTable, settings: Settings, spawn: Spawn) -> None:
        self.table = table
        self.settings = settings
        self.spawn = spawn
        self.limiters: dict[str, Limiter] = {}
        """What clients have used of limits, by Ingress."""
        self.guards_of: Callable[[Route, Asked], Sequence[Guard]] = no_guards
        """Who else is to be asked before a request goes on."""
        self.pool = Pool(settings, spawn)
        table.left = self.pool.left
        self.clients: set[ClientConnection] = set()
        self.id_prefix, self.id_numbers = id_series()
        self.https_port = 443
        """Where clients are sent that should use HTTPS."""
        self._trust = Trust(
            settings.trusted_proxies, settings.trusted_hops, settings.forwarded_header
        )
        self.hsts = b""
        """The line for responses over TLS."""
        if settings.hsts:
            self.hsts = b"Strict-Transport-Security: max-age=%d\r\n" % settings.hsts
        self.draining = False
        self._empty = asyncio.Event()
        self.refused = RouteStats("", "", "", "")
        """Requests that no rule took, or that were bad."""
        self.retries = 0
        self.connections = 0
        self.elsewhere = 0
        """Clients that are connected to workers of this proxy."""
        self.lookup = table.lookup.find
        """The route of a request as it came: the Host header and the target."""
        # Looked at for each request; the rest of the settings is not.
        self.response_timeout = settings.response_timeout
        self.max_head = settings.max_head
        self.access_log: AccessLog | None = None
        if settings.access_log != "off":
            self.access_log = AccessLog(settings.access_log, settings.access_log_file)
        self.sampled = self.access_log is not None
        self.tracing = self.never_usual = settings.trace
        """`never_usual`: no request is to be taken for one like the last."""
        if settings.gzip:
            table.want_policies()

    def peer(
        self,
        transport: asyncio.BaseTransport,
        port: int,
        scheme: bytes,
        source: tuple[str, int] | None,
    ) -> Peer:
        """The client at the other end, come in by `port`; `source` is its address where a load
        balancer in front has said so."""
        certificate = None
        if scheme == b"https":
            certificate = transport.get_extra_info("client_certificate")
        address = address_of(source or transport.get_extra_info("peername")).encode()
        trust = self._trust
        return Peer(address, port, scheme, trust.believes(address), certificate, trust)

    def new_id(self) -> bytes:
        """A request id."""
        return self.id_prefix + b"%012x" % next(self.id_numbers)

    def log_access(self, exchange: Exchange, seconds: float) -> None:
        """The line of the access log for a request that is over."""
        policy = exchange.route.policy
        if self.access_log is None or (policy is not None and not policy.access_log):
            return
        route = exchange.route
        facts = {
            "ingress": route.ingress,
            "rule": route.rule,
            "service": str(route.backend),
            "pod": str(exchange.endpoint or ""),
        }
        tries = len(exchange.tried) + 1
        self._log(exchange.downstream, exchange.status, exchange.size, seconds, facts, tries)

    def log_answer(self, client: Downstream, status: int, size: int) -> None:
        """The line for a request that was answered here, without a pod."""
        if self.access_log is not None:
            self._log(client, status, size, 0.0, _NOWHERE, 0)

    def _log(
        self, client: Downstream, status: int, size: int, seconds: float, facts: dict[str, str],
        tries: int,
    ) -> None:  # fmt: skip
        assert self.access_log is not None
        asked = client.describe()
        self.access_log.add(
            Entry(
                client=asked["client"],
                method=asked["method"],
                host=asked["host"],
                target=asked["path"],
                protocol=asked["protocol"],
                status=status,
                size=max(0, size),
                seconds=round(seconds, 6),
                referer=client.header(b"referer"),
                agent=client.header(b"user-agent"),
                request_id=asked["request_id"],
                trace=tracing.trace_id(client.header(b"traceparent"), asked["request_id"]),
                tries=tries,
                **facts,
            )
        )

    def note_problem(self, problem: Problem, facts: dict[str, str]) -> None:
        """The one log line of a request that failed; counts it where no route did."""
        if problem.route is None:
            self.refused.count(problem.status, 0.0)
        level = logging.WARNING if problem.status >= 500 else logging.INFO
        log.log(
            level,
            "request failed",
            extra={"status": problem.status, "reason": problem.reason, **problem.facts(), **facts},
        )

    def note_retry(self, exchange: Exchange, reason: str) -> None:
        """A request is tried again, or at another pod."""
        self.retries += 1
        log.info("request retried", extra={"reason": reason, "rule": exchange.route.rule})

    async def sweep(self) -> None:
        """Enforces every time-out, for as long as it runs. One pass in place of a timer per
        request: a time-out is late by at most the pause between two passes."""
        settings = self.settings
        shortest = min(settings.head_timeout, settings.body_timeout, settings.response_timeout)
        pause = max(0.02, min(1.0, shortest / 4, settings.keep_alive_timeout / 4))
        while True:
            await asyncio.sleep(pause)
            now = monotonic()
            for client in tuple(self.clients):
                client.check(now)
            self.pool.sweep(now)
            self._flush_log()
            for key in [key for key in self.limiters if self.table.ingress(key) is None]:
                del self.limiters[key]

    def _flush_log(self) -> None:
        failed = self.access_log.flush() if self.access_log is not None else ""
        if failed:
            log.warning("access log not written", extra={"reason": failed})

    async def drain(self) -> None:
        """Lets requests in flight finish, then ends what is left after the time for it."""
        self.draining = self.never_usual = True
        self._empty.clear()
        for client in tuple(self.clients):
            client.drain()
        if self.clients:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.settings.drain_timeout):
                    await self._empty.wait()
        for client in tuple(self.clients):
            client.abort()
        self.pool.close()
        if self.access_log is not None:
            await asyncio.to_thread(self.access_log.close)

    def gone(self, client: ClientConnection) -> None:
        """A client's connection has ended."""
        self.clients.discard(client)
        if self.draining and not self.clients:
            self._empty.set()
