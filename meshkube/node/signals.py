"""What is left on this host, signal by signal. Blocking, but brief: a few files and calls."""

from __future__ import annotations

import os
from pathlib import Path

from meshkube.node.machine import memory_field, processes
from meshkube.node.thresholds import Amount, Observations, Signal


def read(node_directory: Path, image_directory: Path | None) -> Observations:
    """The file system of `node_directory` is `nodefs`; that of `image_directory` is `imagefs`,
    where it is another one. What cannot be read is left out."""
    found: dict[Signal, Amount] = {}
    if memory_field("MemTotal"):
        # What the kernel could give to somebody at once: unlike the kubelet's working set, without
        # file pages that were used lately but can be dropped.
        found["memory.available"] = Amount(memory_field("MemAvailable"), memory_field("MemTotal"))
    _add_filesystem(found, "nodefs.available", "nodefs.inodesFree", node_directory)
    if image_directory is not None and not _same_filesystem(node_directory, image_directory):
        _add_filesystem(found, "imagefs.available", "imagefs.inodesFree", image_directory)
    running, most = processes()
    found["pid.available"] = Amount(max(0, most - running), most)
    return found


def existing(path: Path) -> Path:
    """The path, or of what there is above it the nearest."""
    while not path.exists():
        path = path.parent
    return path


def filesystem(path: Path) -> Amount | None:
    """Bytes of the file system that `path` is on, or will be."""
    try:
        stats = os.statvfs(existing(path))
    except OSError:
        return None
    return Amount(stats.f_frsize * stats.f_bavail, stats.f_frsize * stats.f_blocks)


def _add_filesystem(found: dict[Signal, Amount], size: Signal, inodes: Signal, path: Path) -> None:
    try:
        stats = os.statvfs(existing(path))
    except OSError:
        return
    found[size] = Amount(stats.f_frsize * stats.f_bavail, stats.f_frsize * stats.f_blocks)
    if stats.f_files:
        # Some file systems make inodes as they need them, and count none.
        found[inodes] = Amount(stats.f_favail, stats.f_files)


def _same_filesystem(one: Path, other: Path) -> bool:
    try:
        return os.stat(existing(one)).st_dev == os.stat(other).st_dev
    except OSError:
        # Of another machine's engine, perhaps.
        return True
