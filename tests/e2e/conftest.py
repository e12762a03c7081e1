"""One real cluster for the end-to-end tests: Docker, daemon, kernel rules, real clients."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import machine
from tests.lab.cluster import Cluster, running_cluster
from tests.lab.host import wait_for
from tests.support import kubectl as client


@pytest.fixture(scope="session")
def _machine() -> None:
    if machine.why_not():
        pytest.skip(machine.why_not())


@pytest.fixture(scope="session")
def kubectl() -> None:
    """Skips where kubectl is absent or too old to judge by."""
    if client.why_not():
        pytest.skip(client.why_not())


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    """A running cluster with the quickstart on it, for one file of tests."""
    with running_cluster() as running:
        running.apply_quickstart()
        wait_for(lambda: running.routes("/user") and running.routes("/products"), 10, "the ingress")
        yield running
