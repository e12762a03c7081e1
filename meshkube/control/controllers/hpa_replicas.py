"""How many replicas one metric asks for. Pure.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", "Algorithm details"; the wording of
troubles is Kubernetes' own. Amounts are thousandths, as there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from meshkube.api import meta, quantities
from meshkube.api.types import Object
from meshkube.control import pods as pod_facts
from meshkube.control.autoscaling import Autoscaling

LEAST_FALLBACK: Final = 100
"""Percent of its request that a pod without a metric is taken to use, when that speaks against
taking pods away; the target where that is more."""


class NoProposal(Exception):
    """A metric says nothing; the message is for people."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What a pod uses: thousandths, when that was measured, and over how many seconds."""

    value: int
    time: datetime
    window: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """`average` is what one pod uses in thousandths, `utilization` percent of what it asked for."""

    replicas: int
    average: int
    utilization: int | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much the ratio may be above 1, or below it, before anything is done."""

    up: float
    down: float

    def holds(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(slots=True)
class Groups:
    """Pods by what their metrics are worth, by name."""

    ready: int = 0
    unready: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    ignored: set[str] = field(default_factory=set)


def group(
    pods: Iterable[Object],
    samples: Mapping[str, Sample],
    resource: str,
    tuning: Autoscaling,
    now: datetime,
) -> Groups:
    """Failed pods and those that go count for nothing; pending ones are not ready yet."""
    found = Groups()
    for pod in pods:
        name, phase = meta.name(pod), (pod.get("status") or {}).get("phase")
        if meta.deleting(pod) or phase == "Failed":
            found.ignored.add(name)
        elif phase == "Pending":
            found.unready.add(name)
        elif name not in samples:
            found.missing.add(name)
        elif resource == "cpu" and _unready(pod, samples[name], tuning, now):
            found.unready.add(name)
        else:
            found.ready += 1
    return found


def _unready(pod: Object, sample: Sample, tuning: Autoscaling, now: datetime) -> bool:
    """Whether its CPU is that of starting up, and says nothing of its load."""
    condition = pod_facts.condition(pod, "Ready")
    started = (pod.get("status") or {}).get("startTime")
    if condition is None or not started:
        return True
    start = meta.parse_timestamp(started)
    changed = meta.parse_timestamp(condition.get("lastTransitionTime") or started)
    if start + timedelta(seconds=tuning.cpu_initialization_period) > now:
        if condition.get("status") == "False":
            return True
        return sample.time < changed + timedelta(seconds=sample.window)
    never_ready = start + timedelta(seconds=tuning.initial_readiness_delay) > changed
    return condition.get("status") == "False" and never_ready


def requests(pods: Iterable[Object], resource: str, container: str = "") -> dict[str, int]:
    """What each pod asked for, or one container of each. Raises `NoProposal`."""
    found = {}
    for pod in pods:
        spec = pod["spec"]
        first = spec.get("initContainers") or ()
        steady = [*(spec.get("containers") or ())]
        steady += [one for one in first if one.get("restartPolicy") == "Always"]
        chosen = [one for one in steady if not container or one["name"] == container]
        if not chosen:
            raise NoProposal(f"container {container} not found in Pod {meta.name(pod)}")
        found[meta.name(pod)] = sum(_request(pod, one, resource) for one in chosen)
    return found


def _request(pod: Object, container: Object, resource: str) -> int:
    amount = ((container.get("resources") or {}).get("requests") or {}).get(resource)
    if amount is None:
        name = container["name"]
        raise NoProposal(
            f"missing request for {resource} in container {name} of Pod {meta.name(pod)}"
        )
    return quantities.milli(amount)


def for_utilization(
    current: int,
    target: int,
    samples: Mapping[str, Sample],
    groups: Groups,
    asked: Mapping[str, int],
    tolerance: Tolerance,
) -> Proposal:
    """`target` is percent of what the pods asked for (`asked`). Raises `NoProposal`."""
    values = _counted(samples, groups)
    utilization, average = _utilization(values, asked)
    fallback = max(LEAST_FALLBACK, target)
    replicas = _replicas(
        current,
        values,
        groups,
        lambda seen: _utilization(seen, asked)[0] / target,
        lambda pod: asked.get(pod, 0) * fallback // 100,
        tolerance,
    )
    return Proposal(replicas, average, utilization)


def for_average(
    current: int,
    target: int,
    samples: Mapping[str, Sample],
    groups: Groups,
    tolerance: Tolerance,
) -> Proposal:
    """`target` is what each pod should use, in thousandths. Raises `NoProposal`."""
    values = _counted(samples, groups)

    def average(seen: Mapping[str, int]) -> int:
        return sum(seen.values()) // len(seen)

    replicas = _replicas(
        current,
        values,
        groups,
        lambda seen: average(seen) / target,
        lambda pod: target,
        tolerance,
    )
    return Proposal(replicas, average(values))


def _counted(samples: Mapping[str, Sample], groups: Groups) -> dict[str, int]:
    left_out = groups.ignored | groups.unready
    values = {name: one.value for name, one in samples.items() if name not in left_out}
    if not values:
        raise NoProposal("did not receive metrics for targeted pods (pods might be unready)")
    return values


def _utilization(values: Mapping[str, int], asked: Mapping[str, int]) -> tuple[int, int]:
    """Percent of what was asked for, and the average."""
    known = [name for name in values if name in asked]
    wanted = sum(asked[name] for name in known)
    if not wanted:
        raise NoProposal("no metrics returned matched known pods")
    total = sum(values[name] for name in known)
    return total * 100 // wanted, total // len(known)


def _replicas(
    current: int,
    values: dict[str, int],
    groups: Groups,
    ratio_of: Callable[[Mapping[str, int]], float],
    fallback: Callable[[str], int],
    tolerance: Tolerance,
) -> int:
    """Pods of which nothing is known are taken to speak against the change."""
    ratio = ratio_of(values)
    start_up = bool(groups.unready) and ratio > 1.0
    if not start_up and not groups.missing:
        return current if tolerance.holds(ratio) else math.ceil(ratio * groups.ready)
    guessed = dict(values)
    if ratio < 1.0:
        guessed |= {name: fallback(name) for name in groups.missing}
    else:
        guessed |= dict.fromkeys(groups.missing, 0)
    if start_up:
        guessed |= dict.fromkeys(groups.unready, 0)
    again = ratio_of(guessed)
    turned = (ratio < 1.0 < again) or (again < 1.0 < ratio)
    if tolerance.holds(again) or turned:
        return current
    proposed = math.ceil(again * len(guessed))
    against = (again < 1.0 and proposed > current) or (again > 1.0 and proposed < current)
    return current if against else proposed


def samples_of(metrics: Sequence[Object], resource: str, container: str = "") -> dict[str, Sample]:
    """Out of PodMetrics; a pod that says nothing of the resource is left out. Raises `NoProposal`
    where a pod has no such container."""
    found = {}
    for one in metrics:
        containers = one.get("containers") or ()
        usages = [c["usage"] for c in containers if not container or c["name"] == container]
        if not usages:
            raise NoProposal(
                f"container {container} not present in metrics for pod {meta.key(one)}"
            )
        if all(resource in usage for usage in usages):
            total = sum(quantities.quantity(usage[resource]).nanos for usage in usages)
            time = meta.parse_timestamp(one["timestamp"])
            found[meta.name(one)] = Sample(
                -(-total // 10**6), time, meta.parse_duration(one.get("window") or "0s")
            )
    return found
