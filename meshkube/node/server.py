"""The node's HTTPS server, port 10250: logs, exec, attach, statistics, as the kubelet serves them.

Who asks shows a certificate of the cluster's CA or a bearer token; `permission` says which of them
may ask for what, `delegation` asks the API server of those that the node does not know itself.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

from aiohttp import web

from meshkube import handover
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.clock import Clock, SystemClock
from meshkube.node import pod_proxy
from meshkube.node.delegation import Delegation, Unanswered, Unknown
from meshkube.node.finding import Finder
from meshkube.node.host_logs import HostLogs
from meshkube.node.image_requests import ImageRequests, peer_certificate
from meshkube.node.images import Images
from meshkube.node.inspection import Inspection
from meshkube.node.measuring import Meter
from meshkube.node.permission import Caller, bearer, caller, permitted
from meshkube.node.pod_proxy import PodProxy
from meshkube.node.probe_metrics import PROBES
from meshkube.node.records import Records
from meshkube.node.runtime import NotFound, Runtime, RuntimeFailure
from meshkube.node.stream_requests import StreamRequests
from meshkube.node.use import VolumeUse

LARGEST_HEAD_LINE = 1024 * 1024
"""Bytes of a request line, as the API server takes them: commands come in it."""


class _Handler(Protocol):
    def add_routes(self, router: web.UrlDispatcher) -> None: ...


class NodeServer:
    """Part `node-server`."""

    name = "node-server"

    def __init__(
        self,
        *,
        runtime: Runtime,
        records: Records,
        images: Images,
        pods: Callable[[], Iterable[Object]],
        volumes: Callable[[], Iterable[VolumeUse]] = tuple,
        directory: str = "/",
        client: Client,
        node_name: str,
        tls: ssl.SSLContext,
        host: str = "0.0.0.0",
        port: int = 10250,
        clock: Clock | None = None,
    ) -> None:
        """`client` acts as the node's user; `tls` holds this server's certificate and verifies the
        clients', where they show one; `pods` are those bound to this node, `volumes` theirs;
        `directory` is where the node keeps files."""
        self._tls = tls
        self._host = host
        self._port = port
        clock = clock or SystemClock()
        finder = Finder(records)
        self._proxy = PodProxy(finder.sandbox)
        self._delegation = Delegation(client, node_name, clock)
        meter = Meter(runtime, records, node_name, clock, volumes, directory)
        self._handlers: list[_Handler] = [
            Inspection(meter, records, pods, PROBES),
            ImageRequests(runtime, images),
            StreamRequests(runtime, finder, clock),
            HostLogs(),
        ]
        self.address: tuple[str, int] | None = None
        """Where it listens, while it does."""

    async def run(self, ready: Callable[[], None]) -> None:
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=1.0,
            max_line_size=LARGEST_HEAD_LINE,
        )
        await runner.setup()
        try:
            for listening in handover.tcp(self._host, self._port):
                await web.SockSite(runner, listening, ssl_context=self._tls).start()
            self.address = runner.addresses[0][:2]
            ready()
            await asyncio.Event().wait()
        finally:
            self.address = None
            await runner.cleanup()
            await self._proxy.aclose()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._permitted, _failures])
        for handler in self._handlers:
            handler.add_routes(application.router)
        application.router.add_route("*", pod_proxy.PATH + "{tail:.*}", self._proxy.handle)
        return application

    @web.middleware
    async def _permitted(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        certificate = peer_certificate(request)
        if not permitted(certificate, request.method, request.path):
            try:
                await self._asked(request, caller(certificate))
            except Unanswered as error:
                raise web.HTTPServiceUnavailable(
                    text=f"the API server could not be asked who may: {error}"
                ) from error
        return await handler(request)

    async def _asked(self, request: web.Request, known: Caller | None) -> None:
        """Raises `HTTPUnauthorized`, `HTTPForbidden`, `Unanswered`."""
        token = bearer(request.headers.get("Authorization", ""))
        try:
            if known is None and not token:
                raise Unknown
            known = known or await self._delegation.caller(token)
        except Unknown:
            raise web.HTTPUnauthorized(text="Unauthorized") from None
        if not await self._delegation.allows(known, request.method, request.path):
            raise web.HTTPForbidden(
                text=f"Forbidden (user={known.name}, verb={request.method}, path={request.path})"
            )


@web.middleware
async def _failures(
    request: web.Request, handler: Callable[[web.Request], object]
) -> web.StreamResponse:
    try:
        return await handler(request)  # type: ignore[misc, no-any-return]
    except NotFound as failure:
        raise web.HTTPNotFound(text=str(failure)) from failure
    except RuntimeFailure as failure:
        raise web.HTTPInternalServerError(text=str(failure)) from failure
