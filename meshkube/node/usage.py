"""Ends a pod that fills an emptyDir beyond its `sizeLimit`, as the kubelet's local storage eviction
does. Volumes in memory need no look: their file system has that size."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from meshkube.api import quantities
from meshkube.api.types import Object
from meshkube.clock import Clock

PERIOD = 10.0


def limits(pod: Object) -> dict[str, str]:
    """The limits of the pod's volumes on disk, by volume."""
    found = {}
    for volume in pod["spec"].get("volumes") or ():
        source = volume.get("emptyDir") or {}
        limit = source.get("sizeLimit")
        if limit and source.get("medium") != "Memory" and quantities.value(limit) > 0:
            found[volume["name"]] = str(limit)
    return found


def used(path: Path) -> int:
    """Bytes on disk below `path`; each file counts once, whatever its names. It blocks."""
    total, seen = 0, set()
    for folder, _, names in os.walk(path):
        for name in (*names, "."):
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


async def watch(
    pod: Object, path_of: Callable[[str], Path], clock: Clock, over: Callable[[str], None]
) -> None:
    """Calls `over` with the reason once a volume holds more than it may; returns then, and at once
    where nothing is limited."""
    limited = limits(pod)
    while limited:
        await clock.sleep(PERIOD)
        for name, limit in limited.items():
            if await asyncio.to_thread(used, path_of(name)) > quantities.value(limit):
                over(f'Usage of EmptyDir volume "{name}" exceeds the limit "{limit}".')
                return
