"""A real API for tests: a registry over a SqliteStore in a temporary directory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshkube.clock import Clock, SystemClock
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.store.sqlite import SqliteStore


@contextlib.asynccontextmanager
async def running_registry(
    tmp_path: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[Registry]:
    """A registry whose caches move, with the objects every cluster has."""
    store = await SqliteStore.open(tmp_path / "store.db")
    ready = asyncio.Event()
    try:
        registry = Registry(store=store, clock=clock or SystemClock(), **settings)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(registry.run(ready.set))
            async with asyncio.timeout(10):
                await ready.wait()
            try:
                yield registry
            finally:
                task.cancel()
    finally:
        await store.aclose()


@contextlib.asynccontextmanager
async def running_api(
    tmp_path: Path, clock: Clock | None = None, **settings: Any
) -> AsyncIterator[LocalClient]:
    """A Client of such a registry."""
    async with running_registry(tmp_path, clock, **settings) as registry:
        yield LocalClient(registry)
