"""Traffic counters of network interfaces, out of the kernel's own table.

Source: proc(5), `/proc/PID/net/dev`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Interface:
    """Counts since it was made: received (rx), sent (tx)."""

    name: str
    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0


def parse(table: str) -> list[Interface]:
    """The interfaces of a table, without loopback."""
    found = []
    for line in table.splitlines()[2:]:
        name, _, counts = line.partition(":")
        fields = counts.split()
        if name.strip() == "lo" or len(fields) < 16:
            continue
        numbers = list(map(int, fields))
        found.append(Interface(name.strip(), *numbers[:4], *numbers[8:12]))
    return found


def of_process(pid: int | str) -> list[Interface]:
    """As the process `pid` sees them; none where it is gone."""
    try:
        return parse(Path(f"/proc/{pid}/net/dev").read_text())
    except OSError:
        return []


def default_interface() -> str:
    """The one that the host's default route leads through; empty where there is none."""
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return ""
    routes = [line.split() for line in lines]
    return next((fields[0] for fields in routes if fields[1:2] == ["00000000"]), "")
