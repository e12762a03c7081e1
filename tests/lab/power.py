"""What a power failure does to one test host: nothing of it is left running."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.lab.shell import run

CGROUPS = Path("/sys/fs/cgroup")


def kill_everything(namespace: str, directory: Path) -> None:
    """Kills what runs in the namespace or names the directory, with all its descendants: a
    container has a namespace of its own, but its shim names the directory. Then takes away mounts
    and control groups, which a boot would not find either."""
    containers = [path.name for path in directory.glob("docker/containers/*")]
    deadline = time.monotonic() + 20
    while (found := _processes(namespace, directory)) and time.monotonic() < deadline:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    for mount in reversed(Path("/proc/self/mounts").read_text().splitlines()):
        point = mount.split()[1]
        if point.startswith(f"{directory}/"):
            run("umount", "-l", point, check=False)
    # The engine's run-time state is in memory on a real host.
    shutil.rmtree(directory / "docker-exec", ignore_errors=True)
    for container in containers:
        _remove_cgroups(container)


def _processes(namespace: str, directory: Path) -> set[int]:
    """Those that are there and not yet dead."""
    inside = run("ip", "netns", "pids", namespace, check=False).stdout.split()
    roots = {int(pid) for pid in inside}
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
            if state == "Z":
                roots.discard(int(entry.name))
                continue
            parents[int(entry.name)] = int(parent)
            if f"{directory}/".encode() in (entry / "cmdline").read_bytes():
                roots.add(int(entry.name))
    below = {pid for pid in parents if _descends(pid, parents, roots)}
    return (roots | below) - set(_ancestors(os.getpid(), parents))


def _descends(pid: int, parents: dict[int, int], roots: set[int]) -> bool:
    while pid in parents:
        if pid in roots:
            return True
        pid = parents[pid]
    return False


def _ancestors(pid: int, parents: dict[int, int]) -> Iterator[int]:
    """The process and those above it."""
    while pid:
        yield pid
        pid = parents.get(pid, 0)


def _remove_cgroups(container: str) -> None:
    for pattern in (f"*/docker/{container}", f"docker/{container}"):
        for group in CGROUPS.glob(pattern):
            with contextlib.suppress(OSError):
                group.rmdir()
