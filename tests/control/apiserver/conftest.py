"""A served API, and a way to ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshkube.control.apiserver.registry import Registry
from tests.support.api import Served, running_registry, serving_api
from tests.support.asking import Asker, asking
from tests.support.disk import small_disk
from tests.support.etcd_fixtures import etcd_cluster, etcd_url

__all__ = ["etcd_cluster", "etcd_url", "small_disk"]


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    async with running_registry(tmp_path) as registry:
        yield registry


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving_api(tmp_path) as served:
        yield served


@pytest.fixture
async def ask(served: Served) -> AsyncIterator[Asker]:
    async with asking(served) as asker:
        yield asker
