"""What the benches share: CPU time of processes, tables, ports, and peers that may be absent."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(*pids: int) -> float:
    """User and system time that these processes have used so far (proc(5), stat)."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def thread_seconds(pid: int) -> float:
    """CPU seconds of a process's main thread so far, to the nanosecond."""
    spent = Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]
    return int(spent) / 1e9


def resident_megabytes(pid: int) -> float:
    """Resident memory of a process in MB (10^6 bytes)."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def children(pid: int) -> list[int]:
    """The process and all below it."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += children(int(child))
    return found


def free_port() -> int:
    """A TCP port of loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, address: str = "127.0.0.1", timeout: float = 20) -> None:
    """Waits until something listens; raises `TimeoutError`."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {address}:{port}") from None
            time.sleep(0.05)
        else:
            return


def absent(*tools: str) -> list[str]:
    """Which of these programs this machine lacks: a bench names them and goes on without."""
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    return [tool for tool in tools if shutil.which(tool, path=path) is None]


def print_table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table as aligned text; numbers are right-aligned."""
    text = [[_cell(cell) for cell in row] for row in rows]
    widths = [max(len(row[n]) for row in [list(header), *text]) for n in range(len(header))]
    print(f"\n{title}")
    print("  " + "  ".join(name.ljust(width) for name, width in zip(header, widths, strict=True)))
    for row, cells in zip(rows, text, strict=True):
        padded = (
            text.rjust(width) if isinstance(cell, int | float) else text.ljust(width)
            for cell, text, width in zip(row, cells, widths, strict=True)
        )
        print("  " + "  ".join(padded).rstrip())


def _cell(cell: object) -> str:
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell >= 100 else f"{cell:.2f}" if cell >= 0.1 else f"{cell:.4f}"
    return str(cell)
