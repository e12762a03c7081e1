"""What ended containers left as their last message: in their termination log, or at the end of
their output."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from meshkube.api.types import Object
from meshkube.node.mounts import PodDirectory
from meshkube.node.runtime import LogOptions, Record, Runtime, RuntimeFailure

# What of a log becomes a termination message, as in the kubelet.
LOG_LINES, LOG_BYTES = 80, 2048
# Of reading one: the status waits for it.
LONGEST = 5.0


class LastWords:
    """Of one pod's containers."""

    def __init__(self, runtime: Runtime, directory: PodDirectory) -> None:
        self._runtime = runtime
        self._directory = directory
        self.by_id: dict[str, str] = {}
        """By container id; empty where there is none."""

    def read(self, record: Record, spec: Object | None) -> Coroutine[Any, Any, None] | None:
        """Notes the message of an ended container, once. What is to be run for it, if anything."""
        if record.state != "exited" or record.id in self.by_id:
            return None
        found = self._directory.termination_message(record.name, record.attempt)
        self.by_id[record.id] = found
        policy = (spec or {}).get("terminationMessagePolicy")
        failed = bool(record.exit_code or record.error)
        if found or policy != "FallbackToLogsOnError" or not failed:
            return None
        return self._read_logs(record)

    async def _read_logs(self, record: Record) -> None:
        """The end of a failed container's log stands in for its message."""
        with contextlib.suppress(RuntimeFailure, TimeoutError):
            async with asyncio.timeout(LONGEST):
                pieces = self._runtime.logs(record.id, LogOptions(tail=LOG_LINES))
                text = b"".join([piece.data async for piece in pieces])
            self.by_id[record.id] = text[-LOG_BYTES:].decode(errors="replace")
