"""Facts about this host: capacity, kernel, operating system, addresses."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from meshkube.node.hosts import Resolver, parse_resolver
from meshkube.node.use import Used

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}
# systemd-resolved's own list of upstreams: /etc/resolv.conf then only names its stub on loopback.
_RESOLVED = Path("/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What does not change while the host is up."""

    cpus: int
    memory: int
    """Bytes."""
    disk: int
    """Bytes of the file system that holds the pods' files."""
    architecture: str
    kernel: str
    os_image: str
    machine_id: str
    boot_id: str
    system_uuid: str


def read_used() -> Used:
    fields: dict[str, list[str]] = {}
    for line in Path("/proc/stat").read_text().splitlines():
        name, *values = line.split()
        fields[name] = values
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields["cpu"][:8])
    ticks = user + nice + system + irq + softirq + steal
    memory, counts = _table("/proc/meminfo"), _table("/proc/vmstat")
    total = memory.get("MemTotal", 0)
    swap_free = memory.get("SwapFree", 0) * 1024
    return Used(
        cpu_nanoseconds=ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK"),
        memory=max(0, total - memory.get("MemAvailable", 0)) * 1024,
        booted=datetime.fromtimestamp(int(fields["btime"][0]), UTC),
        memory_usage=max(0, total - memory.get("MemFree", 0)) * 1024,
        rss=memory.get("AnonPages", 0) * 1024,
        swap=memory.get("SwapTotal", 0) * 1024 - swap_free,
        swap_free=swap_free,
        faults=counts.get("pgfault", 0),
        major_faults=counts.get("pgmajfault", 0),
    )


def processes() -> tuple[int, int]:
    """How many processes and threads there are, and how many there may be."""
    most = min(
        int(_first_line("/proc/sys/kernel/pid_max") or 32768),
        int(_first_line("/proc/sys/kernel/threads-max") or 32768),
    )
    here = int((_first_line("/proc/loadavg") or "0 0 0 1/1").split()[3].partition("/")[2])
    return here, most


def _table(path: str) -> dict[str, int]:
    """A file of lines such as `MemFree:  12 kB` or `pgfault 12`."""
    found = {}
    for line in Path(path).read_text().splitlines():
        words = line.split()
        if len(words) > 1 and words[1].isdigit():
            found[words[0].rstrip(":")] = int(words[1])
    return found


def read_machine(data_dir: Path) -> Machine:
    machine_id = _first_line("/etc/machine-id")
    return Machine(
        cpus=os.cpu_count() or 1,
        memory=memory_field("MemTotal"),
        disk=_disk(data_dir)[0],
        architecture=_ARCHITECTURES.get(platform.machine(), platform.machine()),
        kernel=platform.release(),
        os_image=_os_image(),
        machine_id=machine_id,
        boot_id=_first_line("/proc/sys/kernel/random/boot_id"),
        system_uuid=_first_line("/sys/class/dmi/id/product_uuid") or machine_id,
    )


def total_memory() -> int:
    """Bytes."""
    return memory_field("MemTotal")


def host_names() -> str:
    """The host's own /etc/hosts; empty where it has none."""
    try:
        return Path("/etc/hosts").read_text(errors="replace")
    except OSError:
        return ""


def host_resolver() -> Resolver:
    """The host's own resolv.conf; never one that only names a server on loopback, which pods could
    not reach, where another is known."""
    found = _resolver(Path("/etc/resolv.conf"))
    if found.nameservers and all(a.startswith("127.") for a in found.nameservers):
        better = _resolver(_RESOLVED)
        if better.nameservers:
            return better
    return found


def _resolver(path: Path) -> Resolver:
    try:
        return parse_resolver(path.read_text())
    except OSError:
        return Resolver()


def default_address() -> str:
    """The address this host uses towards others; loopback where it has no route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: it asks the kernel for a route to a documentation address (RFC 5737).
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


def memory_field(field: str) -> int:
    """Bytes, by the name in /proc/meminfo; 0 where it is not there."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == field:
            return int(rest.split()[0]) * 1024
    return 0


def _disk(path: Path) -> tuple[int, int]:
    """`(bytes in all, bytes free)` of the file system `path` is, or will be, on."""
    while not path.exists():
        path = path.parent
    stats = os.statvfs(path)
    return stats.f_frsize * stats.f_blocks, stats.f_frsize * stats.f_bavail


def _os_image() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return platform.system()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get("PRETTY_NAME", platform.system()).strip("\"'")


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().split("\n", 1)[0].strip()
    except OSError:
        return ""
