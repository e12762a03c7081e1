"""HorizontalPodAutoscalers: what pods use decides how many there are. The shell of `hpa_metrics`
(how many are asked for) and `hpa_behavior` (what becomes of that).

Source: Kubernetes documentation, "Horizontal Pod Autoscaling"; conditions, reasons and Events are
those that it gives.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from meshkube.api import errors, kinds, meta, quantities
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.selectors import LabelSelector, parse_labels
from meshkube.api.types import Object
from meshkube.client.events import Type
from meshkube.client.informer import Informers
from meshkube.control import pods as pod_facts
from meshkube.control.controllers import hpa_behavior
from meshkube.control.controllers.hpa_behavior import Bounds, History, Past
from meshkube.control.controllers.hpa_metrics import Asked, Situation, ask
from meshkube.control.controllers.hpa_replicas import Tolerance
from meshkube.control.loop import Context, Controller

log = logging.getLogger(__name__)

SOON = 1.0
"""Seconds to the next look where somebody else wrote at the same time."""


@dataclass(slots=True)
class _State:
    """What is kept of an autoscaler between looks, for one term of leadership."""

    uid: str
    spec: Object = field(default_factory=dict)
    due: float = 0.0
    history: History = field(default_factory=History)
    selector: LabelSelector | None = None


class _Look:
    """One look at one autoscaler: gathers its status, and writes it at the end."""

    def __init__(self, context: Context, scaler: Object, state: _State) -> None:
        self.context = context
        self.scaler = scaler
        self.spec: Object = scaler["spec"]
        self.state = state
        self.clock = context.clock
        old = scaler.get("status") or {}
        self.status: Object = {**old, "conditions": [dict(c) for c in old.get("conditions") or ()]}
        self._tuning = context.settings.autoscaling

    def condition(self, type: str, holds: bool, reason: str, message: str) -> None:
        entry = {
            "type": type,
            "status": str(holds),
            "lastTransitionTime": meta.timestamp(self.clock.now()),
            "reason": reason,
            "message": message,
        }
        pod_facts.set_condition(self.status["conditions"], entry)

    def event(self, type: Type, reason: str, message: str) -> None:
        self.context.events.event(self.scaler, type, reason, message)

    async def write(self) -> None:
        if self.status == (self.scaler.get("status") or {}):
            return
        new = {**self.scaler, "status": self.status}
        await self.context.client.update(kinds.HORIZONTAL_POD_AUTOSCALER, new, subresource="status")

    async def run(self) -> None:
        """Raises `ApiError` where the status or the scale could not be written."""
        reference = self.spec["scaleTargetRef"]
        try:
            kind = _scaled_kind(self.context.caches, reference)
            scale = await self.context.client.get(
                kind, reference["name"], meta.namespace(self.scaler), subresource="scale"
            )
        except ApiError as error:
            why = (
                f"the HPA controller was unable to get the target's current scale: {error.message}"
            )
            self.event("Warning", "FailedGetScale", error.message)
            self.condition("AbleToScale", False, "FailedGetScale", why)
            return
        got = "the HPA controller was able to get the target's current scale"
        self.condition("AbleToScale", True, "SucceededGetScale", got)
        await self._scale(kind, scale)

    async def _scale(self, kind: Kind, scale: Object) -> None:
        current = int((scale.get("spec") or {}).get("replicas") or 0)
        least = int(self.spec.get("minReplicas", 1))
        most = int(self.spec["maxReplicas"])
        now = self.clock.monotonic()
        if not self.state.history.recommendations:
            self.state.history = History((Past(current, now),))
        asked = Asked(None)
        wanted, reason = current, ""
        if current == 0 and least != 0:
            why = "scaling is disabled since the replica count of the target is zero"
            self.condition("ScalingActive", False, "ScalingDisabled", why)
        elif current > most:
            wanted, reason = most, "Current number of replicas above Spec.MaxReplicas"
        elif current < least:
            wanted, reason = least, "Current number of replicas below Spec.MinReplicas"
        else:
            asked = await self._ask(scale, current)
            if asked.replicas is None:
                self._told(current, asked.statuses)
                return
            wanted, reason = self._settle(current, asked.replicas, asked.name)
        self._told(current, asked.statuses)
        self.status["desiredReplicas"] = wanted
        if wanted != current:
            await self._rescale(kind, scale, current, wanted, reason)

    def _told(self, current: int, statuses: list[Object]) -> None:
        self.status["currentReplicas"] = current
        self.status.setdefault("desiredReplicas", 0)
        if statuses:
            self.status["currentMetrics"] = statuses
        else:
            self.status.pop("currentMetrics", None)

    def _settle(self, current: int, asked: int, name: str) -> tuple[int, str]:
        bounds = self._bounds()
        found = hpa_behavior.settle(
            current, asked, bounds, self.state.history, self.clock.monotonic()
        )
        self.state.history = found.history
        self.condition("AbleToScale", True, *found.able)
        self.condition("ScalingLimited", found.limited, *found.limit)
        return (
            found.replicas,
            f"{name} above target" if asked > current else "All metrics below target",
        )

    def _bounds(self) -> Bounds:
        return Bounds(
            least=int(self.spec.get("minReplicas", 1)),
            most=int(self.spec["maxReplicas"]),
            behavior=self.spec.get("behavior"),
            window=self._tuning.downscale_stabilization,
        )

    async def _rescale(
        self, kind: Kind, scale: Object, before: int, after: int, reason: str
    ) -> None:
        changed = {**scale, "spec": {**scale["spec"], "replicas": after}}
        try:
            await self.context.client.update(kind, changed, subresource="scale")
        except ApiError as error:
            if error.code == 409:
                raise
            told = f"New size: {after}; reason: {reason}; error: {error.message}"
            self.event("Warning", "FailedRescale", told)
            why = f"the HPA controller was unable to update the target scale: {error.message}"
            self.condition("AbleToScale", False, "FailedUpdateScale", why)
            return
        done = f"the HPA controller was able to update the target scale to {after}"
        self.condition("AbleToScale", True, "SucceededRescale", done)
        self.event("Normal", "SuccessfulRescale", f"New size: {after}; reason: {reason}")
        log.info(
            "rescaled",
            extra={"autoscaler": meta.key(self.scaler), "from": before, "to": after, "why": reason},
        )
        self.state.history = hpa_behavior.changed(
            self.state.history, before, after, self._bounds(), self.clock.monotonic()
        )
        self.status["lastScaleTime"] = meta.timestamp(self.clock.now())

    async def _ask(self, scale: Object, current: int) -> Asked:
        text = str((scale.get("status") or {}).get("selector") or "")
        selector = self._selector(text)
        if selector is None:
            return Asked(None)
        self.state.selector = selector
        space = meta.namespace(self.scaler)
        every = self.context.caches.of(kinds.POD).list(space)
        found = [pod for pod in every if selector.matches(meta.labels(pod))]
        others = self._others(found)
        if others:
            both = " ".join(sorted([meta.key(self.scaler), *others]))
            told = f"pods by selector {text} are controlled by multiple HPAs: [{both}]"
            self._inactive("AmbiguousSelector", told, told)
            return Asked(None)
        situation = Situation(
            namespace=space,
            current=current,
            pods=found,
            metrics=await self._metrics(space, text),
            tuning=self._tuning,
            tolerance=_tolerance(self.spec.get("behavior") or {}, self._tuning.tolerance),
            now=self.clock.now(),
        )
        asked = ask(self.spec.get("metrics") or (), situation)
        self._judge(asked)
        return asked

    def _judge(self, asked: Asked) -> None:
        """Says which metrics could be had."""
        for failure in asked.failures:
            self.event("Warning", failure.reason, failure.message)
        if asked.replicas is not None:
            told = "the HPA was able to successfully calculate a replica count from " + asked.name
            self.condition("ScalingActive", True, "ValidMetricFound", told)
            return
        first = asked.failures[0]
        told = f"the HPA was unable to compute the replica count: {first.message}"
        self.condition("ScalingActive", False, first.reason, told)
        self.event("Warning", "FailedComputeMetricsReplicas", asked.error)

    def _selector(self, text: str) -> LabelSelector | None:
        if not text:
            why = "the HPA target's scale is missing a selector"
            self._inactive("InvalidSelector", why, "selector is required", "SelectorRequired")
            return None
        try:
            return parse_labels(text)
        except ApiError as error:
            why = "couldn't convert selector into a corresponding internal selector object: "
            why += error.message
            self._inactive("InvalidSelector", why, why)
            return None

    def _inactive(self, reason: str, why: str, event: str, event_reason: str = "") -> None:
        self.event("Warning", event_reason or reason, event)
        self.condition("ScalingActive", False, reason, why)
        self.event("Warning", "FailedComputeMetricsReplicas", event)

    def _others(self, pods: Iterable[Object]) -> list[str]:
        """Other autoscalers of the namespace that look at one of these pods."""
        own, space = meta.key(self.scaler), meta.namespace(self.scaler) + "/"
        labels = [meta.labels(pod) for pod in pods]
        return [
            key
            for key, state in self.context.memory.items()
            if key != own
            and key.startswith(space)
            and state.selector is not None
            and any(state.selector.matches(each) for each in labels)
        ]

    async def _metrics(self, namespace: str, selector: str) -> list[Object] | str:
        try:
            listed = await self.context.client.list(kinds.POD_METRICS, namespace, labels=selector)
        except ApiError as error:
            return f"unable to fetch metrics from resource metrics API: {error.message}"
        return listed.items


def _tolerance(behavior: Mapping[str, Any], usual: float) -> Tolerance:
    given = ((behavior.get(way) or {}).get("tolerance") for way in ("scaleUp", "scaleDown"))
    return Tolerance(*(usual if one is None else float(quantities.parse(one)) for one in given))


def _scaled_kind(caches: Informers, reference: Mapping[str, Any]) -> Kind:
    """The kind of a reference, in whatever version. Raises `ApiError` 404."""
    group = str(reference.get("apiVersion") or "").rpartition("/")[0]
    wanted = reference["kind"]
    custom = (kind for kind in caches.kinds if kind.definition is not None)
    for kind in (*kinds.STORED, *custom):
        if (kind.group, kind.kind) != (group, wanted):
            continue
        if "scale" not in kind.subresources:
            raise errors.not_served()
        return kind
    why = f'no matches for kind "{wanted}" in group "{group}"'
    raise ApiError(404, "NotFound", why)


async def reconcile(context: Context, key: str) -> float | None:
    scaler = context.caches.of(kinds.HORIZONTAL_POD_AUTOSCALER).get(key)
    if scaler is None or meta.deleting(scaler):
        context.memory.pop(key, None)
        return None
    state: _State = context.memory.setdefault(key, _State(meta.uid(scaler)))
    if state.uid != meta.uid(scaler):
        state = context.memory[key] = _State(meta.uid(scaler))
    now = context.clock.monotonic()
    if scaler["spec"] == state.spec and now < state.due:
        # Its own status came back, or labels changed: one look in each period.
        return state.due - now
    period = context.settings.autoscaling.sync_period
    state.spec, state.due = scaler["spec"], now + period
    look = _Look(context, scaler, state)
    try:
        await look.run()
        await look.write()
    except ApiError as error:
        if error.code != 409:
            raise
        state.due = 0.0
        return SOON
    return period


CONTROLLER = Controller(
    name="horizontalpodautoscaler",
    kind=kinds.HORIZONTAL_POD_AUTOSCALER,
    reads=(kinds.POD,),
    component="horizontal-pod-autoscaler",
    reconcile=reconcile,
)
