"""Nodes: heartbeats, taints, evictions, addresses, and what happens to their pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers import (
    node_ipam,
    node_lifecycle,
    node_zones,
    pod_gc,
    service_account,
    taint_eviction,
)
from meshkube.control.loop import Settings
from tests.support.cluster import Cluster, cluster, node, pod

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def with_ready(status: str, **more: Any) -> Object:
    made = node(**more)
    made["spec"] = {}
    made["status"]["conditions"] = [{"type": "Ready", "status": status}]
    return made


@pytest.mark.parametrize(
    ("status", "keys"),
    [
        ("True", set()),
        ("False", {node_lifecycle.NOT_READY}),
        ("Unknown", {node_lifecycle.UNREACHABLE}),
    ],
)
def test_taints_follow_the_ready_condition(status: str, keys: set[str]) -> None:
    found = node_lifecycle.taints(with_ready(status), NOW)
    assert {taint["key"] for taint in found} == keys
    assert {taint["effect"] for taint in found} == ({"NoSchedule", "NoExecute"} if keys else set())


def test_taints_of_others_stay_and_ours_keep_their_time() -> None:
    made = with_ready("False")
    theirs = {"key": "gpu", "effect": "NoSchedule"}
    made["spec"]["taints"] = [theirs, *node_lifecycle.taints(made, NOW)]
    later = node_lifecycle.taints(made, NOW + timedelta(hours=1))
    assert later == made["spec"]["taints"]
    made["status"]["conditions"][0]["status"] = "True"
    assert node_lifecycle.taints(made, NOW) == [theirs]
    made["spec"]["unschedulable"] = True
    assert node_lifecycle.taints(made, NOW)[-1]["key"] == node_lifecycle.UNSCHEDULABLE


def test_silence_is_counted_from_when_the_last_sign_was_seen() -> None:
    memory: dict[str, node_lifecycle.Heartbeat] = {}
    lease = {"spec": {"renewTime": "2001-01-01T00:00:00Z"}}
    assert node_lifecycle.heartbeat(memory, node(), lease, 100) == 0
    assert node_lifecycle.heartbeat(memory, node(), lease, 130) == 30
    lease["spec"]["renewTime"] = "2001-01-01T00:00:01Z"
    assert node_lifecycle.heartbeat(memory, node(), lease, 150) == 0


def taint(key: str = "gpu", ago: float = 0) -> Object:
    return {
        "key": key,
        "effect": "NoExecute",
        "timeAdded": meta.timestamp(NOW - timedelta(seconds=ago)),
    }


@pytest.mark.parametrize(
    ("tolerations", "taints", "wait"),
    [
        ([], [], None),
        ([], [taint()], 0),
        ([{"key": "gpu", "operator": "Exists"}], [taint()], None),
        ([{"key": "gpu", "operator": "Exists", "tolerationSeconds": 60}], [taint(ago=20)], 40),
        ([{"key": "gpu", "operator": "Exists", "tolerationSeconds": 60}], [taint(ago=90)], 0),
        ([{"operator": "Exists"}], [taint(node_lifecycle.UNREACHABLE)], None),
    ],
)
def test_how_long_a_pod_puts_up_with_a_taint(
    tolerations: list[Object], taints: list[Object], wait: float | None
) -> None:
    assert taint_eviction.leaves_in(pod("p", tolerations=tolerations), taints, NOW) == wait


def taints_of(obj: Object) -> list[Object]:
    return (obj.get("spec") or {}).get("taints") or []


@contextlib.asynccontextmanager
async def heard_of(running: Cluster, name: str) -> AsyncIterator[None]:
    """The node renews its Lease meanwhile."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": "kube-node-lease"},
        "spec": {"holderIdentity": name},
    }
    await running.create(lease)

    async def renew() -> None:
        while True:
            renewal = {"spec": {"renewTime": meta.micro_timestamp(datetime.now(UTC))}}
            await running.change(kinds.LEASE, name, renewal, "kube-node-lease")
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        task = group.create_task(renew())
        yield
        task.cancel()


