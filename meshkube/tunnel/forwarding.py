"""Passing a whole request on: any method, bodies as they come, upgrades too."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from meshkube.tunnel.accepting import accept
from meshkube.tunnel.dialing import CONNECT_SECONDS, Dialled, dial
from meshkube.tunnel.pipe import both_ways

# Of one connection only, or made anew for each (RFC 9110, section 7.6.1).
_OWN = frozenset(
    {
        "connection", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
        "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
_AUTOMATIC = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
Body = AsyncGenerator[bytes, None]
Rewrite = Callable[[Body], Body]


class Unreachable(Exception):
    """Nobody answers at the target, or not in HTTP; nothing was answered yet."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes. `tls` is for `https:`; `headers` are set, `dropped` (lower-case) left
    out of what the client sent. `name` is what the target's certificate says, where that is not
    what the URL says."""

    url: str
    tls: ssl.SSLContext | None = None
    headers: Iterable[tuple[str, str]] = ()
    dropped: Collection[str] = ()
    name: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer, to be looked at and changed before it is passed on."""

    status: int
    headers: CIMultiDict[str]


def keep(head: Head) -> Rewrite | None:
    """Changes nothing."""
    return None


class Forwarder:
    """Passes requests on, over connections that it keeps. Close it with `aclose`."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def aclose(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def forward(
        self,
        request: web.BaseRequest,
        target: Target,
        look: Callable[[Head], Rewrite | None] = keep,
    ) -> web.StreamResponse:
        """The target's answer, passed on as it comes. `look` may change its head, and rewrite its
        body by what it returns. Raises `Unreachable` before anything was answered;
        `ConnectionError` where it broke off after that."""
        if _wants_upgrade(request):
            return await self._upgrade(request, target, look)
        headers = _passed(request.headers, target)
        body = _body(request) if request.body_exists else None
        async with contextlib.AsyncExitStack() as stack:
            try:
                found = await stack.enter_async_context(
                    self._open().request(
                        request.method,
                        URL(target.url, encoded=True),
                        headers=headers,
                        data=body,
                        ssl=target.tls if target.tls is not None else True,
                        server_hostname=target.name or None,
                        allow_redirects=False,
                    )
                )
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unreachable(_reason(target, error)) from error
            return await _pass_back(request, found, look)

    async def _upgrade(
        self, request: web.BaseRequest, target: Target, look: Callable[[Head], Rewrite | None]
    ) -> web.StreamResponse:
        headers = [
            *_passed(request.headers, target).items(),
            ("Connection", "Upgrade"),
            ("Upgrade", request.headers["Upgrade"]),
        ]
        try:
            answer = await dial(target.url, target.tls, request.method, headers, name=target.name)
        except OSError as error:
            raise Unreachable(_reason(target, error)) from error
        if answer.status != 101:
            return _declined(answer, look)
        kept = {
            name: value
            for name, value in answer.headers
            if name.lower() not in _OWN or name.lower() == "upgrade"
        }
        try:
            client = await accept(request, kept)
            await both_ways(client, answer.pipe)
        finally:
            await answer.pipe.close()
        return client.response

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                read_bufsize=256 * 1024,
            )
        return self._session


def _reason(target: Target, error: BaseException) -> str:
    """Who does not answer, and why."""
    cause = error.os_error if isinstance(error, aiohttp.ClientConnectorError) else error
    reason = str(cause) or "no answer in time"
    if isinstance(cause, OSError) and cause.errno:
        reason = os.strerror(cause.errno).lower()
    return f"dial {urlsplit(target.url).netloc}: {reason}"


def _wants_upgrade(request: web.BaseRequest) -> bool:
    named = request.headers.get("Connection", "").lower().split(",")
    return "upgrade" in (one.strip() for one in named) and "Upgrade" in request.headers


def _passed(headers: Iterable[tuple[str, str]] | object, target: Target) -> CIMultiDict[str]:
    """A request's headers without those of its own connection, and with the target's, which stand
    whatever the client sent."""
    given: CIMultiDict[str] = CIMultiDict(headers)  # type: ignore[arg-type]
    set_here = list(target.headers)
    left_out = {one.strip().lower() for one in given.get("Connection", "").split(",")}
    left_out |= _OWN | set(target.dropped) | {name.lower() for name, _ in set_here}
    kept: CIMultiDict[str] = CIMultiDict()
    for name, value in given.items():
        if name.lower() not in left_out:
            kept.add(name, value)
    for name, value in set_here:
        kept.add(name, value)
    return kept


async def _body(request: web.BaseRequest) -> AsyncIterator[bytes]:
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport:
        request.transport.write(_CONTINUE)
    async for piece in request.content.iter_any():
        yield piece


async def _pass_back(
    request: web.BaseRequest,
    found: aiohttp.ClientResponse,
    look: Callable[[Head], Rewrite | None],
) -> web.StreamResponse:
    headers: CIMultiDict[str] = CIMultiDict(
        (name, value) for name, value in found.headers.items() if name.lower() not in _OWN
    )
    head = Head(found.status, headers)
    rewrite = look(head)
    if rewrite is not None:
        headers.popall("Content-Length", None)
    response = web.StreamResponse(status=found.status, reason=found.reason, headers=headers)
    if "Content-Length" not in headers:
        response.enable_chunked_encoding()
    if request.method == "HEAD":
        response = web.StreamResponse(status=found.status, reason=found.reason, headers=headers)
    await response.prepare(request)
    try:
        body = _pieces(found)
        async with contextlib.aclosing(rewrite(body) if rewrite is not None else body) as pieces:
            async for piece in pieces:
                await response.write(piece)
    except aiohttp.ClientError as error:
        # The client must see that this is not the end.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(str(error)) from error
    await response.write_eof()
    return response


async def _pieces(found: aiohttp.ClientResponse) -> Body:
    async for piece in found.content.iter_any():
        yield piece


def _declined(answer: Dialled, look: Callable[[Head], Rewrite | None]) -> web.StreamResponse:
    """The answer of a target that would not upgrade."""
    headers: CIMultiDict[str] = CIMultiDict(
        (name, value)
        for name, value in answer.headers
        if name.lower() not in _OWN and name.lower() != "content-length"
    )
    look(Head(answer.status, headers))
    return web.Response(status=answer.status, headers=headers, body=answer.body)
