"""Deployments and ReplicaSets on the real API."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.client.base import Client
from meshkube.control import pods
from meshkube.control.controllers import deployment as deployments
from meshkube.control.controllers import replicaset, revisions
from tests.support.cluster import Cluster, cluster, deployment, node, template

BOTH = (deployments.CONTROLLER, replicaset.CONTROLLER)


def status(running: Cluster, name: str = "web") -> dict[str, Any]:
    obj = running.caches.of(kinds.DEPLOYMENT).get(f"default/{name}") or {}
    return obj.get("status") or {}


def finished(running: Cluster, replicas: int = 3) -> bool:
    """What `kubectl rollout status` waits for."""
    obj = running.caches.of(kinds.DEPLOYMENT).get("default/web")
    if obj is None or status(running).get("observedGeneration", 0) < meta.generation(obj):
        return False
    now = status(running)
    return (
        now.get("updatedReplicas", 0) == replicas
        and now.get("replicas", 0) == replicas
        and now.get("availableReplicas", 0) == replicas
    )


def set_image(image: str) -> Object:
    return {"spec": {"template": template("web", image)}}


def by_image(running: Cluster) -> dict[str, Object]:
    return {
        rs["spec"]["template"]["spec"]["containers"][0]["image"]: rs
        for rs in running.list(kinds.REPLICA_SET)
    }


async def test_a_deployment_becomes_pods_and_says_so(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        await running.create(deployment())
        await running.until(lambda: finished(running), "rollout")
        (rs,) = running.list(kinds.REPLICA_SET)
        assert meta.annotations(rs)[revisions.REVISION] == "1"
        assert rs["metadata"]["name"] == "web-" + meta.labels(rs)[revisions.TEMPLATE_HASH]
        obj = await running.until(
            lambda: (
                (d := running.caches.of(kinds.DEPLOYMENT).get("default/web"))
                and (c := pods.condition(d, "Progressing"))
                and c["reason"] == "NewReplicaSetAvailable"
                and d
            )
        )
        assert meta.annotations(obj)[revisions.REVISION] == "1"
        assert pods.condition(obj, "Available")["status"] == "True"  # type: ignore[index]
        assert len(running.list(kinds.POD)) == 3
        (scaled,) = await running.events_of("ScalingReplicaSet")
        assert scaled["message"] == f"Scaled up replica set {meta.name(rs)} from 0 to 3"
        assert len(await running.events_of("SuccessfulCreate")) == 3


async def test_a_rolling_update_keeps_within_its_limits(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
        await running.create(deployment(strategy=strategy))
        await running.until(lambda: finished(running), "rollout")
        seen: list[tuple[int, int]] = []

        def look(old: Object | None, new: Object | None) -> None:
            living = [pod for pod in running.list(kinds.POD) if pods.active(pod)]
            seen.append((len(living), sum(pods.ready(pod) for pod in living)))

        running.caches.of(kinds.POD).subscribe(look)
        await running.change(kinds.DEPLOYMENT, "web", set_image("busybox:2"))
        await running.until(
            lambda: finished(running) and len(running.list(kinds.POD)) == 3, "second rollout"
        )
        assert max(count for count, _ in seen) <= 4
        assert min(ready for _, ready in seen) >= 3
        assert meta.annotations(by_image(running)["busybox:2"])[revisions.REVISION] == "2"
        assert by_image(running)["busybox:1"]["spec"]["replicas"] == 0


async def test_an_undo_reuses_the_old_replica_set_as_the_newest_revision(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        cause = {"kubernetes.io/change-cause": "first"}
        await running.create(deployment(replicas=1, annotations=cause))
        await running.until(lambda: finished(running, 1))
        change = set_image("busybox:2")
        change["metadata"] = {"annotations": {"kubernetes.io/change-cause": "second"}}
        await running.change(kinds.DEPLOYMENT, "web", change)
        await running.until(lambda: finished(running, 1) and len(by_image(running)) == 2)
        causes = {
            image: meta.annotations(rs)["kubernetes.io/change-cause"]
            for image, rs in by_image(running).items()
        }
        assert causes == {"busybox:1": "first", "busybox:2": "second"}
        await running.change(kinds.DEPLOYMENT, "web", set_image("busybox:1"))
        await running.until(
            lambda: (
                finished(running, 1)
                and meta.annotations(by_image(running)["busybox:1"])[revisions.REVISION] == "3"
            )
        )
        assert meta.annotations(by_image(running)["busybox:1"])[revisions.HISTORY] == "1"
        assert len(running.list(kinds.REPLICA_SET)) == 2


async def test_old_revisions_beyond_the_limit_go(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        await running.create(deployment(replicas=1, revisionHistoryLimit=1))
        for number in range(2, 5):
            await running.until(lambda: finished(running, 1))
            await running.change(kinds.DEPLOYMENT, "web", set_image(f"busybox:{number}"))
        await running.until(
            lambda: finished(running, 1) and set(by_image(running)) == {"busybox:3", "busybox:4"},
            "clean-up",
        )


async def test_recreate_never_runs_two_templates_at_once(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        await running.create(deployment(strategy={"type": "Recreate"}))
        await running.until(lambda: finished(running))
        mixes: list[set[str]] = []

        def look(old: Object | None, new: Object | None) -> None:
            mixes.append({p["spec"]["containers"][0]["image"] for p in running.list(kinds.POD)})

        running.caches.of(kinds.POD).subscribe(look)
        await running.change(kinds.DEPLOYMENT, "web", set_image("busybox:2"))
        await running.until(lambda: finished(running), "second rollout")
        assert {"busybox:1", "busybox:2"} not in mixes
        assert {"busybox:2"} in mixes


async def test_a_paused_deployment_scales_but_does_not_roll(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        await running.create(deployment(replicas=2))
        await running.until(lambda: finished(running, 2))
        change = set_image("busybox:2")
        change["spec"] |= {"paused": True, "replicas": 4}
        await running.change(kinds.DEPLOYMENT, "web", change)
        await running.until(lambda: status(running).get("availableReplicas") == 4)
        assert set(by_image(running)) == {"busybox:1"}
        paused = await running.client.get(kinds.DEPLOYMENT, "web", "default")
        assert pods.condition(paused, "Progressing")["reason"] == "DeploymentPaused"  # type: ignore[index]
        await running.change(kinds.DEPLOYMENT, "web", {"spec": {"paused": None}})
        await running.until(lambda: finished(running, 4) and len(by_image(running)) == 2)


async def test_a_rollout_that_does_not_move_is_called_timed_out(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        running.makes_ready = False
        await running.create(deployment(replicas=1, progressDeadlineSeconds=1))

        def reason() -> str:
            obj = running.caches.of(kinds.DEPLOYMENT).get("default/web") or {}
            return str((pods.condition(obj, "Progressing") or {}).get("reason"))

        await running.until(lambda: reason() == "ProgressDeadlineExceeded", "deadline")


async def test_a_name_taken_by_another_template_is_avoided(tmp_path: Path) -> None:
    async with cluster(tmp_path, (replicaset.CONTROLLER,), nodes=[node()]) as running:
        stored = await running.create(deployment(replicas=1))
        taken = deployments.new_replica_set(stored, 1, 0, deployments.limits_of(stored))
        for part in ("ownerReferences", "annotations"):
            del taken["metadata"][part]
        taken["metadata"]["labels"] = {revisions.TEMPLATE_HASH: "x"}
        taken["spec"]["selector"] = {"matchLabels": {"app": "other"}}
        taken["spec"]["template"] = template("other")
        await running.create(taken)
    async with cluster(tmp_path, BOTH, nodes=[], scheduler=True) as running:
        await running.until(lambda: finished(running, 1), "rollout")
        assert status(running)["collisionCount"] == 1
        assert len(running.list(kinds.REPLICA_SET)) == 2


async def test_pods_that_go_are_replaced_and_never_doubled(tmp_path: Path) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        most = 0

        def look(old: Object | None, new: Object | None) -> None:
            nonlocal most
            most = max(most, sum(pods.active(pod) for pod in running.list(kinds.POD)))

        running.caches.of(kinds.POD).subscribe(look)
        await running.create(deployment(replicas=20))
        await running.until(lambda: finished(running, 20))
        first = {meta.uid(pod) for pod in running.list(kinds.POD)}
        for pod in running.list(kinds.POD)[:7]:
            await running.client.delete(kinds.POD, meta.name(pod), "default")
        await running.until(
            lambda: (
                finished(running, 20)
                and len({meta.uid(p) for p in running.list(kinds.POD)} & first) == 13
            )
        )
        assert most == 20


class Unreliable:
    """A Client whose writes sometimes fail, half of them after they took effect."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._luck = random.Random(5)
        self.failures = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        if name not in ("create", "update", "patch", "delete"):
            return method

        async def write(*arguments: Any, **more: Any) -> Any:
            luck = self._luck.random()
            if luck > 0.9:
                self.failures += 1
                raise ApiError(503, "ServiceUnavailable", "away")
            done = await method(*arguments, **more)
            if luck > 0.8:
                self.failures += 1
                raise ApiError(503, "ServiceUnavailable", "away, but it was written")
            return done

        return write