async def test_a_silent_node_is_marked_and_its_pods_taken_out_of_service(tmp_path: Path) -> None:
    told = Settings(node_grace=0.5)
    nodes = [node(), node("n2")]
    async with (
        cluster(
            tmp_path, [node_lifecycle.CONTROLLER], nodes=nodes, settings=told, scheduler=True
        ) as running,
        heard_of(running, "n2"),
    ):
        await running.create(pod("web", nodeName="n1"))
        cache = running.caches.of(kinds.POD)
        await running.until(lambda: pods.ready(cache.get("default/web") or {}), "ready")
        running.makes_ready = False

        def found() -> Object:
            return running.caches.of(kinds.NODE).get("n1") or {}

        await running.until(lambda: node_lifecycle.ready_status(found()) == "Unknown", "silent")
        await running.until(lambda: len(taints_of(found())) == 2, "tainted")
        await running.until(lambda: not pods.ready(cache.get("default/web") or {}), "unready")
        entry = pods.condition(found(), "Ready")
        assert entry is not None
        assert entry["message"] == "Kubelet stopped posting node status."
        said = await running.events_of("NodeNotReady")
        assert sorted(e["involvedObject"]["name"] for e in said) == ["n1", "web"]
        # It is heard of again.
        back = meta.copy(await running.client.get(kinds.NODE, "n1"))
        back["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        await running.client.update(kinds.NODE, back, subresource="status")
        await running.until(lambda: not taints_of(found()), "free again")


async def test_renewed_leases_keep_a_node_in_service(tmp_path: Path) -> None:
    told = Settings(node_grace=0.4)
    async with (
        cluster(tmp_path, [node_lifecycle.CONTROLLER], nodes=[node()], settings=told) as running,
        heard_of(running, "n1"),
    ):
        await asyncio.sleep(1)
        found = running.caches.of(kinds.NODE).get("n1") or {}
        assert node_lifecycle.ready_status(found) == "True"


async def test_a_node_gets_as_long_as_its_own_lease_says(tmp_path: Path) -> None:
    told = Settings(node_grace=0.3)
    async with cluster(
        tmp_path, [node_lifecycle.CONTROLLER], nodes=[node(), node("n2")], settings=told
    ) as running:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "n1", "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": "n1", "leaseDurationSeconds": 40},
        }
        await running.create(lease)

        def status(name: str) -> str:
            return node_zones.ready_status(running.caches.of(kinds.NODE).get(name) or {})

        await running.until(lambda: status("n2") == "Unknown", "silent")
        assert status("n1") == "True"


async def test_when_no_node_is_heard_of_pods_stay_where_they_are(tmp_path: Path) -> None:
    told = Settings(node_grace=0.3)
    nodes = [node(), node("n2")]
    async with cluster(
        tmp_path, [node_lifecycle.CONTROLLER], nodes=nodes, settings=told
    ) as running:

        def effects(name: str) -> set[str]:
            found = running.caches.of(kinds.NODE).get(name) or {}
            return {taint["effect"] for taint in taints_of(found)}

        await running.until(lambda: effects("n1") == effects("n2") == {"NoSchedule"}, "marked")
        async with heard_of(running, "n2"):
            back = meta.copy(await running.client.get(kinds.NODE, "n2"))
            back["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
            await running.client.update(kinds.NODE, back, subresource="status")
            await running.until(lambda: effects("n1") == {"NoSchedule", "NoExecute"}, "n1 alone")
            await running.until(lambda: effects("n2") == set(), "n2 is back")


@pytest.mark.parametrize(
    ("silent", "heard", "trouble"), [(1, 1, False), (2, 1, False), (3, 2, True), (3, 3, False),
                                     (1, 0, True)],
)  # fmt: skip
def test_a_zone_is_in_trouble_when_most_of_it_is_silent(
    silent: int, heard: int, trouble: bool
) -> None:
    away = [with_ready("Unknown") for _ in range(silent)]
    assert node_zones.in_trouble(away[0], [*away, *(with_ready("True"),) * heard]) is trouble


def test_the_trouble_of_one_zone_is_not_that_of_another() -> None:
    def placed(status: str, zone: str) -> Object:
        made = with_ready(status)
        made["metadata"]["labels"] = {"topology.kubernetes.io/zone": zone}
        return made

    dark = [placed("Unknown", "a") for _ in range(3)]
    light = [placed("True", "b") for _ in range(3)]
    lonely = placed("Unknown", "b")
    assert node_zones.in_trouble(dark[0], [*dark, *light, lonely])
    assert not node_zones.in_trouble(lonely, [*dark, *light, lonely])


def test_pods_of_a_node_declared_out_of_service_are_let_go_once_they_are_to_go() -> None:
    dead, alive = with_ready("Unknown"), with_ready("True")
    alive["metadata"]["name"] = "n2"
    for one in (dead, alive):
        one["spec"]["taints"] = [{"key": pod_gc.OUT_OF_SERVICE, "effect": "NoExecute"}]
    going, stays, lives = pod("a", nodeName="n1"), pod("b", nodeName="n1"), pod("c", nodeName="n2")
    for one in (going, lives):
        one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert pod_gc.out_of_service([going, stays, lives], [dead, alive]) == [going]


async def test_pods_leave_a_node_they_do_not_tolerate(tmp_path: Path) -> None:
    async with cluster(
        tmp_path, [taint_eviction.CONTROLLER], nodes=[node()], scheduler=True
    ) as running:
        goes = pod("goes")
        goes["metadata"]["finalizers"] = ["example.com/look"]
        await running.create(goes)
        stays = [{"operator": "Exists"}]
        await running.create(pod("stays", tolerations=stays))
        await running.until(lambda: all(pods.node_name(p) for p in running.list(kinds.POD)))
        taints = [{"key": "x", "effect": "NoExecute"}]
        await running.change(kinds.NODE, "n1", {"spec": {"taints": taints}}, "")

        def why(name: str) -> str:
            [found] = [p for p in running.list(kinds.POD) if meta.name(p) == name]
            condition = pods.condition(found, "DisruptionTarget") or {}
            return str(condition.get("reason", "")) if meta.deleting(found) else "stays"

        await running.until(lambda: why("goes") == "DeletionByTaintManager")
        assert why("stays") == "stays"


async def test_a_pod_that_nobody_will_end_has_failed(tmp_path: Path) -> None:
    nodes = [node("n1"), node("n2")]
    async with cluster(tmp_path, [pod_gc.CONTROLLER], nodes=nodes) as running:
        unplaced = pod("unplaced")
        unplaced["metadata"]["finalizers"] = ["example.com/look"]
        await running.create(unplaced)
        await running.client.delete(kinds.POD, "unplaced", "default")
        await running.until(lambda: all(map(meta.deleting, running.list(kinds.POD))))
        await running.client.delete(kinds.NODE, "n2")
        await running.until(lambda: all(map(pods.finished, running.list(kinds.POD))))


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 15)))
def test_each_node_gets_a_part_of_its_own(taken: set[int]) -> None:
    used = {f"10.42.{number}.0/24" for number in taken}
    free = node_ipam.first_free("10.42.0.0/20", used)
    if len(taken) == 16:
        assert free is None
    else:
        assert free is not None
        assert free not in used
        assert ip_network(free).subnet_of(ip_network("10.42.0.0/20"))  # type: ignore[arg-type]


