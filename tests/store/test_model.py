"""Any sequence of operations does to a store what it does to a plain list of changes."""

import itertools
import tempfile
from pathlib import Path

import pytest

from meshkube.store.base import Store
from meshkube.store.etcd import EtcdStore
from meshkube.store.sqlite import SqliteStore
from tests.support import etcd
from tests.support.store_machine import StoreMachine, bounds


class SqliteMachine(StoreMachine):
    def __init__(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        super().__init__()

    async def open(self) -> Store:
        return await SqliteStore.open(Path(self.directory.name) / "store.db")

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


class EtcdMachine(StoreMachine):
    cluster: etcd.Cluster
    numbers = itertools.count()

    def __init__(self) -> None:
        self.url = f"{self.cluster.url}/model-{next(self.numbers)}"
        super().__init__()

    def base(self) -> int:
        return self.cluster.revision()

    async def open(self) -> Store:
        return await EtcdStore.open(self.url)


class TestSqlite(SqliteMachine.TestCase):  # type: ignore[name-defined,misc]
    settings = bounds(20)


class TestEtcd(EtcdMachine.TestCase):  # type: ignore[name-defined,misc]
    settings = bounds(10)

    @pytest.fixture(autouse=True)
    def _cluster(self, etcd_cluster: etcd.Cluster) -> None:
        EtcdMachine.cluster = etcd_cluster
