"""How much is in directories and on file systems; walks of trees are seldom, and off the loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path

from meshkube.clock import Clock
from meshkube.node.disk_usage import Taken, used
from meshkube.node.use import FileSystem

FRESH = 60.0
"""Seconds for which what a walk found is told again."""
KEPT = 600.0


def file_system(path: str) -> FileSystem:
    """Of the one that `path` is on; zeros where it is gone."""
    try:
        found = os.statvfs(path)
    except OSError:
        return FileSystem()
    unit = found.f_frsize
    return FileSystem(found.f_blocks * unit, found.f_bavail * unit, found.f_files, found.f_favail)


class Sizes:
    """Remembers the sizes of directories."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: dict[str, tuple[float, Taken]] = {}
        self._walking = asyncio.Lock()

    async def of(self, paths: Iterable[str]) -> dict[str, Taken]:
        """At most `FRESH` seconds old."""
        wanted = set(paths)
        async with self._walking:
            now = self._clock.monotonic()
            old = [p for p in wanted if now - self._known.get(p, (-FRESH, Taken()))[0] >= FRESH]
            if old:
                found = await asyncio.to_thread(lambda: [used(Path(path)) for path in old])
                self._known |= {p: (now, size) for p, size in zip(old, found, strict=True)}
            for path in [p for p, (at, _) in self._known.items() if now - at > KEPT]:
                del self._known[path]
        return {path: self._known[path][1] for path in wanted}
