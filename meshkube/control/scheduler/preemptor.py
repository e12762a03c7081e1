"""Ends the pods that a decision named, and knows the budgets that it should heed."""

from __future__ import annotations

import logging

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.selectors import from_label_selector
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.client.events import EventRecorder
from meshkube.client.informer import Informers
from meshkube.clock import Clock
from meshkube.control import pods
from meshkube.control.scheduler.preemption import Budget, Nomination

log = logging.getLogger(__name__)


class Preemptor:
    """The writes of preemption."""

    def __init__(
        self, client: Client, caches: Informers, events: EventRecorder, clock: Clock
    ) -> None:
        self._client = client
        self._pods = caches.of(kinds.POD)
        self._budgets = caches.of(kinds.POD_DISRUPTION_BUDGET)
        self._events = events
        self._clock = clock

    def budgets(self) -> list[Budget]:
        """What may be disrupted now."""
        return [
            Budget(
                meta.namespace(budget),
                from_label_selector((budget.get("spec") or {}).get("selector") or {}),
                int((budget.get("status") or {}).get("disruptionsAllowed") or 0),
            )
            for budget in self._budgets.list()
            if (budget.get("spec") or {}).get("selector") is not None
        ]

    async def carry_out(self, pod: Object, nomination: Nomination) -> None:
        """Ends the victims; each says in its status for whom."""
        for victim in nomination.victims:
            named = {"namespace": victim.namespace, "name": victim.name, "uid": victim.uid}
            reference: Object = {"apiVersion": "v1", "kind": "Pod", **named}
            current = self._pods.get(f"{victim.namespace}/{victim.name}")
            if current is None or meta.uid(current) != victim.uid or meta.deleting(current):
                continue
            try:
                await self._mark(current)
                await self._client.delete(kinds.POD, victim.name, victim.namespace, uid=victim.uid)
            except ApiError as error:
                log.debug("pod not preempted", extra={**named, "error": error.message})
                continue
            why = f"Preempted by pod {meta.uid(pod)} on node {nomination.node}"
            self._events.event(reference, "Normal", "Preempted", why)

    async def _mark(self, victim: Object) -> None:
        message = "default-scheduler: preempting to accommodate a higher priority pod"
        now = self._clock.now()
        changed = pods.targeted(victim, "PreemptionByScheduler", message, now)
        await self._client.update(kinds.POD, changed, subresource="status")
