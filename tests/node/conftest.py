"""One lab host with a Docker Engine of its own, for all of this room's tests in one process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.lab.host import Host, lab
from tests.node.world import import_busybox


@pytest.fixture(scope="session")
def docker_host() -> Iterator[Host]:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for command in ("dockerd", "ip", "nsenter"):
        if shutil.which(command) is None:
            pytest.skip(f"needs {command}")
    if not os.path.exists("/usr/bin/busybox"):
        pytest.skip("needs busybox-static")
    with lab(1, docker=True) as (host,):
        import_busybox(host)
        yield host
