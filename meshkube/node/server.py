"""The node's HTTPS server, port 10250: logs, exec, attach, statistics, as the kubelet serves them.

The TLS context that is passed in demands a certificate of the cluster's CA; `permission` says which
of those may ask for what.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import ssl
from collections.abc import Callable

import orjson
from aiohttp import web
from multidict import MultiMapping

from meshkube.clock import Clock, SystemClock
from meshkube.node import pod_proxy, streaming
from meshkube.node.image_requests import ImageRequests
from meshkube.node.images import Images
from meshkube.node.log_request import BadLogRequest, parse_log_request
from meshkube.node.permission import permitted
from meshkube.node.pod_proxy import PodProxy
from meshkube.node.port_forward_request import answer_port_forward
from meshkube.node.records import Records
from meshkube.node.remote import NoCommonProtocol, Wanted, accepted
from meshkube.node.runtime import SANDBOX, NotFound, Process, Record, Runtime, RuntimeFailure
from meshkube.node.summary import summary
from meshkube.tunnel.pipe import StreamPipe

log = logging.getLogger(__name__)


class NodeServer:
    """Part `node-server`."""

    name = "node-server"

    def __init__(
        self,
        *,
        runtime: Runtime,
        records: Records,
        images: Images,
        node_name: str,
        tls: ssl.SSLContext,
        host: str = "0.0.0.0",
        port: int = 10250,
        clock: Clock | None = None,
    ) -> None:
        """`tls` holds this server's certificate and demands the clients'."""
        self._runtime = runtime
        self._records = records
        self._node_name = node_name
        self._tls = tls
        self._host = host
        self._port = port
        self._clock: Clock = clock or SystemClock()
        self._proxy = PodProxy(self._sandbox)
        self._images = ImageRequests(runtime, images)
        self.address: tuple[str, int] | None = None
        """Where it listens, while it does."""

    async def run(self, ready: Callable[[], None]) -> None:
        runner = web.AppRunner(
            self._application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, ssl_context=self._tls)
            await site.start()
            self.address = runner.addresses[0][:2]
            ready()
            await asyncio.Event().wait()
        finally:
            self.address = None
            await runner.cleanup()
            await self._proxy.aclose()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[_permitted, _failures])
        target = "/{namespace}/{pod}/{container}"
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/stats/summary", self._summary)
        self._images.add_routes(application.router)
        application.router.add_route("*", pod_proxy.PATH + "{tail:.*}", self._proxy.handle)
        application.router.add_get("/containerLogs" + target, self._logs)
        for method in ("GET", "POST"):
            add = functools.partial(application.router.add_route, method)
            add("/exec" + target, self._exec)
            add("/attach" + target, self._attach)
            add("/portForward/{namespace}/{pod}", self._port_forward)
        return application

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _summary(self, request: web.Request) -> web.Response:
        found = await summary(self._runtime, self._records, self._node_name, self._clock)
        return web.json_response(body=orjson.dumps(found))

    def _find(self, request: web.Request, *, previous: bool = False) -> Record:
        """The container that a path names: the newest attempt, or the one before.
        Raises `HTTPBadRequest`."""
        info = request.match_info
        namespace, pod, name = info["namespace"], info["pod"], info["container"]
        found = [
            record
            for uid in self._records.uids()
            for record in self._records.of(uid)
            if record.name == name != SANDBOX and record.pod[:2] == (namespace, pod)
        ]
        found.sort(key=lambda record: record.created)
        if not found:
            raise web.HTTPBadRequest(
                text=f'container "{name}" in pod "{pod}" is waiting to start: ContainerCreating'
            )
        if not previous:
            return found[-1]
        same_pod = [record for record in found if record.pod.uid == found[-1].pod.uid]
        if len(same_pod) < 2:
            raise web.HTTPBadRequest(
                text=f'previous terminated container "{name}" in pod "{pod}" not found'
            )
        return same_pod[-2]

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = parse_log_request(request.query, self._clock.now())
        except BadLogRequest as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        record = self._find(request, previous=wanted.previous)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        left = wanted.limit_bytes
        lines = self._runtime.logs(record.id, wanted.options)
        try:
            # The first piece before the answer begins: what fails at once gets a proper status.
            piece = await anext(lines, None)
            await response.prepare(request)
            while piece is not None:
                if piece.stream in wanted.streams:
                    data = piece.data if left is None else piece.data[:left]
                    await response.write(data)
                    left = None if left is None else left - len(data)
                if left == 0:
                    break
                piece = await anext(lines, None)
        finally:
            close = getattr(lines, "aclose", None)
            if close is not None:
                await close()
        await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        record = self._running(request)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least 1 command")
        wanted = _wanted(request.query)
        process = await self._runtime.exec(record.id, command, stdin=wanted.stdin, tty=wanted.tty)
        return await _connected(request, process, wanted)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        record = self._running(request)
        wanted = _wanted(request.query)
        process = await self._runtime.attach(record.id, stdin=wanted.stdin)
        return await _connected(request, process, wanted)

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        sandbox = self._sandbox(request)

        async def connect(port: int) -> StreamPipe:
            try:
                return await self._runtime.connect(sandbox, port)
            except OSError as error:
                raise RuntimeFailure(
                    f"failed to connect to localhost:{port} inside pod {sandbox.pod.name}: "
                    f"{os.strerror(error.errno) if error.errno else error or 'no answer in time'}"
                ) from error

        return await answer_port_forward(request, connect)

    def _sandbox(self, request: web.Request) -> Record:
        """The sandbox of the pod that a path names. Raises `HTTPNotFound`."""
        namespace, pod = request.match_info["namespace"], request.match_info["pod"]
        for uid in self._records.uids():
            for record in self._records.of(uid):
                found = record.pod[:2] == (namespace, pod) and record.name == SANDBOX
                if found and record.state == "running":
                    return record
        raise web.HTTPNotFound(text=f'pod "{pod}" does not run on this node')

    def _running(self, request: web.Request) -> Record:
        record = self._find(request)
        if record.state != "running":
            raise web.HTTPBadRequest(
                text=f"container {record.name} is not running in pod {record.pod.name}"
            )
        return record


async def _connected(request: web.Request, process: Process, wanted: Wanted) -> web.StreamResponse:
    """Connects the client with the process, until one of them ends."""
    try:
        async with accepted(request, wanted) as (remote, response):
            await streaming.stream(remote, process, stdout=wanted.stdout, stderr=wanted.stderr)
        return response
    except NoCommonProtocol as error:
        raise web.HTTPBadRequest(text=str(error)) from error
    finally:
        await process.close()


def _wanted(query: MultiMapping[str]) -> Wanted:
    tty = _flag(query, "tty")
    return Wanted(
        stdin=_flag(query, "stdin", "input"),
        stdout=_flag(query, "stdout", "output"),
        stderr=_flag(query, "stderr", "error") and not tty,
        tty=tty,
    )


def _flag(query: MultiMapping[str], *names: str) -> bool:
    return any(query.get(name, "").lower() in ("1", "true") for name in names)


@web.middleware
async def _permitted(
    request: web.Request, handler: Callable[[web.Request], object]
) -> web.StreamResponse:
    transport = request.transport
    certificate = transport.get_extra_info("peercert") if transport is not None else None
    if not permitted(certificate, request.method, request.path):
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
