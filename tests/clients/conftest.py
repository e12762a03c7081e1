"""One real cluster for every client: each test is a row of docs/compatibility.md.

A row's text is the name of its test; what does not work is an `xfail` whose reason the page quotes.
"""

from __future__ import annotations

import gc
import itertools
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import machine
from tests.lab.cluster import Cluster, running_cluster
from tests.lab.pods import inside

_numbers = itertools.count(1)
_HERE = Path(__file__).parent
# What the clients themselves leave open or call by an old name is no fault of ours.
_THEIRS = ("ResourceWarning", "DeprecationWarning", "pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks every row with what it needs."""
    for item in items:
        if item.path.parent == _HERE:
            for mark in (pytest.mark.root, pytest.mark.docker):
                item.add_marker(mark)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(60))
            for warning in _THEIRS:
                item.add_marker(pytest.mark.filterwarnings(f"ignore::{warning}"))


@pytest.fixture(scope="module", autouse=True)
def _left_open() -> Iterator[None]:
    """Collects what the clients of a file left open, where it counts against nobody else."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A fresh server with Docker, shared by all rows that this process runs."""
    if machine.why_not():
        pytest.skip(machine.why_not())
    with running_cluster() as running:
        yield running


@pytest.fixture
def here(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with this test inside the network of its host."""
    with inside(cluster.host.name):
        yield cluster


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A namespace of the test's own."""
    name = f"row-{next(_numbers)}"
    cluster.meshkube("apply", "-f", _written(cluster, name))
    return name


def _written(cluster: Cluster, name: str) -> str:
    file = cluster.host.directory / f"{name}.yaml"
    file.write_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}}}\n")
    return str(file)
