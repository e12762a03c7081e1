"""Answers balancers in front of the cluster that ask whether this node has endpoints of a Service.

One HTTP listener for each `healthCheckNodePort`: 200 where there are some, else 503. Source:
Kubernetes document "Virtual IPs and Service Proxies", health checks.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable

from meshkube.dataplane.services import Health

log = logging.getLogger(__name__)

RETRY = 5.0
_LONGEST = 10.0
"""Seconds that a client may take for its request."""


class HealthPorts:
    """`healthy` says whether this node's rules are in step with the API."""

    def __init__(self, healthy: Callable[[], bool]) -> None:
        self._healthy = healthy
        self._wanted: dict[str, Health] = {}
        """By the key of the Service."""
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
        ports = {health.port for health in self._wanted.values()}
        for port in self._servers.keys() - ports:
            self._servers.pop(port).close()
        for port in sorted(ports - self._servers.keys()):
            try:
                self._servers[port] = await asyncio.start_server(self._answer(port), None, port)
                self._refused.discard(port)
            except OSError as error:
                if port not in self._refused:
                    log.error("health check port", extra={"port": port, "reason": str(error)})
                self._refused.add(port)
        return bool(ports - self._servers.keys())

    def _answer(
        self, port: int
    ) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                async with asyncio.timeout(_LONGEST):
                    await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._response(port))
                    await writer.drain()
            except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError):
                pass
            finally:
                writer.close()

        return answer

    def _response(self, port: int) -> bytes:
        found = next((item for item in self._wanted.items() if item[1].port == port), None)
        if found is None:
            return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        key, health = found
        namespace, _, name = key.partition("/")
        healthy = self._healthy()
        body = json.dumps(
            {
                "service": {"namespace": namespace, "name": name},
                "localEndpoints": health.endpoints,
                "serviceProxyHealthy": healthy,
            }
        ).encode()
        good = healthy and health.endpoints > 0
        head = (
            f"HTTP/1.1 {'200 OK' if good else '503 Service Unavailable'}\r\n"
            "Content-Type: application/json\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            f"X-Load-Balancing-Endpoint-Weight: {health.endpoints}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        return head.encode() + body
