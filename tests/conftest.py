"""What all tests share: which of them must run on one worker."""

from __future__ import annotations

import pytest

# Each file here starts something that takes seconds, once for all its tests: a cluster, a dockerd.
TOGETHER = ("/e2e/", "_docker.py", "/dataplane/test_docker", "/store/test_etcd")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of such a file go to one worker (pytest-xdist, `--dist loadgroup`)."""
    for item in items:
        if any(part in str(item.path) for part in TOGETHER):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
