"""Brings containers and sandboxes down."""

from __future__ import annotations

import asyncio
import logging

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.node.hooks import HookFailure, run_hook
from meshkube.node.kit import Kit, container_event
from meshkube.node.plan import KillContainer
from meshkube.node.probes import FIELDS
from meshkube.node.records import look_at
from meshkube.node.runtime import Limits, Record, RuntimeFailure

log = logging.getLogger(__name__)

# What a container has for itself after its preStop hook, however long that took.
AFTER_HOOK = 2.0


class Stopper:
    """Ends the containers of one pod."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._hooked: set[str] = set()

    async def kill(
        self, pod: Object, container: Object | None, step: KillContainer, grace: float, address: str
    ) -> None:
        """Runs the preStop hook, asks the container to end, and kills it once `grace` seconds have
        passed. `container` is its spec, where it is known."""
        started = self._kit.clock.monotonic()
        if step.reason and container is not None and step.record.id not in self._hooked:
            container_event(self._kit, pod, container["name"], "Normal", "Killing", step.reason)
        if not step.at_once and container is not None:
            await self._pre_stop(pod, container, step.record, grace, address)
            spent = self._kit.clock.monotonic() - started
            grace = max(min(AFTER_HOOK, grace), grace - spent)
        await self._kit.runtime.stop(step.record.id, 0 if step.at_once else grace)
        await self.note(step.record.id)

    async def limit(self, record: Record, limits: Limits) -> None:
        """Changes what a running container may use."""
        await self._kit.runtime.limit(record.id, limits)
        await self.note(record.id)

    async def note(self, id: str) -> None:
        """Looks at a container anew."""
        await look_at(self._kit.runtime, self._kit.records, id)

    async def _pre_stop(
        self, pod: Object, container: Object, record: Record, grace: float, address: str
    ) -> None:
        hook = (container.get("lifecycle") or {}).get("preStop")
        if hook is None or record.id in self._hooked:
            return
        # Not twice, should the grace period be cut short on the way.
        self._hooked.add(record.id)
        try:
            await self._within(grace, hook, container, record, address)
        except (HookFailure, TimeoutError, RuntimeFailure) as failure:
            # What a hook says may be secret: it is for the node's own log alone.
            log.info(
                "preStop hook failed",
                extra={"pod": meta.key(pod), "on": container["name"], "reason": str(failure)},
            )
            container_event(
                self._kit, pod, container["name"], "Warning", "FailedPreStopHook",
                "PreStopHook failed",
            )  # fmt: skip

    async def _within(
        self, grace: float, hook: Object, container: Object, record: Record, address: str
    ) -> None:
        async with asyncio.timeout(grace):
            await run_hook(self._kit, hook, container, record, address)

    async def remove(self, record: Record) -> None:
        """Takes a container or sandbox away."""
        await self._kit.runtime.remove(record.id)
        self._kit.records.hear(record.id, None, self._kit.records.ask())


def probe_grace(container: Object, failed: str) -> int | None:
    """The grace period that the failed probe (`liveness probe`) sets for itself."""
    kind = failed.partition(" ")[0]
    field = {str(k): v for k, v in FIELDS.items()}.get(kind)
    grace = (container.get(field) or {}).get("terminationGracePeriodSeconds") if field else None
    return int(grace) if grace is not None else None
