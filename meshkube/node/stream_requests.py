"""The node server's streams of containers: logs, exec, attach, port-forward, run."""

from __future__ import annotations

import asyncio
import functools
import os

from aiohttp import web
from multidict import MultiMapping

from meshkube.clock import Clock
from meshkube.node import streaming
from meshkube.node.finding import Finder
from meshkube.node.log_request import BadLogRequest, parse_log_request
from meshkube.node.port_forward_request import answer_port_forward
from meshkube.node.remote import NoCommonProtocol, Wanted, accepted
from meshkube.node.runtime import Process, Runtime, RuntimeFailure
from meshkube.tunnel.pipe import StreamPipe

RUN_SECONDS = 120.0
LARGEST_RUN = 1024 * 1024
"""Bytes of output that `/run` answers with."""


class StreamRequests:
    """Raises `RuntimeFailure` and `HTTPException`, like every handler of the server."""

    def __init__(self, runtime: Runtime, finder: Finder, clock: Clock) -> None:
        self._runtime = runtime
        self._finder = finder
        self._clock = clock

    def add_routes(self, router: web.UrlDispatcher) -> None:
        container = "/{namespace}/{pod}/{container}"
        router.add_get("/containerLogs" + container, self._logs)
        router.add_post("/run" + container, self._run)
        for method in ("GET", "POST"):
            add = functools.partial(router.add_route, method)
            add("/exec" + container, self._exec)
            add("/attach" + container, self._attach)
            add("/portForward/{namespace}/{pod}", self._port_forward)

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        try:
            wanted = parse_log_request(request.query, self._clock.now())
        except BadLogRequest as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        record = self._finder.container(request, previous=wanted.previous)
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
        record = self._finder.running(request)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least 1 command")
        wanted = _wanted(request.query)
        process = await self._runtime.exec(record.id, command, stdin=wanted.stdin, tty=wanted.tty)
        return await _connected(request, process, wanted)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        record = self._finder.running(request)
        wanted = _wanted(request.query)
        process = await self._runtime.attach(record.id, stdin=wanted.stdin)
        return await _connected(request, process, wanted)

    async def _port_forward(self, request: web.Request) -> web.StreamResponse:
        sandbox = self._finder.sandbox(request)

        async def connect(port: int) -> StreamPipe:
            try:
                return await self._runtime.connect(sandbox, port)
            except OSError as error:
                raise RuntimeFailure(
                    f"failed to connect to localhost:{port} inside pod {sandbox.pod.name}: "
                    f"{os.strerror(error.errno) if error.errno else error or 'no answer in time'}"
                ) from error

        return await answer_port_forward(request, connect)

    async def _run(self, request: web.Request) -> web.StreamResponse:
        """A command's whole output at once."""
        record = self._finder.running(request)
        command = request.query.get("cmd", "").split()
        if not command:
            raise web.HTTPBadRequest(text="you must specify a command in cmd")
        process = await self._runtime.exec(record.id, command)
        output = bytearray()
        try:
            async with asyncio.timeout(RUN_SECONDS):
                while (piece := await process.read()) is not None:
                    output += piece.data[: LARGEST_RUN - len(output)]
                code = await process.exit_code()
        except TimeoutError:
            await process.kill()
            raise web.HTTPGatewayTimeout(text=f"still running after {RUN_SECONDS:g} s") from None
        finally:
            await process.close()
        return web.Response(body=bytes(output), status=500 if code else 200)


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
