"""Owners, dependents and namespaces that go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.controllers import deployment as deployments
from meshkube.control.controllers import garbage, namespace, replicaset, service_account
from tests.support.cluster import Cluster, cluster, deployment, node, pod

WORKLOADS = (garbage.CONTROLLER, deployments.CONTROLLER, replicaset.CONTROLLER)


def config(name: str, owners: list[Object] | None = None, space: str = "default") -> Object:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": space, "ownerReferences": owners or []},
    }


def owner(obj: Object, **more: Any) -> Object:
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": meta.name(obj),
        "uid": meta.uid(obj),
        **more,
    }


def test_one_owner_that_stands_keeps_an_object() -> None:
    held = config("c", [{"uid": "a"}, {"uid": "b"}])
    states: dict[str, garbage.OwnerState] = {"a": "solid", "b": "absent"}
    assert garbage.judge(held, lambda o: states[o["uid"]]) == garbage.Verdict(drop={"b"})
    states["a"] = "waiting"
    assert garbage.judge(held, lambda o: states[o["uid"]]).delete
    states = {"a": "solid", "b": "solid"}
    assert garbage.judge(held, lambda o: states[o["uid"]]) == garbage.Verdict()


async def exists(running: Cluster, name: str) -> bool:
    try:
        await running.client.get(kinds.CONFIG_MAP, name, "default")
    except ApiError:
        return False
    return True


async def wait_gone(running: Cluster, *names: str) -> None:
    cache = running.caches.of(kinds.CONFIG_MAP)
    await running.until(lambda: all(cache.get(f"default/{name}") is None for name in names))


async def test_dependents_follow_their_owner_down_the_line(tmp_path: Path) -> None:
    async with cluster(tmp_path, [garbage.CONTROLLER]) as running:
        top = await running.create(config("top"))
        middle = await running.create(config("middle", [owner(top)]))
        await running.create(config("bottom", [owner(middle)]))
        other = await running.create(config("other"))
        await running.create(config("shared", [owner(top), owner(other)]))
        await running.client.delete(kinds.CONFIG_MAP, "top", "default", propagation="Background")
        await wait_gone(running, "top", "middle", "bottom")
        cache = running.caches.of(kinds.CONFIG_MAP)
        await running.until(
            lambda: (
                [o["name"] for o in cache.get("default/shared")["metadata"]["ownerReferences"]]  # type: ignore[index]
                == ["other"]
            )
        )


async def test_an_object_made_for_an_owner_long_gone_goes(tmp_path: Path) -> None:
    async with cluster(tmp_path, [garbage.CONTROLLER]) as running:
        other = await running.create(config("again"))
        await running.create(config("late", [owner(other) | {"uid": "of-an-earlier-one"}]))
        await wait_gone(running, "late")
        assert await exists(running, "again")


async def test_a_foreground_deletion_takes_the_owner_last(tmp_path: Path) -> None:
    async with cluster(tmp_path, [garbage.CONTROLLER]) as running:
        top = await running.create(config("top"))
        held = config("held", [owner(top, blockOwnerDeletion=True)])
        held["metadata"]["finalizers"] = ["example.com/wait"]
        await running.create(held)
        await running.client.delete(kinds.CONFIG_MAP, "top", "default", propagation="Foreground")
        cache = running.caches.of(kinds.CONFIG_MAP)
        await running.until(lambda: meta.deleting(cache.get("default/held") or {}))
        assert await exists(running, "top")
        await running.change(kinds.CONFIG_MAP, "held", {"metadata": {"finalizers": []}})
        await wait_gone(running, "held", "top")


async def test_orphans_stay(tmp_path: Path) -> None:
    async with cluster(tmp_path, [garbage.CONTROLLER]) as running:
        top = await running.create(config("top"))
        await running.create(config("left", [owner(top)]))
        await running.client.delete(kinds.CONFIG_MAP, "top", "default", propagation="Orphan")
        await wait_gone(running, "top")
        left = await running.client.get(kinds.CONFIG_MAP, "left", "default")
        assert not left["metadata"].get("ownerReferences")


async def test_an_owner_of_an_unknown_kind_deletes_nothing(tmp_path: Path) -> None:
    async with cluster(tmp_path, [garbage.CONTROLLER]) as running:
        reference = {"apiVersion": "example.com/v1", "kind": "Thing", "name": "t", "uid": "x"}
        await running.create(config("kept", [reference]))
        marker = await running.create(config("marker"))
        await running.create(config("gone", [owner(marker) | {"uid": "y"}]))
        await wait_gone(running, "gone")
        assert await exists(running, "kept")


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_a_deleted_deployment_leaves_nothing(tmp_path: Path, propagation: Any) -> None:
    async with cluster(tmp_path, WORKLOADS, nodes=[node()], scheduler=True) as running:
        await running.create(deployment())
        await running.until(lambda: len(running.list(kinds.POD)) == 3)
        await running.client.delete(kinds.DEPLOYMENT, "web", "default", propagation=propagation)
        await running.until(
            lambda: (
                not any(
                    running.list(kind) for kind in (kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD)
                )
            ),
            "all gone",
        )


async def test_a_deleted_namespace_is_emptied_and_goes(tmp_path: Path) -> None:
    controllers = (*WORKLOADS, namespace.CONTROLLER, service_account.CONTROLLER)
    async with cluster(tmp_path, controllers, nodes=[node()], scheduler=True) as running:
        await running.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        )
        await running.until(
            lambda: running.caches.of(kinds.SERVICE_ACCOUNT).get("shop/default"), "account"
        )
        workload = deployment()
        workload["metadata"]["namespace"] = "shop"
        await running.create(workload)
        held = config("held", space="shop")
        held["metadata"]["finalizers"] = ["example.com/wait"]
        await running.create(held)
        await running.until(lambda: len(running.list(kinds.POD, "shop")) == 3)
        await running.client.delete(kinds.NAMESPACE, "shop")

        def waits_for() -> str:
            shop = running.caches.of(kinds.NAMESPACE).get("shop") or {}
            conditions = (shop.get("status") or {}).get("conditions") or ()
            return next(
                (c["message"] for c in conditions if c["type"] == "NamespaceContentRemaining"), ""
            )

        only_held = "Some resources are remaining: configmaps has 1 resource instances"
        await running.until(lambda: waits_for() == only_held, "only the held one is left")
        await running.change(kinds.CONFIG_MAP, "held", {"metadata": {"finalizers": []}}, "shop")
        await running.until(
            lambda: running.caches.of(kinds.NAMESPACE).get("shop") is None, "namespace gone"
        )


async def test_a_pod_of_a_finished_owner_is_not_touched(tmp_path: Path) -> None:
    async with cluster(tmp_path, [garbage.CONTROLLER], nodes=[node()], scheduler=True) as running:
        the_node = await running.client.get(kinds.NODE, "n1")
        lone = pod("static")
        lone["metadata"]["ownerReferences"] = [owner(the_node)]
        await running.create(lone)
        await running.until(lambda: running.list(kinds.POD)[0]["spec"].get("nodeName"))
        assert meta.uid(await running.client.get(kinds.POD, "static", "default"))
