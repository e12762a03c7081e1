"""Requests to one of several API servers, and the next one where that one is gone.

A request is sent again to another server where that is safe: when it was never sent, or when it
only reads. A server that does not answer a connection loses all that waits for it at once, so its
watches go on elsewhere too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Any, TypeAlias
from weakref import WeakSet

import aiohttp
import orjson
from yarl import URL

from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.api.types import JSON
from meshkube.client.servers import Servers

log = logging.getLogger(__name__)

CONNECT_SECONDS = 10.0
# Where others are left to ask, a server that is away is worth less patience.
CONNECT_SECONDS_OF_MANY = 2.0
SILENCE_MILLISECONDS = 6_000
"""After which sent data that nobody has acknowledged ends the connection."""
GIVEN_UP_SECONDS = 1.5
"""A request that was cancelled after so long counts against its server."""
GRACE_SECONDS = 0.05
REQUESTS_AT_ONCE = 16
"""Short requests under way: each more would need one more connection, whose handshake costs a
server more than a request does."""
_SIGNS_OF_LIFE = "/apis/coordination.k8s.io/"
"""Paths of requests that wait for no other."""
Params: TypeAlias = Mapping[str, str]
_READS = frozenset({"GET", "HEAD"})
_NEVER_SENT = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)


class _Pool:
    """The connections to one server; closed when `retired` and no longer in use."""

    def __init__(self, tls: ssl.SSLContext | None, headers: Mapping[str, str]) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        connector = aiohttp.TCPConnector(
            # Watches each hold a connection for minutes.
            limit=0,
            ssl=tls if tls is not None else True,
            socket_factory=self._socket,
            keepalive_timeout=60,
        )
        self.session = aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=256 * 1024,
        )
        self._users = 0
        self._retired = self._cut = False

    @contextlib.asynccontextmanager
    async def using(self) -> AsyncIterator[aiohttp.ClientSession]:
        self._users += 1
        try:
            yield self.session
        finally:
            self._users -= 1
            if self._retired and not self._users:
                await self.session.close()

    def _socket(self, address: Any) -> socket.socket:
        if self._cut:
            # aiohttp sends a read again by itself, on a new connection to where it was cut off.
            raise ConnectionAbortedError("this server was left for another")
        made = _socket(address)
        self._sockets.add(made)
        return made

    def cut(self) -> None:
        """Ends what is under way: whoever waits for it learns that. (Closing the session alone
        would leave a reader waiting for ever.)"""
        self._cut = self._retired = True
        for one in list(self._sockets):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    async def close(self) -> None:
        """Ends what is under way and closes, also where nobody is left to learn of it."""
        self.cut()
        await self.retire()
        if self._users:
            await asyncio.sleep(GRACE_SECONDS)
            await self.session.close()

    async def retire(self) -> None:
        """Lets what is under way end."""
        self._retired = True
        if not self._users:
            await self.session.close()


class Transport:
    """Shared by the clients of one process that speak to the same cluster."""

    def __init__(
        self,
        servers: Servers,
        tls: ssl.SSLContext | None,
        headers: Mapping[str, str],
        server_hostname: str = "",
    ) -> None:
        self.servers = servers
        self._tls = tls
        self._headers = headers
        self._server_hostname = server_hostname
        self._pools: dict[str, _Pool] = {}
        self._turns = asyncio.Semaphore(REQUESTS_AT_ONCE)
        self._closed = False

    async def aclose(self) -> None:
        """Ends every connection; safe to call twice."""
        self._closed = True
        pools, self._pools = self._pools, {}
        async with asyncio.TaskGroup() as group:
            for pool in pools.values():
                group.create_task(pool.close())

    async def renew(self) -> None:
        """New requests use new connections (and so a new certificate of the TLS context); those
        under way, watches too, end in their own time."""
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.retire()

    def turn(self, path: str) -> contextlib.AbstractAsyncContextManager[None]:
        """Held by a short request, from before it is sent until it is answered."""
        return contextlib.nullcontext() if path.startswith(_SIGNS_OF_LIFE) else self._turns

    @contextlib.asynccontextmanager
    async def response(
        self,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | AsyncIterable[bytes] | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response with a good status; any failure, also later in its body, as `ApiError`."""
        async with contextlib.AsyncExitStack() as stack:
            url, response = await self._answer(stack, method, path, params, data, headers, timeout)
            try:
                if response.status >= 300:
                    raise ApiError.of(decoded(await response.read()), response.status)
                yield response
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                await self._failed(url, error)
                raise _unavailable(url, error) from error

    async def _answer(
        self,
        stack: contextlib.AsyncExitStack,
        method: str,
        path: str,
        params: Params | None,
        data: bytes | AsyncIterable[bytes] | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
    ) -> tuple[str, aiohttp.ClientResponse]:
        """The first answer of a server that can give one."""
        if method in _READS and len(self.servers.urls) > 1:
            # Who knows other servers takes no answer from the cache of one without a store.
            headers = {**headers, "Cache-Control": "no-cache"}
        tried: set[str] = set()
        while True:
            url = self.servers.current
            tried.add(url)
            target = URL(url + path, encoded=True)
            if params:
                target = target.update_query(params)
            attempt = contextlib.AsyncExitStack()
            asked = time.monotonic()
            try:
                session = await attempt.enter_async_context(self._pool(url).using())
                response = await attempt.enter_async_context(
                    session.request(
                        method,
                        target,
                        data=data,
                        headers=headers,
                        timeout=self._patience(timeout),
                        server_hostname=self._server_hostname or None,
                        allow_redirects=False,
                    )
                )
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                await attempt.aclose()
                await self._failed(url, error)
                safe = method in _READS or isinstance(error, _NEVER_SENT)
                if safe and self.servers.current not in tried:
                    continue
                raise _unavailable(url, error) from error
            except BaseException:
                if time.monotonic() - asked >= GIVEN_UP_SECONDS:
                    # Who asked has waited long enough, and asks another next.
                    self._leave(url, "no answer before the caller gave up")
                await attempt.aclose()
                raise
            if response.status == 503:
                # It is there, but has no store to work on, or is about to end.
                self.servers.failed(url)
                if method in _READS and self.servers.current not in tried:
                    await attempt.aclose()
                    continue
            stack.push_async_exit(attempt)
            return url, response

    def _patience(self, timeout: aiohttp.ClientTimeout) -> aiohttp.ClientTimeout:
        alone = len(self.servers.urls) == 1
        return aiohttp.ClientTimeout(
            total=timeout.total,
            sock_read=timeout.sock_read,
            sock_connect=CONNECT_SECONDS if alone else CONNECT_SECONDS_OF_MANY,
        )

    async def _failed(self, url: str, error: BaseException) -> None:
        pool = self._leave(url, reason(error), gone=_gone(error))
        if pool is not None:
            await pool.retire()

    def _leave(self, url: str, why: str, *, gone: bool = True) -> _Pool | None:
        """Asks another from now on, where there is one. `gone`: what waits for this one would wait
        in vain; its connections, which are returned, have been cut."""
        if self.servers.failed(url):
            about = {"server": url, "reason": why, "next": self.servers.current}
            log.warning("an API server does not answer: asks another", extra=about)
        if not gone or len(self.servers.urls) == 1:
            return None
        pool = self._pools.pop(url, None)
        if pool is not None:
            pool.cut()
        return pool

    def _pool(self, url: str) -> _Pool:
        if self._closed:
            raise errors.unavailable(f"{url}: the client is closed")
        pool = self._pools.get(url)
        if pool is None:
            pool = self._pools[url] = _Pool(self._tls, self._headers)
        return pool


def decoded(content: bytes) -> JSON:
    """The JSON value, or the text where it is none."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return content.decode(errors="replace").strip()


def reason(error: BaseException) -> str:
    """One line that says why there was no answer."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _gone(error: BaseException | None) -> bool:
    """Whether a failure says that the host is away, and not only that a connection has ended."""
    if isinstance(error, TimeoutError | aiohttp.ClientConnectorError):
        return True
    return error is not None and _gone(error.__cause__ or error.__context__)


def _unavailable(url: str, error: BaseException) -> ApiError:
    return errors.unavailable(f"{url}: {reason(error)}")


def _socket(address: Any) -> socket.socket:
    """A socket on which the kernel notices within seconds that the other host has gone."""
    family, type_, protocol = address[:3]
    made = socket.socket(family, type_, protocol)
    made.setblocking(False)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_MILLISECONDS)
    return made
