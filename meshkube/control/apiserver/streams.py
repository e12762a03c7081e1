"""Watches over HTTP: one write for what is new, bookmarks, an end in time."""

from __future__ import annotations

import functools
import random
from dataclasses import replace
from datetime import datetime

import orjson
from aiohttp import web

from meshkube.api import errors
from meshkube.api.errors import ApiError
from meshkube.control.apiserver import negotiation
from meshkube.control.apiserver.cache import Notice
from meshkube.control.apiserver.http import Call, stream
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.rendering import Lines
from meshkube.control.apiserver.resources import include, query_of
from meshkube.control.apiserver.routing import Route
from meshkube.control.apiserver.turns import in_turns
from meshkube.control.apiserver.watching import Watcher

BOOKMARK_SECONDS = 60.0
AT_ONCE = 64
"""Events that are encoded and written at a time."""
LEAST_SECONDS = 1800.0
"""A watch that names no timeout ends after this long to twice this long."""


class Streams:
    """Watch requests."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._watchers: set[Watcher] = set()

    def __len__(self) -> int:
        return len(self._watchers)

    def end(self) -> None:
        """Ends every watch, cleanly for its client."""
        for watcher in tuple(self._watchers):
            watcher.end()

    async def handle(self, call: Call, route: Route) -> web.StreamResponse:
        """Raises `ApiError` before the stream starts; after that an error is its last line."""
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
            await self._run(call, query, watcher, lines, response, initial)
            await response.write_eof()
        finally:
            self._watchers.discard(watcher)
            watcher.close()
        return response

    async def _run(
        self,
        call: Call,
        query: Query,
        watcher: Watcher,
        lines: Lines,
        response: web.StreamResponse,
        initial: bool,
    ) -> None:
        clock = self._registry.clock
        feed = self._registry.feed
        bookmarks = call.flag("allowWatchBookmarks")
        asked = call.number("timeoutSeconds")
        seconds = asked if asked else random.uniform(LEAST_SECONDS, 2 * LEAST_SECONDS)
        end = clock.monotonic() + seconds
        if initial and bookmarks:
            await _write(response, lines, await watcher.take(0), clock.now())
            await response.write(lines.bookmark(feed.revision, initial_end=True))
        while not watcher.ended or watcher.waiting:
            left = end - clock.monotonic()
            if left <= 0:
                break
            notices = await watcher.take(min(left, BOOKMARK_SECONDS))
            if notices:
                await _write(response, lines, notices, clock.now())
            elif bookmarks and not watcher.ended:
                await response.write(lines.bookmark(feed.revision))


async def _write(
    response: web.StreamResponse, lines: Lines, notices: list[Notice], now: datetime
) -> None:
    """All of them; the objects that a watch starts with, in turns."""
    if len(notices) <= AT_ONCE:
        await response.write(lines.of(notices, now))
        return
    async for some in in_turns(notices, AT_ONCE):
        await response.write(lines.of(some, now))


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
    match = call.query.get("resourceVersionMatch", "")
    if "sendInitialEvents" not in call.query:
        if match:
            raise errors.bad_request(
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            )
        return False
    if match != "NotOlderThan":
        raise errors.bad_request(
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        )
    return call.flag("sendInitialEvents")
