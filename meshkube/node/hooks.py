"""Lifecycle hooks: postStart and preStop. Source: Kubernetes documentation, "Container Lifecycle
Hooks"."""

from __future__ import annotations

from meshkube.api.types import Object
from meshkube.node import http_probe
from meshkube.node.kit import Kit
from meshkube.node.runtime import Record

# A hook has no time limit of its own beyond the grace period; this bounds one try of it.
LONGEST = 3600.0


class HookFailure(Exception):
    """The hook did not succeed."""


async def run_hook(kit: Kit, hook: Object, container: Object, record: Record, address: str) -> None:
    """Runs one hook to its end. Raises `HookFailure`."""
    if "sleep" in hook:
        await kit.clock.sleep(float(hook["sleep"].get("seconds") or 0))
        return
    if not kit.runtime.answers:
        return
    try:
        if "exec" in hook:
            answer = await kit.handlers.command(
                record.id, hook["exec"].get("command") or [], LONGEST
            )
        elif "httpGet" in hook:
            answer = await http_probe.get(hook["httpGet"], container, address, LONGEST)
        else:
            raise HookFailure("no known action")
    except ValueError as error:
        raise HookFailure(str(error)) from error
    if not answer.good:
        raise HookFailure(answer.message)
