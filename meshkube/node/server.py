"""The node's HTTPS server, port 10250: logs, exec, attach, statistics, as the kubelet serves them.

The TLS context that is passed in demands a certificate of the cluster's CA; `permission` says which
of those may ask for what.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Protocol

from aiohttp import web

from meshkube import handover
from meshkube.api.types import Object
from meshkube.clock import Clock, SystemClock
from meshkube.node import pod_proxy
from meshkube.node.finding import Finder
from meshkube.node.host_logs import HostLogs
from meshkube.node.image_requests import ImageRequests, peer_certificate
from meshkube.node.images import Images
from meshkube.node.inspection import Inspection
from meshkube.node.measuring import Meter
from meshkube.node.permission import permitted
from meshkube.node.pod_proxy import PodProxy
from meshkube.node.probe_metrics import PROBES
from meshkube.node.records import Records
from meshkube.node.runtime import NotFound, Runtime, RuntimeFailure
from meshkube.node.stream_requests import StreamRequests
from meshkube.node.use import VolumeUse


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
        node_name: str,
        tls: ssl.SSLContext,
        host: str = "0.0.0.0",
        port: int = 10250,
        clock: Clock | None = None,
    ) -> None:
        """`tls` holds this server's certificate and demands the clients'; `pods` are those bound
        to this node, `volumes` theirs; `directory` is where the node keeps files."""
        self._tls = tls
        self._host = host
        self._port = port
        clock = clock or SystemClock()
        finder = Finder(records)
        self._proxy = PodProxy(finder.sandbox)
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
        application = web.Application(middlewares=[_permitted, _failures])
        for handler in self._handlers:
            handler.add_routes(application.router)
        application.router.add_route("*", pod_proxy.PATH + "{tail:.*}", self._proxy.handle)
        return application


@web.middleware
async def _permitted(
    request: web.Request, handler: Callable[[web.Request], object]
) -> web.StreamResponse:
    if not permitted(peer_certificate(request), request.method, request.path):
        raise web.HTTPForbidden(text=f"this certificate may not {request.method} {request.path}")
    return await handler(request)  # type: ignore[misc, no-any-return]


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
