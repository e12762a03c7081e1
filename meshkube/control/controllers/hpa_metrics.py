"""An autoscaler's metrics, one by one: how many replicas each asks for, what the status says of it,
and what is told where it cannot be had. Pure; the wording is Kubernetes' own.

Metrics of resources are served by this API itself. Those of the custom and external metrics APIs
come from adapters that no cluster has by itself: without one they fail as they do everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meshkube.api import meta, quantities
from meshkube.api.types import Object
from meshkube.control.autoscaling import Autoscaling
from meshkube.control.controllers import hpa_replicas
from meshkube.control.controllers.hpa_replicas import NoProposal, Proposal, Tolerance

_CUSTOM = "no custom metrics API (custom.metrics.k8s.io) registered"
_EXTERNAL = "no external metrics API (external.metrics.k8s.io) registered"


@dataclass(frozen=True, slots=True)
class Failure:
    """A metric that says nothing: the reason of condition and Event, what they say, and how the
    summary over all metrics puts it."""

    reason: str
    message: str
    summary: str


@dataclass(frozen=True, slots=True)
class Asked:
    """All metrics together. `replicas` None: they ask for nothing, as `error` says."""

    replicas: int | None
    name: str = ""
    """Of the metric that asks for so many."""
    statuses: list[Object] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What the metrics are about. `metrics` are PodMetrics, or why there are none."""

    namespace: str
    current: int
    pods: Sequence[Object]
    metrics: Sequence[Object] | str
    tuning: Autoscaling
    tolerance: Tolerance
    now: datetime


def ask(specs: Sequence[Object], situation: Situation) -> Asked:
    """The greatest number that a metric asks for. Where one fails, the others only add replicas."""
    best: int | None = None
    name, statuses, failures = "", [], []
    for spec in specs:
        try:
            proposal, said, status = _one(spec, situation)
        except _Failed as failed:
            failures.append(failed.failure)
            statuses.append({"type": spec.get("type") or ""})
            continue
        statuses.append(status)
        if best is None or proposal.replicas > best:
            best, name = proposal.replicas, said
    error = ""
    if failures:
        count = f"{len(failures)} invalid out of {len(specs)}"
        error = f"invalid metrics ({count}), first error is: {failures[0].summary}"
    if failures and (best is None or best < situation.current):
        return Asked(None, "", statuses, failures, error)
    return Asked(best, name, statuses, failures, error)


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        self.failure = failure


def _one(spec: Object, situation: Situation) -> tuple[Proposal, str, Object]:
    kind = spec.get("type") or ""
    if kind == "Resource":
        return _resource(spec["resource"], situation, "")
    if kind == "ContainerResource":
        source = spec["containerResource"]
        return _resource(source, situation, source["container"])
    source = _FOREIGN.get(kind)
    if source is None:
        message = f'unknown metric source type "{kind}"'
        raise _Failed(Failure("InvalidMetricSourceType", message, message))
    raise _Failed(source(spec, situation.namespace))


def _resource(source: Object, situation: Situation, container: str) -> tuple[Proposal, str, Object]:
    name, target = source["name"], source.get("target") or {}
    average = target.get("averageValue")
    try:
        if average is None:
            proposal = _for_utilization(source, situation, container)
        else:
            proposal = _for_average(name, quantities.milli(average), situation, container)
    except NoProposal as error:
        what = "utilization" if average is None else "usage"
        message = f"failed to get {name} {what}: {error}"
        reason = "FailedGetContainerResourceMetric" if container else "FailedGetResourceMetric"
        which = "container" if container else "resource"
        summary = f"failed to get {name} {which} metric value: {message}"
        raise _Failed(Failure(reason, message, summary)) from None
    share = " utilization (percentage of request)" if average is None else ""
    said = f"{name} {'container resource' if container else 'resource'}{share}"
    return proposal, said, _status(name, proposal, container)


def _for_utilization(source: Object, situation: Situation, container: str) -> Proposal:
    name, target = source["name"], int(source["target"]["averageUtilization"])
    samples, groups = _judged(name, situation, container)
    asked = hpa_replicas.requests(situation.pods, name, container)
    return hpa_replicas.for_utilization(
        situation.current, target, samples, groups, asked, situation.tolerance
    )


def _for_average(name: str, target: int, situation: Situation, container: str) -> Proposal:
    samples, groups = _judged(name, situation, container)
    return hpa_replicas.for_average(situation.current, target, samples, groups, situation.tolerance)


def _judged(
    name: str, situation: Situation, container: str
) -> tuple[dict[str, hpa_replicas.Sample], hpa_replicas.Groups]:
    samples = _samples(name, situation, container)
    if not situation.pods:
        raise NoProposal("no pods returned by selector while calculating replica count")
    groups = hpa_replicas.group(situation.pods, samples, name, situation.tuning, situation.now)
    known = {meta.name(pod) for pod in situation.pods}
    return {pod: one for pod, one in samples.items() if pod in known}, groups


def _samples(name: str, situation: Situation, container: str) -> dict[str, hpa_replicas.Sample]:
    if isinstance(situation.metrics, str):
        raise NoProposal(f"unable to get metrics for resource {name}: {situation.metrics}")
    if not situation.metrics:
        raise NoProposal(
            f"unable to get metrics for resource {name}: no metrics returned from resource"
            " metrics API"
        )
    try:
        return hpa_replicas.samples_of(situation.metrics, name, container)
    except NoProposal as error:
        raise NoProposal(f"unable to get metrics for resource {name}: {error}") from None


def _status(name: str, proposal: Proposal, container: str) -> Object:
    current: Object = {"averageValue": _amount(proposal.average)}
    if proposal.utilization is not None:
        current["averageUtilization"] = proposal.utilization
    if container:
        about = {"name": name, "container": container, "current": current}
        return {"type": "ContainerResource", "containerResource": about}
    return {"type": "Resource", "resource": {"name": name, "current": current}}


def _amount(milli: int) -> str:
    return str(quantities.Quantity(milli * 10**6))


def _pods(spec: Object, namespace: str) -> Failure:
    name = spec["pods"]["metric"]["name"]
    message = (
        f"unable to get metric {name}: unable to fetch metrics from custom metrics API: {_CUSTOM}"
    )
    return Failure("FailedGetPodsMetric", message, f"failed to get pods metric value: {message}")


def _object(spec: Object, namespace: str) -> Failure:
    source = spec["object"]
    name, of = source["metric"]["name"], source["describedObject"]
    message = (
        f"unable to get metric {name}: {of.get('kind')} on {namespace} {of.get('name')}/unable to"
        f" fetch metrics from custom metrics API: {_CUSTOM}"
    )
    return Failure(
        "FailedGetObjectMetric", message, f"failed to get object metric value: {message}"
    )


def _external(spec: Object, namespace: str) -> Failure:
    name = spec["external"]["metric"]["name"]
    message = (
        f"unable to get external metric {namespace}/{name}: unable to fetch metrics from external"
        f" metrics API: {_EXTERNAL}"
    )
    return Failure(
        "FailedGetExternalMetric", message, f"failed to get {name} external metric value: {message}"
    )


_FOREIGN: dict[str, Callable[[Object, str], Failure]] = {
    "Pods": _pods,
    "Object": _object,
    "External": _external,
}
