"""A node's side of the contract on a real socket: what relays and proxies reach."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

from meshkube.api import kinds
from meshkube.control.apiserver.local import LocalClient
from tests.support.api import Served


@contextlib.asynccontextmanager
async def serving_node(
    served: Served, handle: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
) -> AsyncIterator[LocalClient]:
    """Node `n1`, answering by `handle` over HTTPS to the API server alone; a Client to make what
    runs on it."""
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=1)
    await runner.setup()
    tls = served.credentials.server_context("node-server", require_client=True)
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    client = LocalClient(served.registry)
    status = {
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": runner.addresses[0][1]}},
    }
    await client.create(kinds.NODE, {"metadata": {"name": "n1"}, "status": status})
    try:
        yield client
    finally:
        await runner.cleanup()
