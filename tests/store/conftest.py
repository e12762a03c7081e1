from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from meshkube.store.base import Store
from meshkube.store.sqlite import SqliteStore

OpenStore = Callable[[], Awaitable[Store]]


@pytest.fixture(params=["sqlite"])
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens the store of this test, again after it was closed too: what was in it is still there.

    A new backend adds a parameter here, and then has the whole contract to pass.
    """
    opened: list[Store] = []

    async def open_sqlite() -> Store:
        store = await SqliteStore.open(tmp_path / "store.db")
        opened.append(store)
        return store

    yield {"sqlite": open_sqlite}[request.param]
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()
