"""What a container of a Docker Engine has on the disk: the files it wrote, and its logs."""

from __future__ import annotations

import asyncio
import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiodocker

from meshkube.node.disk_usage import Taken, used


async def use(docker: aiodocker.Docker, inspected: Mapping[str, Any]) -> Taken:
    """`inspected` is what `GET /containers/ID/json` says."""
    logs = await asyncio.to_thread(_logs, str(inspected.get("LogPath") or ""))
    layer = ((inspected.get("GraphDriver") or {}).get("Data") or {}).get("UpperDir")
    if layer and await asyncio.to_thread(Path(layer).is_dir):
        return logs.plus(await asyncio.to_thread(used, Path(layer)))
    # Other storage, or another machine's: the engine counts, which takes it longer.
    path = f"containers/{inspected['Id']}/json"
    found = await docker._query_json(path, params={"size": "1"})
    return logs.plus(Taken(int(found.get("SizeRw") or 0)))


def _logs(path: str) -> Taken:
    """The log and those rotated away beside it."""
    taken = Taken()
    for name in glob.glob(glob.escape(path) + "*") if path else ():
        taken = taken.plus(used(Path(name)))
    return taken
