"""StatefulSets on the real API, with nodes that pretend and the real scheduler."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers import garbage, statefulset
from tests.support.cluster import STORAGE, Cluster, cluster, node, template

CONTROLLERS = [statefulset.CONTROLLER, garbage.CONTROLLER, *STORAGE]
NODES = [node("n1"), node("n2")]


def stateful_set(replicas: int = 3, **spec: Any) -> Object:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": {
            "replicas": replicas,
            "serviceName": "dbs",
            "selector": {"matchLabels": {"app": "db"}},
            "template": template("db"),
            **spec,
        },
    }


CLAIM = {
    "metadata": {"name": "data"},
    "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Gi"}},
    },
}


def names(c: Cluster) -> list[str]:
    return sorted(meta.name(p) for p in c.list(kinds.POD))


def claims(c: Cluster) -> list[str]:
    return sorted(meta.name(p) for p in c.list(kinds.PERSISTENT_VOLUME_CLAIM))


def status(c: Cluster) -> Object:
    return c.list(kinds.STATEFUL_SET)[0].get("status") or {}


def images(c: Cluster) -> Counter[str]:
    return Counter(p["spec"]["containers"][0]["image"] for p in c.list(kinds.POD))


def changed(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}


async def test_pods_come_and_go_in_order_under_stable_names(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=NODES, scheduler=True, kubelets=True) as c:
        c.makes_ready = False
        await c.create(stateful_set())
        for number in range(3):
            await c.until(lambda n=number: names(c) == [f"db-{i}" for i in range(n + 1)])
            bound = f"db-{number}"

            def placed(name: str = bound) -> Object | None:
                found = next(p for p in c.list(kinds.POD) if meta.name(p) == name)
                return found if found["spec"].get("nodeName") else None

            await c.mark_ready(await c.until(placed))
        await c.until(lambda: status(c).get("availableReplicas") == 3)
        pod = next(p for p in c.list(kinds.POD) if meta.name(p) == "db-1")
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("db-1", "dbs")
        labels = meta.labels(pod)
        assert labels["apps.kubernetes.io/pod-index"] == "1"
        assert labels["statefulset.kubernetes.io/pod-name"] == "db-1"
        assert labels["controller-revision-hash"] == status(c)["currentRevision"]
        seen: list[list[str]] = []
        c.caches.of(kinds.POD).subscribe(lambda old, new: seen.append(names(c)))
        await c.change(kinds.STATEFUL_SET, "db", {"spec": {"replicas": 1}})
        await c.until(lambda: names(c) == ["db-0"])
        assert ["db-0", "db-2"] not in seen


async def test_parallel_ones_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, kubelets=False) as c:
        await c.create(stateful_set(podManagementPolicy="Parallel", ordinals={"start": 5}))
        await c.until(lambda: names(c) == ["db-5", "db-6", "db-7"])


async def test_an_update_goes_from_the_highest_down_to_the_partition(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=NODES, scheduler=True) as c:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        await c.create(stateful_set(updateStrategy=strategy))
        await c.until(lambda: status(c).get("availableReplicas") == 3)
        first = status(c)["currentRevision"]
        await c.change(kinds.STATEFUL_SET, "db", changed("busybox:2"))
        await c.until(lambda: images(c) == {"busybox:1": 1, "busybox:2": 2})
        await c.until(lambda: status(c).get("updatedReplicas") == 2)
        await c.until(lambda: status(c).get("readyReplicas") == 3)
        assert status(c)["currentRevision"] == first != status(c)["updateRevision"]
        # A pod below the partition that goes comes back as it was.
        await c.client.delete(kinds.POD, "db-0", "default")
        await c.until(lambda: len(names(c)) == 3 and status(c).get("readyReplicas") == 3)
        assert images(c) == {"busybox:1": 1, "busybox:2": 2}
        rolled = {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 0}}}}
        await c.change(kinds.STATEFUL_SET, "db", rolled)
        await c.until(lambda: images(c) == {"busybox:2": 3})
        await c.until(lambda: status(c)["currentRevision"] == status(c)["updateRevision"])
        # Undone, the first revision is the newest again.
        old = next(r for r in c.list(kinds.CONTROLLER_REVISION) if meta.name(r) == first)
        await c.client.patch(kinds.STATEFUL_SET, "db", old["data"], "default", type="strategic")
        await c.until(lambda: images(c) == {"busybox:1": 3})
        await c.until(lambda: status(c)["currentRevision"] == first)
        assert {r["revision"] for r in c.list(kinds.CONTROLLER_REVISION)} == {2, 3}


async def test_each_pod_gets_its_claims_and_finds_them_again(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=NODES, scheduler=True) as c:
        await c.create(stateful_set(2, volumeClaimTemplates=[CLAIM]))
        await c.until(lambda: status(c).get("availableReplicas") == 2)
        assert claims(c) == ["data-db-0", "data-db-1"]
        volume = c.list(kinds.POD)[0]["spec"]["volumes"][0]
        assert volume["persistentVolumeClaim"]["claimName"].startswith("data-db-")
        before = {meta.uid(p) for p in c.list(kinds.PERSISTENT_VOLUME_CLAIM)}
        await c.change(kinds.STATEFUL_SET, "db", {"spec": {"replicas": 1}})
        await c.until(lambda: names(c) == ["db-0"])
        await c.change(kinds.STATEFUL_SET, "db", {"spec": {"replicas": 2}})
        await c.until(lambda: status(c).get("availableReplicas") == 2)
        assert {meta.uid(p) for p in c.list(kinds.PERSISTENT_VOLUME_CLAIM)} == before
        await c.client.delete(kinds.STATEFUL_SET, "db", "default", propagation="Background")
        await c.until(lambda: not names(c))
        assert claims(c) == ["data-db-0", "data-db-1"]


async def test_claims_go_where_the_policy_says_so(tmp_path: Path) -> None:
    policy = {"whenScaled": "Delete", "whenDeleted": "Delete"}
    async with cluster(tmp_path, CONTROLLERS, nodes=NODES, scheduler=True) as c:
        await c.create(
            stateful_set(
                2,
                volumeClaimTemplates=[CLAIM],
                persistentVolumeClaimRetentionPolicy=policy,
            )
        )
        await c.until(lambda: status(c).get("availableReplicas") == 2)
        await c.change(kinds.STATEFUL_SET, "db", {"spec": {"replicas": 1}})
        await c.until(lambda: claims(c) == ["data-db-0"])
        assert names(c) == ["db-0"]
        await c.client.delete(kinds.STATEFUL_SET, "db", "default", propagation="Background")
        await c.until(lambda: not names(c) and not claims(c))
