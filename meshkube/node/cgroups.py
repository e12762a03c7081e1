"""What a container uses, read straight from its control groups, version 1 and 2.

Source: the Linux kernel documents, "Control Group v2" and "Control Groups version 1"; the working
set is what the kubelet takes for it: what is used without file pages that nobody used lately.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from meshkube.node.runtime import Stats, Throttled, Transfers

_V1 = ("cpu", "cpuacct", "memory", "pids", "blkio")
_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_UNLIMITED = 1 << 62
"""From here on a limit of version 1 means none."""


@dataclass(frozen=True, slots=True)
class Mounts:
    """Where control groups are mounted: `(directory, the group it shows)`."""

    unified: tuple[Path, str] | None
    controllers: Mapping[str, tuple[Path, str]]


@dataclass(frozen=True, slots=True)
class Place:
    """The directories of one process's groups. With `unified` set, that is the only one."""

    unified: Path | None
    controllers: Mapping[str, Path]


def mounts(mountinfo: str) -> Mounts:
    """Out of `/proc/self/mountinfo`."""
    unified: tuple[Path, str] | None = None
    controllers: dict[str, tuple[Path, str]] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, about = before.split(), after.split()
        if len(fields) < 5 or len(about) < 3:
            continue
        place = (Path(fields[4]), fields[3])
        if about[0] == "cgroup2":
            unified = unified or place
        elif about[0] == "cgroup":
            for name in about[2].split(","):
                if name in _V1:
                    controllers.setdefault(name, place)
    return Mounts(unified, controllers)


def place_of(membership: str, mounted: Mounts, id: str) -> Place | None:
    """Out of `/proc/PID/cgroup`; None where that process is not in a group named after the
    container `id`: the number is another process's by now, or of another process namespace."""
    if id not in membership:
        return None
    unified: Path | None = None
    controllers = {}
    for line in membership.splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if not names and mounted.unified is not None:
            unified = _below(mounted.unified, path)
        for name in names.split(","):
            if name in mounted.controllers:
                controllers[name] = _below(mounted.controllers[name], path)
    if "memory" in controllers and "cpuacct" in controllers:
        return Place(None, controllers)
    return Place(unified, {}) if unified is not None else None


def _below(mounted: tuple[Path, str], path: str) -> Path:
    directory, root = mounted
    return directory / os.path.relpath(path, root)


def find(pid: int, id: str, mounted: Mounts) -> Place | None:
    try:
        return place_of(Path(f"/proc/{pid}/cgroup").read_text(), mounted, id)
    except OSError:
        return None


def here() -> Mounts:
    """Where this host has them."""
    return mounts(Path("/proc/self/mountinfo").read_text())


def read(place: Place, *, whole: bool) -> Stats | None:
    """The counts now, without `whole` only CPU time and memory; None where the group is gone."""
    try:
        if place.unified is not None:
            return _read_v2(place.unified, whole)
        return _read_v1(place.controllers, whole)
    except (OSError, ValueError):
        return None


def _read_v2(group: Path, whole: bool) -> Stats:
    cpu = _pairs(group / "cpu.stat")
    memory = _pairs(group / "memory.stat")
    used = int((group / "memory.current").read_text())
    times = Stats(
        datetime.now(UTC),
        cpu.get("usage_usec", 0) * 1000,
        max(0, used - memory.get("inactive_file", 0)),
        memory_usage=used,
        rss=memory.get("anon", 0),
        faults=memory.get("pgfault", 0),
        major_faults=memory.get("pgmajfault", 0),
    )
    if not whole:
        return times
    return replace(
        times,
        cpu_user=cpu.get("user_usec", 0) * 1000,
        cpu_system=cpu.get("system_usec", 0) * 1000,
        throttled=Throttled(
            cpu.get("nr_periods", 0),
            cpu.get("nr_throttled", 0),
            cpu.get("throttled_usec", 0) * 1000,
        ),
        memory_limit=_number(group / "memory.max"),
        cache=memory.get("file", 0),
        mapped=memory.get("file_mapped", 0),
        swap=_number(group / "memory.swap.current"),
        processes=_number(group / "pids.current"),
        disk=_disk_v2(group / "io.stat"),
    )


def _read_v1(groups: Mapping[str, Path], whole: bool) -> Stats:
    memory = _pairs(groups["memory"] / "memory.stat")
    used = int((groups["memory"] / "memory.usage_in_bytes").read_text())
    times = Stats(
        datetime.now(UTC),
        int((groups["cpuacct"] / "cpuacct.usage").read_text()),
        max(0, used - memory.get("total_inactive_file", 0)),
        memory_usage=used,
        rss=memory.get("total_rss", 0),
        faults=memory.get("total_pgfault", 0),
        major_faults=memory.get("total_pgmajfault", 0),
    )
    if not whole:
        return times
    ticks = _pairs(groups["cpuacct"] / "cpuacct.stat")
    cpu = _pairs(groups["cpu"] / "cpu.stat") if "cpu" in groups else {}
    limit = memory.get("hierarchical_memory_limit", 0)
    return replace(
        times,
        cpu_user=ticks.get("user", 0) * _TICK,
        cpu_system=ticks.get("system", 0) * _TICK,
        throttled=Throttled(
            cpu.get("nr_periods", 0), cpu.get("nr_throttled", 0), cpu.get("throttled_time", 0)
        ),
        memory_limit=limit if limit < _UNLIMITED else 0,
        cache=memory.get("total_cache", 0),
        mapped=memory.get("total_mapped_file", 0),
        swap=memory.get("total_swap", 0),
        processes=_number(groups["pids"] / "pids.current") if "pids" in groups else 0,
        disk=_disk_v1(groups["blkio"]) if "blkio" in groups else Transfers(),
    )


def _pairs(path: Path) -> dict[str, int]:
    """A file of lines such as `nr_periods 12`; empty where there is none."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return {}
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def _number(path: Path) -> int:
    """The one number of a file; 0 for `max`, and where there is no such file."""
    try:
        text = path.read_text().strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def _disk_v2(path: Path) -> Transfers:
    """Lines such as `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`."""
    totals = dict.fromkeys(("rios", "wios", "rbytes", "wbytes"), 0)
    for line in _lines(path):
        for word in line.split()[1:]:
            name, _, value = word.partition("=")
            if name in totals and value.isdigit():
                totals[name] += int(value)
    return Transfers(*totals.values())


def _disk_v1(group: Path) -> Transfers:
    """Lines such as `8:0 Read 4096` of two files."""
    counts: list[int] = []
    for file in ("io_serviced", "io_service_bytes"):
        totals = {"Read": 0, "Write": 0}
        for line in _lines(group / f"blkio.throttle.{file}_recursive"):
            words = line.split()
            if len(words) == 3 and words[1] in totals:
                totals[words[1]] += int(words[2])
        counts += totals.values()
    return Transfers(*counts)


def _lines(path: Path) -> Iterable[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return ()
