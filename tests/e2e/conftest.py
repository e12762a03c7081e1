"""One real cluster for the end-to-end tests: Docker, daemon, kernel rules, real clients."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster, running_cluster
from tests.support import kubectl as client

NEEDED = ("dockerd", "docker", "nft", "ip", "nsenter", "busybox", "curl", "dig", "openssl")


@pytest.fixture(scope="session")
def _machine() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces and Docker")
    missing = [tool for tool in NEEDED if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"not on this machine: {', '.join(missing)}")


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
        yield running
