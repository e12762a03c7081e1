"""What a balancer in front of the cluster hears from a node."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest

from meshkube.clock import SystemClock
from meshkube.dataplane import health_ports
from meshkube.dataplane.health_ports import HealthPorts
from meshkube.dataplane.proxy_health import GOING, ProxyHealth
from meshkube.dataplane.services import Health


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Node:
    """Whether its rules are in step, for the ports to say."""

    healthy = True

    def __init__(self) -> None:
        self.ports = HealthPorts(lambda: self.healthy)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.ensure_future(self.ports.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def ask(port: int, path: str = "") -> tuple[int, dict[str, object]]:
    """Waits for the port to open, at most some seconds."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        while True:
            try:
                async with session.get(f"http://127.0.0.1:{port}/{path}") as answer:
                    return answer.status, await answer.json()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("in_step", "node", "healthz", "livez"),
    [
        (True, {}, 200, 200),
        (True, None, 200, 200),
        (False, {}, 503, 503),
        (True, {"spec": {"taints": [{"key": GOING}]}}, 503, 200),
        (True, {"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, 503, 200),
        (True, {"spec": {"taints": [{"key": "other"}]}}, 200, 200),
    ],
)
async def test_balancers_hear_whether_the_node_serves_and_will(
    port: int, in_step: bool, node: dict[str, object] | None, healthz: int, livez: int
) -> None:
    made = Node()
    told = ProxyHealth(lambda: in_step, lambda: node, SystemClock().now)
    made.ports.serve(port, told.health)
    async with made.running():
        status, body = await ask(port, "healthz")
        assert (status, body["nodeEligible"]) == (healthz, healthz == 200 or not in_step)
        assert body["currentTime"]
        assert (await ask(port, "livez"))[0] == livez


async def closed(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return True
    writer.close()
    return False


async def test_a_node_with_endpoints_is_healthy(port: int) -> None:
    node = Node()
    async with node.running():
        node.ports.put("shop/web", Health(port, 2))
        assert await ask(port) == (
            200,
            {
                "service": {"namespace": "shop", "name": "web"},
                "localEndpoints": 2,
                "serviceProxyHealthy": True,
            },
        )
        node.ports.put("shop/web", Health(port, 0))
        assert (await ask(port))[0] == 503
        node.ports.put("shop/web", Health(port, 1))
        node.healthy = False
        status, body = await ask(port)
        assert (status, body["serviceProxyHealthy"]) == (503, False)


async def test_the_port_goes_with_its_service(port: int) -> None:
    node = Node()
    async with node.running():
        node.ports.put("shop/web", Health(port, 1))
        await ask(port)
        node.ports.put("shop/web", None)
        async with asyncio.timeout(5):
            while not await closed(port):
                await asyncio.sleep(0.02)


async def test_a_port_that_is_taken_is_said_and_had_later(
    port: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_ports, "RETRY", 0.05)
    node = Node()
    with socket.socket() as other:
        other.bind(("0.0.0.0", port))
        other.listen()
        async with node.running():
            node.ports.put("shop/web", Health(port, 1))
            async with asyncio.timeout(5):
                while "health check port" not in caplog.text:
                    await asyncio.sleep(0.02)
            other.close()
            assert (await ask(port))[0] == 200


async def test_nonsense_harms_nobody(port: int) -> None:
    node = Node()
    async with node.running():
        node.ports.put("shop/web", Health(port, 1))
        await ask(port)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"x" * 200_000)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        assert (await ask(port))[0] == 200
