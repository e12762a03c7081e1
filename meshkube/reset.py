"""Takes every trace of meshkube off this host: containers, network, rules, addresses, data."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from meshkube import dataplane
from meshkube.config import Config, ConfigError
from meshkube.daemon import is_running
from meshkube.dns import address
from meshkube.node import docker_admin
from meshkube.node.log_links import LogLinks
from meshkube.node.runtime import RuntimeFailure


def reset(config: Config) -> Iterator[str]:
    """Removes it all, saying what, a line each; may be run again, and where only some of it is
    there. Raises `ConfigError` while a server holds the data directory."""
    if is_running(config.data_dir):
        raise ConfigError(f"--data-dir: a server runs on {config.data_dir}: stop it first")
    yield from asyncio.run(_containers(config))
    with contextlib.suppress(OSError):
        # Their logs have gone with them.
        LogLinks(config.pod_logs).sweep()
    yield from (f"removed {what}" for what in dataplane.teardown())
    try:
        if address.teardown(config.cluster_dns):
            yield f"removed address {config.cluster_dns}"
    except OSError as error:
        yield f"could not remove address {config.cluster_dns}: {error}"
    yield from _data(config.data_dir)


async def _containers(config: Config) -> list[str]:
    if config.runtime == "hollow":
        return []
    try:
        async with docker_admin.engine(config.docker) as docker:
            return [f"removed {what}" for what in await docker_admin.remove_all(docker)]
    except RuntimeFailure as error:
        return [f"no containers removed: {error}"]


def _data(directory: Path) -> Iterator[str]:
    if not directory.exists():
        return
    # Volumes in memory and on servers are mounts; what is on a server is not ours to remove.
    for point in _mounts(directory):
        with contextlib.suppress(OSError):
            subprocess.run(["umount", "-l", point], check=False)
    left = _mounts(directory)
    if left:
        yield f"kept {directory}: still mounted: {', '.join(left)}"
        return
    shutil.rmtree(directory)
    yield f"removed {directory}"


def _mounts(directory: Path) -> list[str]:
    """What is mounted below, the innermost first. The kernel writes blanks as octal numbers."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    points = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return sorted((each for each in points if each.startswith(f"{directory}/")), reverse=True)
