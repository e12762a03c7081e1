"""How much of the disk a directory takes. It blocks: call it in a thread."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Taken(NamedTuple):
    """Bytes, and files of any kind."""

    size: int = 0
    files: int = 0

    def plus(self, other: Taken) -> Taken:
        return Taken(self.size + other.size, self.files + other.files)


def used(path: Path) -> Taken:
    """What is on the disk at and below `path`; each file counts once, whatever its names; what is
    mounted below is something else's."""
    size, seen = 0, set()
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return Taken()
    for status in _all(str(path)):
        if status.st_dev == device and status.st_ino not in seen:
            seen.add(status.st_ino)
            size += status.st_blocks * 512
    return Taken(size, len(seen))


def _all(path: str) -> Iterator[os.stat_result]:
    yield os.lstat(path)
    waiting = [path]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            # A file, or gone meanwhile.
            continue
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            yield status
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
