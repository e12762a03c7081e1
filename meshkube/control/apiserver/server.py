"""The HTTP server: TLS, who asks, what is asked, one answer, and a Status for all that fails."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter
from typing import Any

import orjson
from aiohttp import web

from meshkube import handover
from meshkube.api import errors, meta
from meshkube.api.errors import ApiError
from meshkube.control.apiserver import routing, rules
from meshkube.control.apiserver.aggregation.aggregator import Aggregator
from meshkube.control.apiserver.cache import ResourceCache
from meshkube.control.apiserver.connections import Connections
from meshkube.control.apiserver.http import LARGEST_BODY, Call, failure, split_target
from meshkube.control.apiserver.joining import Joining
from meshkube.control.apiserver.proxy import Proxy
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.relay import Relay
from meshkube.control.apiserver.resources import Resources, verb_of
from meshkube.control.apiserver.streams import Streams
from meshkube.control.apiserver.surface import HealthOf, Surface
from meshkube.control.apiserver.telemetry import TELEMETRY
from meshkube.control.auth import attributes
from meshkube.control.auth.users import ANONYMOUS
from meshkube.parts import Health

log = logging.getLogger(__name__)

DRAIN_SECONDS = 5.0
BACKLOG = 1024
_WITHOUT_OBJECT = frozenset({"get", "list", "watch", "delete", "deletecollection"})
"""Verbs without an object to be judged, which is when others are told of a deprecation."""
_IN_TURN = frozenset({"create", "update", "patch", "delete"})
"""Writes of one object: short, and at times very many. Reads are cheap and wait for no write; lists
go in turns by themselves."""
_RELAYED = frozenset({"log", "exec", "attach", "portforward"})


def _no_parts() -> Mapping[str, Health]:
    return {}


class ApiServer:
    """The part `api`: serves a registry over HTTPS.

    `tls` asks clients for a certificate of the cluster CA and does not insist on one; `node_tls` is
    what nodes are reached with, for logs and exec; `health` feeds `/readyz`, and with `listeners`
    (part -> where it listens) `/statusz`; `joining` answers hosts that come into the cluster;
    `aggregator` knows the groups that others answer for.
    """

    name = "api"

    def __init__(
        self,
        *,
        registry: Registry,
        listen: tuple[str, int],
        tls: ssl.SSLContext,
        node_tls: ssl.SSLContext | None = None,
        health: HealthOf = _no_parts,
        listeners: Mapping[str, str] | None = None,
        joining: Joining | None = None,
        aggregator: Aggregator | None = None,
    ) -> None:
        self._registry = registry
        self._listen = listen
        self._tls = tls
        self._resources = Resources(registry)
        self._streams = Streams(registry)
        self._relay = Relay(registry, node_tls)
        self._proxy = Proxy(registry, node_tls)
        self._access = registry.access
        self._aggregator = aggregator
        store = registry.feed.health
        self._surface = Surface(
            f"{listen[0]}:{listen[1]}",
            lambda: {**health(), "store": store.health},
            registry.access,
            registry.catalog,
            listeners,
            joining.handlers() if joining is not None else {},
            aggregator,
        )
        self.port = listen[1]
        """The port in use, once ready: another than asked for where that was 0."""

    async def run(self, ready: Callable[[], None]) -> None:
        """See `parts.Part`. When cancelled: no new connections, watches end, requests finish."""
        server = Connections(
            self._handle,
            request_factory=_request,
            handler_cancellation=True,
            access_log=None,
            keepalive_timeout=620,
            logger=log,
        )
        runner = web.ServerRunner(server, shutdown_timeout=DRAIN_SECONDS)
        await runner.setup()
        TELEMETRY.sources.append(self)
        try:
            (listening,) = handover.tcp(*self._listen)
            site = web.SockSite(runner, listening, ssl_context=self._tls, backlog=BACKLOG)
            await site.start()
            self.port = runner.addresses[0][1]
            await self._registry.feed.synced.wait()
            log.info("serving", extra={"address": f"{self._listen[0]}:{self.port}"})
            ready()
            await asyncio.Event().wait()
        finally:
            TELEMETRY.sources.remove(self)
            self._streams.end()
            await runner.cleanup()
            await self._relay.aclose()
            await self._proxy.aclose()

    @property
    def caches(self) -> Iterable[ResourceCache]:
        """What there is of each resource, and who is told of it."""
        return self._registry.feed.caches

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        started = perf_counter()
        path, query = split_target(request.raw_path)
        route = routing.parse(path, self._registry.catalog.by_plural)
        call = Call(request, ANONYMOUS, request.method, path, query, route)
        response = await self._caught(call)
        resource = route.kind.resource if route is not None else ""
        if route is not None and route.subresource:
            resource += "/" + route.subresource
        TELEMETRY.count(call.verb, resource, response.status, perf_counter() - started)
        return response

    async def _caught(self, call: Call) -> web.StreamResponse:
        """The answer, a Status where there is none; a stream that broke is cut off."""
        try:
            return await self._answer(call)
        except (ConnectionError, asyncio.CancelledError):
            raise
        except (RecursionError, orjson.JSONEncodeError) as error:
            # Nested too deeply, or with values that no JSON has.
            if call.started:
                raise ConnectionAbortedError(str(error)) from error
            return failure(errors.bad_request(f"the object cannot be written as JSON: {error}"))
        except Exception as error:
            if not isinstance(error, ApiError):
                log.exception("request failed", extra={"method": call.method, "path": call.path})
                error = errors.internal(str(error) or type(error).__name__)
            if not call.started:
                return failure(error)
            raise ConnectionAbortedError(error.message) from error

    async def _answer(self, call: Call) -> web.StreamResponse:
        route = call.route
        self._admit(call)
        if self._aggregator is not None and self._aggregator.remotes:
            remote = self._aggregator.remotes.of(call.path)
            if remote is not None:
                call.verb = call.method.lower()
                return await self._aggregator.handle(call, remote)
        if route is None:
            _check_timeout(call)
            call.verb = call.method.lower()
            return await self._surface.handle(call)
        if route.subresource in _RELAYED:
            call.verb = "connect"
            return await self._relay.handle(call, route)
        if route.subresource == "proxy":
            call.verb = "connect"
            return await self._proxy.handle(call, route)
        call.verb = verb_of(call.method, route, call.flag("watch"))
        if call.verb in _WITHOUT_OBJECT:
            call.warnings += rules.deprecation(route.kind)
        if call.verb == "watch":
            return await self._streams.handle(call, route)
        _check_timeout(call)
        if call.verb not in _IN_TURN:
            return await self._resources.handle(call, route)
        await call.body()  # before it takes a place, as bodies may be slow to come
        call.leave = await self._registry.levels.enter(route.kind, call.user)
        try:
            return await self._resources.handle(call, route)
        finally:
            call.leave()

    def _admit(self, call: Call) -> None:
        """Finds out who asks. Raises `ApiError` 401 or 403."""
        call.user = self._access.user_of(call.request.headers, _certificate(call.request))
        asked = attributes.of_request(call.user, call.method, call.path, call.query)
        self._access.authorizer.check(asked)


def _check_timeout(call: Call) -> None:
    """How long a request may take is not for its client to say here, but a wrong one is told.
    Raises `ApiError` 400."""
    text = call.query.get("timeout", "")
    try:
        if text.strip("0"):
            meta.parse_duration(text)
    except ValueError as error:
        raise errors.bad_request(
            f"invalid timeout specified in the request URL - {error}"
        ) from None


def _certificate(request: web.BaseRequest) -> dict[str, object] | None:
    transport = request.transport
    return transport.get_extra_info("peercert") if transport is not None else None


def _request(*arguments: Any) -> web.BaseRequest:
    """What the listener makes of a message's head; only the limit of the body is ours."""
    message, payload, protocol, writer, task = arguments
    loop = asyncio.get_running_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=LARGEST_BODY
    )
