from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from meshkube.store.base import Store
from meshkube.store.etcd import EtcdStore
from meshkube.store.sqlite import SqliteStore
from tests.support.disk import small_disk
from tests.support.etcd_fixtures import etcd_cluster, etcd_url

__all__ = ["etcd_cluster", "etcd_url", "small_disk"]

OpenStore = Callable[[], Awaitable[Store]]
BACKENDS = ["sqlite", "etcd"]


@pytest.fixture(params=BACKENDS)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStore]:
    """Opens the store of this test, again after it was closed too: what was in it is still there.

    A new backend adds a parameter here, and then has the whole contract to pass.
    """
    opened: list[Store] = []
    url = request.getfixturevalue("etcd_url") if request.param == "etcd" else ""

    async def open_one() -> Store:
        store: Store
        if url:
            store = await EtcdStore.open(url)
        else:
            store = await SqliteStore.open(tmp_path / "store.db")
        opened.append(store)
        return store

    yield open_one
    for store in opened:
        await store.aclose()


@pytest.fixture
async def store(open_store: OpenStore) -> Store:
    return await open_store()


@pytest.fixture
def base(open_store: OpenStore, request: pytest.FixtureRequest) -> int:
    """The revision before this test's first write. Other stores move etcd's revision, too: its
    cluster is shared, though not during a test."""
    if "etcd_url" not in request.fixturenames:
        return 0
    return request.getfixturevalue("etcd_cluster").revision()


@pytest.fixture
def flood(request: pytest.FixtureRequest, open_store: OpenStore) -> int:
    """More events than any queue of the store holds: etcd's has none but what sockets hold."""
    return 2_500 if "etcd_url" in request.fixturenames else 12_000
