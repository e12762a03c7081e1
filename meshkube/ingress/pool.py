"""Every connection to every pod, and how new ones come about."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar, cast
from weakref import WeakValueDictionary

from meshkube.ingress.backend_tls import BackendTls, BackendTlsError
from meshkube.ingress.backends import Address, Backend
from meshkube.ingress.endpoints import Balancer, Endpoint, balancer_of
from meshkube.ingress.settings import Settings
from meshkube.ingress.upstream import Upstream
from meshkube.ingress.upstream_http2 import Http2Upstream
from meshkube.ingress.via import Via

if TYPE_CHECKING:
    from meshkube.ingress.exchange import Exchange

P = TypeVar("P", Upstream, Http2Upstream)

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], object]
"""Runs a coroutine in the TaskGroup of the ingress."""


class Pool:
    """Every connection to every pod."""

    def __init__(self, settings: Settings, spawn: Spawn) -> None:
        self._settings = settings
        self._spawn = spawn
        # Balancers and connections keep an endpoint alive; with the last of them it goes.
        self._endpoints: WeakValueDictionary[tuple[Address, Via], Endpoint] = WeakValueDictionary()
        self.tls = BackendTls()

    def balancer(self, backend: Backend) -> Balancer:
        """The backend's balancer, up to date."""
        return balancer_of(backend, self._endpoint, self._settings, monotonic())

    def _endpoint(self, address: Address, via: Via) -> Endpoint:
        endpoint = self._endpoints.get((address, via))
        if endpoint is None:
            endpoint = self._endpoints[address, via] = Endpoint(address, via)
        return endpoint

    def connect(self, endpoint: Endpoint, exchange: Exchange) -> None:
        """Finds or makes a connection, and tells the exchange how that went: at once where there is
        one in HTTP/2 with room for another request."""
        if not endpoint.via.http2:
            self._spawn(self._guarded(self._connect(endpoint, exchange), endpoint, [exchange]))
            return
        for upstream in endpoint.connections:
            if upstream.room > 0:
                exchange.connected(upstream.stream())
                return
        endpoint.waiting.append(exchange)
        if len(endpoint.waiting) == 1:
            self._spawn_shared(endpoint, exchange)

    def _spawn_shared(self, endpoint: Endpoint, first: Exchange) -> None:
        work = self._connect_shared(endpoint, first)
        self._spawn(self._guarded(work, endpoint, endpoint.waiting))

    @staticmethod
    async def _guarded(
        work: Coroutine[Any, Any, None], endpoint: Endpoint, exchanges: list[Exchange]
    ) -> None:
        try:
            await work
        except Exception:
            # One request's misfortune may not end the task group of all.
            log.exception("the connection to a pod failed", extra={"pod": str(endpoint)})
            for exchange in exchanges.copy():
                exchange.refuse(500, "the ingress failed: its log says how")
            endpoint.waiting.clear()

    async def _connect(self, endpoint: Endpoint, exchange: Exchange) -> None:
        made, problem = await self._try(
            endpoint, exchange, lambda: Upstream(endpoint, self._settings)
        )
        if made is None:
            self._connect_failed(endpoint, exchange, problem)
        else:
            endpoint.connected()
            exchange.connected(made)

    async def _connect_shared(self, endpoint: Endpoint, first: Exchange) -> None:
        """A connection in HTTP/2, for all requests that wait for one."""
        settled: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def ready(upstream: Http2Upstream | None, problem: str) -> None:
            if not settled.done():
                settled.set_result(problem)

        upstream, problem = await self._try(
            endpoint, first, lambda: Http2Upstream(endpoint, self._settings, ready), settled
        )
        waiting, endpoint.waiting = endpoint.waiting, []
        if upstream is None:
            for exchange in waiting:
                self._connect_failed(endpoint, exchange, problem)
            return
        endpoint.connected()
        if not upstream.room and waiting:
            # It says that it takes no request at all.
            for exchange in waiting:
                self._connect_failed(endpoint, exchange, "it takes no requests")
            return
        for exchange in waiting:
            self.connect(endpoint, exchange)

    async def _try(
        self,
        endpoint: Endpoint,
        exchange: Exchange,
        protocol: Callable[[], P],
        settled: asyncio.Future[str] | None = None,
    ) -> tuple[P | None, str]:
        """A new connection, or None and why there is none. With `settled`, that has to say that
        the connection is good, too."""
        loop = asyncio.get_running_loop()
        started = loop.time()
        host, port = endpoint.address
        options: dict[str, Any] = {}
        made: P | None = None
        transport: asyncio.BaseTransport | None = None
        problem = ""
        try:
            if endpoint.via.tls is not None:
                options = self.tls.options(endpoint.via, exchange.route.backend)
            async with self._attempt(endpoint, exchange.connect_timeout):
                transport, made = await loop.create_connection(protocol, host, port, **options)
                problem = await settled if settled is not None else ""
        except TimeoutError:
            problem = f"no connection within {loop.time() - started:.1f} s"
        except BackendTlsError as error:
            problem = str(error)
        except OSError as error:
            problem = _reason(error)
        if problem and transport is not None:
            cast(asyncio.Transport, transport).abort()
        return (None, problem) if problem else (made, "")

    @asynccontextmanager
    async def _attempt(self, endpoint: Endpoint, seconds: float) -> AsyncIterator[None]:
        """Limits the time for one attempt to connect, which `left` can cut short."""
        async with asyncio.timeout(seconds) as limit:
            endpoint.attempts.add(limit)
            try:
                yield
            finally:
                endpoint.attempts.discard(limit)

    def left(self, backend: Backend, addresses: Iterable[Address]) -> None:
        """These do not serve the backend any longer, and may be gone without a word: what they
        have not begun to answer goes elsewhere, where that is safe."""
        for address in addresses:
            endpoint = self._endpoints.get((address, backend.via))
            if endpoint is None:
                continue
            for limit in endpoint.attempts:
                if not limit.expired():
                    limit.reschedule(asyncio.get_running_loop().time())
            for upstream in tuple(endpoint.connections):
                upstream.left(backend)

    def _connect_failed(self, endpoint: Endpoint, exchange: Exchange, reason: str) -> None:
        endpoint.failed(monotonic(), self._settings)
        exchange.connect_failed(reason)

    def sweep(self, now: float) -> None:
        """Closes what was unused for too long."""
        oldest = now - self._settings.upstream_idle
        for endpoint in list(self._endpoints.values()):
            while endpoint.idle and endpoint.idle[0].idle_since < oldest:
                endpoint.idle.pop(0).release(False)
            if endpoint.via.http2:
                for upstream in tuple(endpoint.connections):
                    upstream.sweep(oldest)

    def close(self) -> None:
        """Closes every unused connection."""
        for endpoint in list(self._endpoints.values()):
            while endpoint.idle:
                endpoint.idle.pop().release(False)
            if endpoint.via.http2:
                for upstream in tuple(endpoint.connections):
                    upstream.sweep(monotonic())


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({(error.reason or str(error)).lower().replace('_', ' ')})"
    if isinstance(error, socket.gaierror) or not error.errno:
        return str(error) or type(error).__name__
    return os.strerror(error.errno).lower()
