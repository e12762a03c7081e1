"""Answers balancers in front of the cluster that ask whether this node has endpoints of a Service.

One HTTP listener for each `healthCheckNodePort`: 200 where there are some, else 503. Others may
have a port answered in the same way. Source: Kubernetes document "Virtual IPs and Service Proxies",
health checks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from meshkube.dataplane.services import Health

log = logging.getLogger(__name__)

RETRY = 5.0
_LONGEST = 10.0
"""Seconds that a client may take for its request."""

Respond = Callable[[str], bytes]
"""From the path of a request to the whole response."""


def reply(status: int, body: str, kind: str = "application/json", **headers: object) -> bytes:
    """A response after which the connection ends. `headers`: `_` stands for `-`."""
    content = body.encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {kind}",
        "X-Content-Type-Options: nosniff",
        *(f"{name.replace('_', '-')}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(content)}",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


class HealthPorts:
    """`healthy` says whether this node's rules are in step with the API."""

    def __init__(self, healthy: Callable[[], bool]) -> None:
        self._healthy = healthy
        self._wanted: dict[str, Health] = {}
        """By the key of the Service."""
        self._others: dict[int, tuple[str | None, Respond]] = {}
        self._servers: dict[int, asyncio.Server] = {}
        self._refused: set[int] = set()
        self._wake = asyncio.Event()

    def put(self, key: str, health: Health | None) -> None:
        """What a Service (`namespace/name`) has now."""
        before = self._wanted.get(key)
        if health is None:
            self._wanted.pop(key, None)
        else:
            self._wanted[key] = health
        if (before.port if before else 0) != (health.port if health else 0):
            self._wake.set()

    def serve(self, port: int, respond: Respond, host: str | None = None) -> None:
        """Has one more port answered; without `host` at every address. Before `run`."""
        self._others[port] = host, respond

    async def run(self) -> None:
        """Listens until cancelled."""
        try:
            while True:
                self._wake.clear()
                missing = await self._listen()
                try:
                    async with asyncio.timeout(RETRY if missing else None):
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for server in self._servers.values():
                server.close()
            self._servers.clear()

    async def _listen(self) -> bool:
        """Opens and closes what has changed. Whether a port could not be had."""
        ports = {health.port for health in self._wanted.values()} | self._others.keys()
        for port in self._servers.keys() - ports:
            self._servers.pop(port).close()
        for port in sorted(ports - self._servers.keys()):
            try:
                host, _ = self._others.get(port, (None, None))
                self._servers[port] = await asyncio.start_server(self._answer(port), host, port)
                self._refused.discard(port)
            except OSError as error:
                if port not in self._refused:
                    level = logging.WARNING if port in self._others else logging.ERROR
                    extra = {"port": port, "reason": str(error)}
                    log.log(level, "health check port", extra=extra)
                self._refused.add(port)
        return bool(ports - self._servers.keys())

    def _answer(
        self, port: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(_LONGEST):
                    head = await reader.readuntil(b"\r\n\r\n")
                    words = head.split(b"\r\n", 1)[0].decode("latin-1").split()
                    path = words[1].partition("?")[0] if len(words) > 1 else "/"
                    writer.write(self._response(port, path))
                    await writer.drain()
            except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                pass
            finally:
                writer.close()

        return answer

    def _response(self, port: int, path: str) -> bytes:
        if port in self._others:
            return self._others[port][1](path)
        found = next((item for item in self._wanted.items() if item[1].port == port), None)
        if found is None:
            return reply(404, "", "text/plain")
        key, health = found
        namespace, _, name = key.partition("/")
        healthy = self._healthy()
        body = {
            "service": {"namespace": namespace, "name": name},
            "localEndpoints": health.endpoints,
            "serviceProxyHealthy": healthy,
        }
        good = healthy and health.endpoints > 0
        weight = health.endpoints
        return reply(
            200 if good else 503, json.dumps(body), X_Load_Balancing_Endpoint_Weight=weight
        )
