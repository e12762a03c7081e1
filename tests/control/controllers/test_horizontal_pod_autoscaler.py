"""Autoscalers on a real API; what pods use is told by the test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.client.base import Client, ObjectList
from meshkube.client.forwarding import ForwardingClient
from meshkube.control.autoscaling import Autoscaling
from meshkube.control.controllers import horizontal_pod_autoscaler, replicaset
from meshkube.control.loop import Settings
from tests.support.cluster import Cluster, cluster, node

TUNING = Autoscaling(sync_period=0.05, cpu_initialization_period=0, downscale_stabilization=0)


class Metered(ForwardingClient):
    """The API with metrics of the test's: `cpu` for each pod's container; None: not served."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.cpu: str | None = "50m"

    async def list(self, kind: Kind, namespace: str | None = None, **more: Any) -> ObjectList:
        if kind is not kinds.POD_METRICS:
            return await super().list(kind, namespace, **more)
        if self.cpu is None:
            raise ApiError(503, "ServiceUnavailable", "nobody measures")
        pods = (await super().list(kinds.POD, namespace, labels=more["labels"])).items
        return ObjectList([self._measured(pod) for pod in pods], "")

    def _measured(self, pod: Object) -> Object:
        usage = {"cpu": self.cpu, "memory": "1Mi"}
        return {
            "metadata": {"name": meta.name(pod), "namespace": meta.namespace(pod)},
            "timestamp": "2026-01-01T00:00:00Z",
            "window": "15s",
            "containers": [{"name": "main", "usage": usage}],
        }


def replica_set(replicas: int = 2, request: str = "100m", name: str = "web") -> Object:
    resources = {"requests": {"cpu": request}} if request else {}
    container = {"name": "main", "image": "busybox", "resources": resources}
    return {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container]},
            },
        },
    }


def scaler(
    *metrics: Object, name: str = "web", kind: str = "ReplicaSet", most: int = 6, **spec: Any
) -> Object:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "minReplicas": 1,
            "maxReplicas": most,
            "metrics": list(metrics) or [share(50)],
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": "web"},
            **spec,
        },
    }


