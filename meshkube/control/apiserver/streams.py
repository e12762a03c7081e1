"""Watches over HTTP: one write for what is new, bookmarks, an end in time."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from datetime import datetime
from typing import cast

import orjson
from aiohttp import web
from aiohttp.http_writer import StreamWriter as Writer

from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.control.apiserver import negotiation, option_faults
from meshkube.control.apiserver.cache import Notice
from meshkube.control.apiserver.delivery import AT_ONCE, Delivery, Turns
from meshkube.control.apiserver.http import PIECE, Call, stream
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.rendering import Lines
from meshkube.control.apiserver.resources import include, query_of
from meshkube.control.apiserver.routing import Route
from meshkube.control.apiserver.turns import in_turns
from meshkube.control.apiserver.watching import Watcher

BOOKMARK_SECONDS = 60.0
LEAST_SECONDS = 1800.0
"""A watch that names no timeout ends after this long to twice this long."""


class Streams:
    """Watch requests."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._watchers: set[Watcher] = set()
        self._turns = Turns()

    def __len__(self) -> int:
        return len(self._watchers)

    def end(self) -> None:
        """Ends every watch, cleanly for its client."""
        for watcher in tuple(self._watchers):
            watcher.end()

    async def handle(self, call: Call, route: Route) -> web.StreamResponse:
        """Raises `ApiError` before the stream starts; after that an error is its last line."""
        if "watch" not in route.kind.verbs:
            raise errors.method_not_allowed(
                "the server does not allow this method on the requested resource"
            )
        accepted = negotiation.accept(call.header("Accept"))
        lines = Lines(route.kind, accepted, include(call))
        query = query_of(call, route)
        initial = _initial(call)
        if (
            "sendInitialEvents" in call.query
            and not initial
            and query.resource_version in ("", "0")
        ):
            # Told not to start with the list: from now on.
            query = replace(query, resource_version=str(self._registry.feed.revision))
        try:
            watcher = await self._registry.watch(query, initial=initial)
        except ApiError as error:
            if error.code != 410:
                raise
            return await _expired(call, error)
        self._watchers.add(watcher)
        watcher.on_overrun = functools.partial(_cut_off, call, watcher)
        try:
            response = await stream(call)
            writer = cast(Writer, await response.prepare(call.request))
            await self._run(call, query, watcher, lines, writer, initial)
            await response.write_eof()
        finally:
            self._watchers.discard(watcher)
            watcher.close()
        return response

    async def _run(
        self, call: Call, query: Query, watcher: Watcher, lines: Lines, writer: Writer,
        initial: bool,
    ) -> None:  # fmt: skip
        clock = self._registry.clock
        feed = self._registry.feed
        bookmarks = call.flag("allowWatchBookmarks")
        asked = call.number("timeoutSeconds")
        seconds = asked if asked else random.uniform(LEAST_SECONDS, 2 * LEAST_SECONDS)
        end = clock.monotonic() + seconds
        delivery = Delivery(watcher, lines, call.request.protocol, clock, self._turns)
        if initial and bookmarks:
            await _write(writer, lines, watcher.taken(), clock.now())
            await _send(writer, lines.bookmark(feed.revision, initial_end=True))
        while not watcher.ended or watcher.waiting:
            left = end - clock.monotonic()
            if left <= 0:
                break
            await delivery.rest(min(left, BOOKMARK_SECONDS))
            if watcher.waiting:
                await _write(writer, lines, watcher.taken(), clock.now())
            elif bookmarks and not watcher.ended:
                await _send(writer, lines.bookmark(feed.revision))


async def _write(writer: Writer, lines: Lines, notices: list[Notice], now: datetime) -> None:
    """All of them; the objects that a watch starts with, in turns."""
    size = sum(len(notice.cached.raw) for notice in notices)
    most = max(1, len(notices) * PIECE // size) if size else 1
    async for some in in_turns(notices, min(AT_ONCE, most)):
        await _send(writer, lines.of(some, now))


async def _send(writer: Writer, content: bytes) -> None:
    """Waits where the client is slow to read. Raises `ConnectionError` where it has gone."""
    transport = writer.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError("the client has gone")
    transport.write(content)
    await writer.drain()


def _cut_off(call: Call, watcher: Watcher) -> None:
    """Who does not read: what waits here and in the connection's buffers is forgotten."""
    watcher.close()
    transport = call.request.transport
    if transport is not None:
        transport.abort()


async def _expired(call: Call, error: ApiError) -> web.StreamResponse:
    """As kube-apiserver says it: an ERROR event on a stream that started well."""
    response = await stream(call)
    await response.write(orjson.dumps({"type": "ERROR", "object": error.status()}) + b"\n")
    await response.write_eof()
    return response


def _initial(call: Call) -> bool:
    """Whether the stream starts with the whole list (`sendInitialEvents`)."""
    option_faults.check_watch(call.query)
    return call.flag("sendInitialEvents")