def test_parts_of_other_sizes_and_small_clusters() -> None:
    assert node_ipam.first_free("10.42.0.0/22", ["10.42.0.0/23"]) == "10.42.2.0/24"
    assert node_ipam.first_free("10.42.0.0/26", []) == "10.42.0.0/26"
    assert node_ipam.first_free("fd00::/56", ["fd00::/64", "10.0.0.0/24"]) == "fd00:0:0:1::/64"


async def test_nodes_get_pod_addresses_without_overlap(tmp_path: Path) -> None:
    told = Settings(pod_cidr="10.42.0.0/16")
    made = [node(f"n{number}") for number in range(5)]
    async with cluster(tmp_path, [node_ipam.CONTROLLER], nodes=made, settings=told) as running:

        def given() -> list[str]:
            return sorted(c for n in running.list(kinds.NODE) for c in node_ipam.cidrs(n))

        await running.until(lambda: given() == [f"10.42.{number}.0/24" for number in range(5)])
        await running.client.delete(kinds.NODE, "n2")
        await running.until(lambda: len(given()) == 4)
        await running.create(node("late"))
        await running.until(lambda: "10.42.2.0/24" in given())


def test_the_oldest_finished_pods_go_first() -> None:
    done = [
        {"metadata": {"name": f"p{n}", "creationTimestamp": f"2026-01-0{n}T00:00:00Z"}}
        for n in (3, 1, 2)
    ]
    assert [meta.name(p) for p in pod_gc.surplus(done, kept=1)] == ["p1", "p2"]


def test_pods_of_missing_nodes_are_found() -> None:
    everything = [pod("a", nodeName="n1"), pod("b", nodeName="gone"), pod("c")]
    assert pod_gc.missing(everything, [node("n1")]) == {"gone"}


async def account_and_ca(running: Cluster, namespace: str) -> None:
    await running.until(
        lambda: (
            running.caches.of(kinds.SERVICE_ACCOUNT).get(f"{namespace}/default")
            and (ca := running.caches.of(kinds.CONFIG_MAP).get(f"{namespace}/kube-root-ca.crt"))
            and ca["data"] == {"ca.crt": "PEM"}
        )
    )


async def test_every_namespace_has_an_account_and_the_ca(tmp_path: Path) -> None:
    told = Settings(cluster_ca="PEM")
    async with cluster(tmp_path, [service_account.CONTROLLER], settings=told) as running:
        await running.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}
        )
        for namespace in ("default", "shop"):
            await account_and_ca(running, namespace)
        await running.client.delete(kinds.SERVICE_ACCOUNT, "default", "shop")
        change = {"data": {"ca.crt": "other"}}
        await running.change(kinds.CONFIG_MAP, "kube-root-ca.crt", change, "shop")
        await account_and_ca(running, "shop")
