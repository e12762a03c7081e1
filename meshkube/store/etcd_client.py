"""Requests to an etcd cluster through the JSON gateway of its members, over aiohttp.

One member is used until it fails; then the next one is. A read is tried again elsewhere for as long
as `READ_SECONDS`; a write only where it certainly was not done.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import os
import random
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import orjson

from meshkube.store import etcd_wire as wire
from meshkube.store.base import StoreError, StoreFull, StoreUnavailable, TooLarge
from meshkube.store.etcd_faults import EtcdError, Fault, error_in, read_error
from meshkube.store.etcd_options import EtcdOptions
from meshkube.store.etcd_wire import Answer
from meshkube.store.telemetry import FAILOVERS

log = logging.getLogger(__name__)

# Requests at members at once (each has a connection of its own), and those that wait for a place.
IN_FLIGHT = 64
LONGEST_QUEUE = 50_000
LONGEST_WRITE = 512 * 1024
CONNECT_SECONDS = 2.0
# A read is repeated at the next member after this time: no answer is worth waiting for longer.
READ_TRY_SECONDS = 1.5
READ_SECONDS = 6.0
# etcd itself gives a proposal 7 s with its default election timeout.
WRITE_SECONDS = 8.0
FIRST_PAUSE = 0.02
LONGEST_PAUSE = 1.0


@dataclass(slots=True)
class _Reply:
    answer: Answer
    size: int


class Outdated(StoreError):
    """The revision asked for is compacted."""


class Unreachable(Exception):
    """No connection could be made: nothing was sent."""


class Broken(Exception):
    """The connection ended, or nothing came in time: what was sent may have been done."""


class EtcdClient:
    """Calls of one cluster. Use it on the event loop that made it; close it."""

    def __init__(self, options: EtcdOptions, tls: ssl.SSLContext | None) -> None:
        self._options = options
        self._urls = options.urls()
        self._current = 0
        self._token: str | None = None
        """None: not asked for yet. Empty: etcd wants none."""
        self._authenticating = asyncio.Lock()
        self._places = asyncio.Semaphore(IN_FLIGHT)
        self._waiting = 0
        self._healthy = True
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls if tls is not None else True),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
        )

    @property
    def member(self) -> int:
        """The index of the endpoint in use."""
        return self._current

    def endpoint(self, member: int) -> str:
        """Its name, for messages."""
        return self._options.endpoints[member]

    async def read(self, path: str, body: bytes) -> Answer:
        """The answer to a request that changes nothing. Raises `StoreError`."""
        return (await self.read_sized(path, body))[0]

    async def read_sized(self, path: str, body: bytes) -> tuple[Answer, int]:
        """With its length in bytes."""
        reply = await self._call(path, body, repeatable=True)
        return reply.answer, reply.size

    async def write(self, path: str, body: bytes) -> Answer:
        """The answer to a request that changes something. Raises `StoreError`."""
        return (await self._call(path, body, repeatable=False)).answer

    async def _call(self, path: str, body: bytes, *, repeatable: bool) -> _Reply:
        if self._waiting >= LONGEST_QUEUE:
            raise StoreUnavailable(f"{self._options.name}: too many requests wait")
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            return await self._try_members(path, body, repeatable)
        finally:
            self._places.release()

    async def _try_members(self, path: str, body: bytes, repeatable: bool) -> _Reply:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (READ_SECONDS if repeatable else WRITE_SECONDS)
        pause = FIRST_PAUSE
        while True:
            member = self._current
            left = deadline - loop.time()
            seconds = max(0.1, min(left, READ_TRY_SECONDS) if repeatable else left)
            try:
                reply = await self._authenticated(member, path, body, seconds)
            except (EtcdError, Unreachable, Broken) as error:
                again = repeatable or _not_done(error)
                self.failed(member, str(error))
                if not again or loop.time() + pause > deadline:
                    unknown = not repeatable and not _not_done(error)
                    raise StoreUnavailable(self._said(member, error), unknown=unknown) from None
            else:
                self._answers()
                return reply
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, LONGEST_PAUSE)

    def _said(self, member: int, error: Exception) -> str:
        return f"etcd at {self.endpoint(member)}: {error}"

    async def _authenticated(self, member: int, path: str, body: bytes, seconds: float) -> _Reply:
        """One try, with a token where there is a user; a token that has ended is renewed once."""
        if not self._options.user:
            try:
                return await self._once(member, path, body, seconds, "")
            except EtcdError as error:
                if error.fault is Fault.TOKEN:
                    raise StoreError(f"etcd asks for a user and a password: {error}") from None
                raise
        token = await self._valid_token(member, seconds)
        try:
            return await self._once(member, path, body, seconds, token)
        except EtcdError as error:
            if error.fault is not Fault.TOKEN:
                raise
        token = await self._new_token(member, token, seconds)
        return await self._once(member, path, body, seconds, token)

    async def _valid_token(self, member: int, seconds: float) -> str:
        if self._token is not None:
            return self._token
        return await self._new_token(member, None, seconds)

    async def _new_token(self, member: int, old: str | None, seconds: float) -> str:
        """One request for all who find that `old` has ended."""
        async with self._authenticating:
            if self._token is not None and self._token != old:
                return self._token
            asked = {"name": self._options.user, "password": self._options.password}
            try:
                reply = await self._once(
                    member, wire.AUTHENTICATE, orjson.dumps(asked), seconds, ""
                )
                self._token = str(reply.answer["token"])
            except EtcdError as error:
                if "not enabled" not in str(error):
                    raise
                self._token = ""
            except Broken as error:
                # Asking for a token twice does no harm: nothing was done.
                raise Unreachable(str(error)) from None
            return self._token

    async def _once(
        self, member: int, path: str, body: bytes, seconds: float, token: str
    ) -> _Reply:
        headers = {"Authorization": token} if token else None
        try:
            async with (
                asyncio.timeout(seconds),
                self._session.post(
                    f"{self._urls[member]}/v3/{path}", data=_sent(body), headers=headers
                ) as response,
            ):
                content = await response.read()
                status = response.status
        except TimeoutError:
            raise Broken(f"no answer within {seconds:.1f} s") from None
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Unreachable(_reason(error)) from None
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_reason(error)) from None
        except RuntimeError as error:
            # "Session is closed": aiohttp has no type of its own for it.
            raise Unreachable(str(error)) from None
        if status != 200:
            raise _known(read_error(status, content))
        try:
            return _Reply(orjson.loads(content), len(content))
        except ValueError:
            raise Broken("its answer is no JSON") from None

    @contextlib.asynccontextmanager
    async def stream(self, path: str, body: bytes) -> AsyncIterator[Stream]:
        """An answer of many lines, from the member in use. Raises `EtcdError`, `Unreachable` and
        `Broken`: who reads it decides where to go on."""
        member = self._current
        headers = {}
        if self._options.user and (token := await self._valid_token(member, CONNECT_SECONDS)):
            headers["Authorization"] = token
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                response = await self._session.post(
                    f"{self._urls[member]}/v3/{path}", data=body, headers=headers
                )
        except TimeoutError:
            raise Broken(f"no answer within {CONNECT_SECONDS} s") from None
        except (aiohttp.ClientError, OSError, RuntimeError) as error:
            raise Unreachable(_reason(error)) from None
        try:
            if response.status != 200:
                raise read_error(response.status, await response.read())
            yield Stream(member, response.content)
        except (aiohttp.ClientError, OSError) as error:
            raise Broken(_reason(error)) from None
        finally:
            # Never back to the pool: more would come on it.
            response.close()

    def forget_token(self) -> None:
        """The next request asks for a new one."""
        self._token = None

    def failed(self, member: int, reason: str) -> None:
        """Turns to the next member, where `member` is still the one in use."""
        if member != self._current:
            return
        self._current = (member + 1) % len(self._urls)
        FAILOVERS.inc()
        if self._healthy:
            self._healthy = False
            log.warning(
                "an etcd member failed: turns to the next one",
                extra={
                    "member": self.endpoint(member),
                    "next": self.endpoint(self._current),
                    "reason": reason,
                },
            )

    def _answers(self) -> None:
        if not self._healthy:
            self._healthy = True
            log.info("etcd answers again", extra={"member": self.endpoint(self._current)})

    async def aclose(self) -> None:
        """Ends every connection; safe to call twice."""
        await self._session.close()


class Stream:
    """The lines of one answer, each a JSON object."""

    def __init__(self, member: int, content: aiohttp.StreamReader) -> None:
        self.member = member
        self._content = content
        self._kept = b""

    async def read(self) -> list[Answer]:
        """Waits for more: one result or several. Raises `EtcdError`, `Broken`. It may be
        cancelled: nothing is lost."""
        while True:
            data = await self._content.readany()
            if not data:
                raise Broken("it ended the stream")
            *lines, self._kept = (self._kept + data).split(b"\n")
            if lines:
                return [_result(line) for line in lines if line]


def _result(line: bytes) -> Answer:
    try:
        content = orjson.loads(line)
        result = content.get("result")
    except (ValueError, AttributeError):
        raise Broken("a line of its stream is no JSON object") from None
    if result is None:
        raise error_in(content)
    return result  # type: ignore[no-any-return]


def _sent(body: bytes) -> bytes | io.BytesIO:
    # aiohttp writes bytes in one go, and warns where they are many; a file it writes in pieces.
    return body if len(body) <= LONGEST_WRITE else io.BytesIO(body)


def _known(error: EtcdError) -> Exception:
    """What no repetition changes is an error of the store at once."""
    if error.fault is Fault.REFUSED:
        return StoreError(f"etcd: {error}")
    if error.fault is Fault.FULL:
        return StoreFull(
            f"etcd: {error}: compact and defragment it, then `etcdctl alarm disarm` (or give it"
            f" more: --quota-backend-bytes)"
        )
    if error.fault is Fault.TOO_LARGE:
        return TooLarge(f"etcd: {error} (--max-request-bytes)")
    if error.fault is Fault.COMPACTED:
        return Outdated(str(error))
    if error.fault is Fault.FUTURE:
        return StoreError(f"etcd: {error}")
    return error


def _not_done(error: Exception) -> bool:
    if isinstance(error, EtcdError):
        return error.fault in (Fault.NOT_DONE, Fault.TOKEN)
    return isinstance(error, Unreachable)


def _reason(error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        if cause.errno and not isinstance(cause, ssl.SSLError):
            # aiohttp's own words name the address twice, and TLS where there is none.
            return f"cannot connect: {os.strerror(cause.errno)}"
    return str(error) or type(error).__name__