def share(percent: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": percent}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


@contextlib.asynccontextmanager
async def scaling(tmp_path: Path) -> AsyncIterator[tuple[Cluster, Metered]]:
    metered: list[Metered] = []

    def seen(client: Client) -> Client:
        metered.append(Metered(client))
        return metered[-1]

    async with cluster(
        tmp_path,
        [replicaset.CONTROLLER, horizontal_pod_autoscaler.CONTROLLER],
        nodes=[node()],
        scheduler=True,
        settings=Settings(autoscaling=TUNING),
        seen_by_controllers=seen,
    ) as running:
        yield running, metered[1]


def conditions(obj: Object) -> dict[str, tuple[str, str]]:
    found = (obj.get("status") or {}).get("conditions") or ()
    return {one["type"]: (one["status"], one["reason"]) for one in found}


async def seen(running: Cluster, wanted: Any, name: str = "web") -> Object:
    cache = running.caches.of(kinds.HORIZONTAL_POD_AUTOSCALER)
    await running.until(lambda: wanted(cache.get(f"default/{name}") or {}))
    return cache.get(f"default/{name}") or {}


async def told(running: Cluster, reason: str, *messages: str) -> None:
    """Waits for Events with this reason and these messages."""
    async with asyncio.timeout(10):
        while True:
            found = {str(event["message"]) for event in await running.events_of(reason)}
            if found >= set(messages):
                return


def replicas(running: Cluster) -> int:
    found = running.caches.of(kinds.REPLICA_SET).get("default/web")
    return int(found["spec"]["replicas"]) if found else -1


async def test_pods_come_and_go_with_their_load(tmp_path: Path) -> None:
    async with scaling(tmp_path) as (running, metered):
        await running.create(replica_set())
        await running.create(scaler())
        quiet = await seen(running, lambda s: "ScalingLimited" in conditions(s))
        assert conditions(quiet) == {
            "AbleToScale": ("True", "ReadyForNewScale"),
            "ScalingActive": ("True", "ValidMetricFound"),
            "ScalingLimited": ("False", "DesiredWithinRange"),
        }
        current = {"averageUtilization": 50, "averageValue": "50m"}
        assert quiet["status"]["currentMetrics"] == [
            {"type": "Resource", "resource": {"name": "cpu", "current": current}}
        ]
        metered.cpu = "400m"
        await running.until(lambda: replicas(running) == 6)
        busy = await seen(
            running, lambda s: conditions(s)["ScalingLimited"] == ("True", "TooManyReplicas")
        )
        assert busy["status"]["lastScaleTime"]
        metered.cpu = "0"
        await running.until(lambda: replicas(running) == 1)
        await told(running, "SuccessfulRescale", "New size: 1; reason: All metrics below target")


async def test_what_keeps_it_from_scaling_is_said(tmp_path: Path) -> None:
    async with scaling(tmp_path) as (running, metered):
        await running.create(scaler(kind="Deployment"))
        await seen(running, lambda s: conditions(s) == {"AbleToScale": ("False", "FailedGetScale")})
        lost = scaler(name="lost")
        lost["spec"]["scaleTargetRef"] = {"apiVersion": "x/v1", "kind": "Odd", "name": "o"}
        await running.create(lost)
        found = await seen(running, lambda s: "AbleToScale" in conditions(s), "lost")
        [only] = found["status"]["conditions"]
        assert only["message"] == (
            "the HPA controller was unable to get the target's current scale:"
            ' no matches for kind "Odd" in group "x"'
        )
        await running.create(replica_set(replicas=0))
        of_nothing = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web"}
        await running.change(
            kinds.HORIZONTAL_POD_AUTOSCALER, "web", {"spec": {"scaleTargetRef": of_nothing}}
        )
        await seen(
            running, lambda s: conditions(s).get("ScalingActive") == ("False", "ScalingDisabled")
        )
        assert replicas(running) == 0
        metered.cpu = None
        await running.change(kinds.REPLICA_SET, "web", {"spec": {"replicas": 2}})
        found = await seen(
            running,
            lambda s: conditions(s).get("ScalingActive") == ("False", "FailedGetResourceMetric"),
        )
        messages = {c["type"]: c["message"] for c in found["status"]["conditions"]}
        assert messages["ScalingActive"] == (
            "the HPA was unable to compute the replica count: failed to get cpu utilization: unable"
            " to get metrics for resource cpu: unable to fetch metrics from resource metrics API:"
            " nobody measures"
        )
        assert replicas(running) == 2


async def test_a_metric_nobody_serves_lets_the_others_only_add_pods(tmp_path: Path) -> None:
    target = {"type": "AverageValue", "averageValue": "10"}
    foreign = {"type": "Pods", "pods": {"metric": {"name": "packets"}, "target": target}}
    async with scaling(tmp_path) as (running, metered):
        metered.cpu = "10m"
        await running.create(replica_set(replicas=3))
        await running.create(scaler(foreign, share(50)))
        found = await seen(
            running,
            lambda s: conditions(s).get("ScalingActive") == ("False", "FailedGetPodsMetric"),
        )
        assert replicas(running) == 3
        assert found["status"]["currentReplicas"] == 3
        await told(
            running,
            "FailedComputeMetricsReplicas",
            "invalid metrics (1 invalid out of 2), first error is: failed to get pods metric value:"
            " unable to get metric packets: unable to fetch metrics from custom metrics API: no"
            " custom metrics API (custom.metrics.k8s.io) registered",
        )
        metered.cpu = "100m"
        await running.until(lambda: replicas(running) == 6)


async def test_two_autoscalers_of_the_same_pods_are_told_apart(tmp_path: Path) -> None:
    async with scaling(tmp_path) as (running, _):
        await running.create(replica_set())
        await running.create(scaler())
        await seen(running, lambda s: "ScalingLimited" in conditions(s))
        await running.create(scaler(name="more"))
        await seen(
            running,
            lambda s: conditions(s).get("ScalingActive") == ("False", "AmbiguousSelector"),
            "more",
        )


async def test_limits_hold_whatever_is_measured(tmp_path: Path) -> None:
    async with scaling(tmp_path) as (running, metered):
        metered.cpu = None
        await running.create(replica_set(replicas=9))
        await running.create(scaler())
        await running.until(lambda: replicas(running) == 6)
        await running.change(
            kinds.HORIZONTAL_POD_AUTOSCALER, "web", {"spec": {"minReplicas": 8, "maxReplicas": 9}}
        )
        await running.until(lambda: replicas(running) == 8)
        await told(
            running,
            "SuccessfulRescale",
            "New size: 6; reason: Current number of replicas above Spec.MaxReplicas",
            "New size: 8; reason: Current number of replicas below Spec.MinReplicas",
        )
