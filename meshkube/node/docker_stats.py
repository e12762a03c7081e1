"""What a container uses, out of Docker's statistics. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from meshkube.node.runtime import Stats


def stats_of(found: Mapping[str, Any]) -> Stats | None:
    """The answer of `GET /containers/ID/stats`; None for a container that does not run."""
    cpu = ((found.get("cpu_stats") or {}).get("cpu_usage") or {}).get("total_usage")
    memory = found.get("memory_stats") or {}
    if not cpu or "usage" not in memory:
        return None
    details = memory.get("stats") or {}
    # File pages not used lately can be dropped at once: not part of the working set.
    inactive = details.get("total_inactive_file", details.get("inactive_file", 0))
    working_set = max(0, int(memory["usage"]) - int(inactive))
    processes = int((found.get("pids_stats") or {}).get("current") or 0)
    return Stats(datetime.now(UTC), int(cpu), working_set, processes)
