"""A real API for tests: a registry over a SqliteStore in a temporary directory."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meshkube import credentials
from meshkube.client.http import HttpClient
from meshkube.clock import Clock, SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.control.apiserver.server import ApiServer
from meshkube.store import Store
from meshkube.store.etcd import EtcdStore
from meshkube.store.sqlite import SqliteStore

START_SECONDS = 30.0
"""Far more than it takes, but where the machine has other work."""


@contextlib.asynccontextmanager
async def running_registry(
    tmp_path: Path,
    clock: Clock | None = None,
    *,
    etcd: str = "",
    store: Store | None = None,
    **settings: Any,
) -> AsyncIterator[Registry]:
    """A registry whose caches move, with the objects every cluster has. Over that store, or the
    etcd at that URL, where one is given."""
    own = store is None
    if etcd:
        store = await EtcdStore.open(etcd)
    elif store is None:
        store = await SqliteStore.open(tmp_path / "store.db")
    ready = asyncio.Event()
    try:
        registry = Registry(store=store, clock=clock or SystemClock(), **settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(registry.run(ready.set))
            async with asyncio.timeout(START_SECONDS):
                await ready.wait()
            try:
                yield registry
            finally:
                task.cancel()
    finally:
        if own:
            await store.aclose()


@contextlib.asynccontextmanager
async def running_api(
    tmp_path: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[LocalClient]:
    """A Client of such a registry."""
    async with running_registry(tmp_path, clock, **settings) as registry:
        yield LocalClient(registry)


@dataclass(frozen=True, slots=True)
class Served:
    """An API over HTTPS on loopback."""

    url: str
    registry: Registry
    kubeconfig: Path
    tls: ssl.SSLContext
    """With the admin's certificate."""
    credentials: credentials.Credentials

    def client(self) -> HttpClient:
        """Close it, or use it in `async with`."""
        return HttpClient(self.url, self.tls)


@contextlib.asynccontextmanager
async def serving_api(
    tmp_path: Path, clock: Clock | None = None, *, server: Any = None, **settings: Any
) -> AsyncIterator[Served]:
    """An API server on a free port; `server` are further arguments of `ApiServer`."""
    keys = await asyncio.to_thread(
        credentials.ensure, tmp_path / "pki", node_name="test", addresses=[], domain="cluster.local"
    )
    async with running_registry(tmp_path, clock, **settings) as registry:
        api = ApiServer(
            registry=registry,
            listen=("127.0.0.1", 0),
            tls=keys.server_context("api-server", require_client=False),
            node_tls=keys.client_context("api-client"),
            **(server or {}),
        )
        ready = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(api.run(ready.set))
            async with asyncio.timeout(START_SECONDS):
                await ready.wait()
            url = f"https://127.0.0.1:{api.port}"
            kubeconfig = tmp_path / "kubeconfig.yaml"
            credentials.write_kubeconfig(kubeconfig, keys, url)
            try:
                yield Served(url, registry, kubeconfig, keys.client_context("admin"), keys)
            finally:
                task.cancel()
