"""Fixtures for tests on etcd: a conftest imports them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from tests.support import etcd

_prefixes = itertools.count()


@pytest.fixture(scope="session")
def etcd_cluster() -> Iterator[etcd.Cluster]:
    """One member for all tests of this process: each has a prefix of its own."""
    if etcd.ETCD is None:
        pytest.skip("etcd is not installed")
    with etcd.etcd() as cluster:
        yield cluster


@pytest.fixture
def etcd_url(etcd_cluster: etcd.Cluster) -> str:
    """A store that nobody has written to."""
    return f"{etcd_cluster.url}/test-{next(_prefixes)}"
