"""Resource metrics: out of two looks at a node, what it and its pods use, in the form of
`metrics.k8s.io/v1beta1`. Pure.

Sources: the Kubernetes documents, "Resource metrics pipeline"; metrics-server's rules of when a
sample counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from meshkube.api import kinds, meta
from meshkube.api.quantities import NANO, Quantity
from meshkube.api.types import Object

FRESH_SECONDS = 10.0
"""A container that was started between two looks is measured from its start, once that lasted."""


@dataclass(frozen=True, slots=True)
class Point:
    """One counter reading: times are seconds since the epoch, `cpu` is nanoseconds of CPU since
    `started`, `memory` bytes."""

    time: float
    started: float
    cpu: int
    memory: int


@dataclass(frozen=True, slots=True)
class Look:
    """What a node told at one time."""

    node: Point | None = None
    pods: Mapping[tuple[str, str], Mapping[str, Point]] = field(default_factory=dict)
    """By namespace and name, then by container."""


@dataclass(frozen=True, slots=True)
class Use:
    """CPU in billionths of a core over `window` seconds that ended at `time`; bytes of memory."""

    time: float
    window: float
    nanocores: int
    memory: int


def look(summary: Object) -> Look:
    """Reads the kubelet's `/stats/summary`. What it leaves out is not there."""
    pods = {}
    for pod in summary.get("pods") or ():
        reference = pod["podRef"]
        points = {one["name"]: _point(one) for one in pod.get("containers") or ()}
        known = {name: point for name, point in points.items() if point is not None}
        if known:
            pods[reference["namespace"], reference["name"]] = known
    return Look(_point(summary.get("node") or {}), pods)


def _point(found: Object) -> Point | None:
    cpu, memory = found.get("cpu") or {}, found.get("memory") or {}
    if "usageCoreNanoSeconds" not in cpu or "workingSetBytes" not in memory:
        return None
    return Point(
        _seconds(cpu["time"]),
        _seconds(found["startTime"]),
        int(cpu["usageCoreNanoSeconds"]),
        int(memory["workingSetBytes"]),
    )


def _seconds(text: str) -> float:
    return meta.parse_timestamp(text).timestamp()


def use(last: Point, before: Point | None) -> Use | None:
    """None where nothing can be said yet."""
    if before is None or before.started != last.started or before.cpu > last.cpu:
        if last.time - last.started < FRESH_SECONDS:
            return None
        if before is None or last.started < before.time:
            return None
        # Started anew since: all that it used, it used since then.
        before = Point(last.started, last.started, 0, 0)
    window = last.time - before.time
    if window <= 0:
        return None
    return Use(last.time, window, round((last.cpu - before.cpu) / window), last.memory)


def use_of_pod(key: tuple[str, str], last: Look, before: Look) -> dict[str, Use]:
    """By container, of those of which something can be said."""
    earlier = before.pods.get(key, {})
    found = {}
    for name, point in last.pods.get(key, {}).items():
        # Of a container that was not there, the look before says when it was not.
        absent = Point(before.node.time, 0.0, 0, 0) if before.node is not None else None
        measured = use(point, earlier.get(name) or absent)
        if measured is not None:
            found[name] = measured
    return found


def node_metrics(node: Object, measured: Use) -> Object:
    """The NodeMetrics of a Node."""
    return {
        **_head(kinds.NODE_METRICS.kind, node, measured.time, measured.window),
        "usage": _usage(measured),
    }


def pod_metrics(pod: Object, measured: Mapping[str, Use]) -> Object:
    """The PodMetrics of a Pod: the oldest of its containers' times counts."""
    oldest = min(measured.values(), key=lambda one: one.time)
    return {
        **_head(kinds.POD_METRICS.kind, pod, oldest.time, oldest.window),
        "containers": [{"name": name, "usage": _usage(one)} for name, one in measured.items()],
    }


def _head(kind: str, of: Object, time: float, window: float) -> Object:
    metadata: Object = {"name": meta.name(of)}
    if meta.namespace(of):
        metadata["namespace"] = meta.namespace(of)
    at = meta.timestamp(datetime.fromtimestamp(time, UTC))
    metadata["creationTimestamp"] = at
    if meta.labels(of):
        metadata["labels"] = meta.labels(of)
    return {
        "kind": kind,
        "apiVersion": kinds.POD_METRICS.api_version,
        "metadata": metadata,
        "timestamp": at,
        "window": duration(window),
    }


def _usage(measured: Use) -> Object:
    memory = Quantity(measured.memory // 1024 * 1024 * NANO, "binary")
    return {"cpu": f"{measured.nanocores}n" if measured.nanocores else "0", "memory": str(memory)}


def duration(seconds: float) -> str:
    """As Go writes it: `15.012s`, `1m0s`."""
    whole, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{int(whole)}m{text}" if whole else text