async def test_an_unreliable_api_neither_stops_a_rollout_nor_doubles_pods(tmp_path: Path) -> None:
    between: list[Unreliable] = []

    def unreliable(client: Client) -> Client:
        between.append(Unreliable(client))
        return between[-1]  # type: ignore[return-value]

    async with cluster(
        tmp_path, BOTH, nodes=[node()], scheduler=True, seen_by_controllers=unreliable
    ) as running:
        counts = [0]

        def look(old: Object | None, new: Object | None) -> None:
            counts.append(sum(pods.active(pod) for pod in running.list(kinds.POD)))

        running.caches.of(kinds.POD).subscribe(look)
        await running.create(deployment(replicas=12))
        await running.until(lambda: finished(running, 12), "rollout", timeout=40)
        assert max(counts) == 12
        assert sum(one.failures for one in between) > 0


async def test_a_replica_set_adopts_what_it_selects_and_lets_go_of_what_it_does_not(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, BOTH, nodes=[node()], scheduler=True) as running:
        lone = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "lone", "namespace": "default", "labels": {"app": "web"}},
            "spec": template("web")["spec"],
        }
        await running.create(lone)
        rs = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": template("web"),
            },
        }
        await running.create(rs)
        cache = running.caches.of(kinds.REPLICA_SET)
        await running.until(
            lambda: (cache.get("default/web") or {}).get("status", {}).get("availableReplicas") == 2
        )
        adopted = await running.client.get(kinds.POD, "lone", "default")
        assert meta.controller_of(adopted)["name"] == "web"  # type: ignore[index]
        assert len(running.list(kinds.POD)) == 2
        await running.change(kinds.POD, "lone", {"metadata": {"labels": {"app": "debug"}}})
        await running.until(lambda: len(running.list(kinds.POD)) == 3)
        released = await running.client.get(kinds.POD, "lone", "default")
        assert meta.controller_of(released) is None
