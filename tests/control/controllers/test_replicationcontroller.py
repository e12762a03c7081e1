"""ReplicationControllers: the number of pods, by plain labels."""

from __future__ import annotations

from pathlib import Path

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers import replicationcontroller
from tests.support.cluster import Cluster, cluster, pod, template


def rc(replicas: int = 3) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ReplicationController",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": replicas, "template": template("web")},
    }


async def test_it_keeps_its_number_of_pods_and_says_how_many(tmp_path: Path) -> None:
    async with cluster(tmp_path, [replicationcontroller.CONTROLLER], kubelets=False) as c:
        await c.create(rc(3))
        await c.until(lambda: len(c.list(kinds.POD)) == 3)
        owner = meta.controller_of(c.list(kinds.POD)[0])
        assert owner is not None
        assert (owner["apiVersion"], owner["kind"]) == ("v1", "ReplicationController")
        await c.until(lambda: status(c)["replicas"] == 3)
        await c.change(kinds.REPLICATION_CONTROLLER, "web", {"spec": {"replicas": 1}})
        await c.until(lambda: len(c.list(kinds.POD)) == 1)


def status(c: Cluster) -> Object:
    return c.list(kinds.REPLICATION_CONTROLLER)[0].get("status") or {"replicas": 0}


async def test_it_adopts_what_it_selects_and_lets_go_of_what_it_no_longer_does(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, [replicationcontroller.CONTROLLER], kubelets=False) as c:
        await c.create(pod("orphan", {"app": "web"}))
        await c.create(rc(1))
        await c.until(lambda: meta.controller_of(c.list(kinds.POD)[0]))
        await c.change(kinds.POD, "orphan", {"metadata": {"labels": {"app": "other"}}})
        await c.until(lambda: len(c.list(kinds.POD)) == 2)
        await c.until(lambda: meta.controller_of(orphan(c)) is None)


def orphan(c: Cluster) -> Object:
    return next(p for p in c.list(kinds.POD) if meta.name(p) == "orphan")
