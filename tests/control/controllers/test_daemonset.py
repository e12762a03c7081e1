"""DaemonSets on the real API, with nodes that pretend and the real scheduler."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers import daemonset, garbage
from tests.support.cluster import Cluster, cluster, node, template

CONTROLLERS = [daemonset.CONTROLLER]


def daemon_set(image: str = "busybox:1", pod: Object | None = None, **spec: Any) -> Object:
    made = template("log", image)
    made["spec"].update(pod or {})
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "log", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "log"}}, "template": made, **spec},
    }


def status(c: Cluster) -> Object:
    return c.list(kinds.DAEMON_SET)[0].get("status") or {}


def placed(c: Cluster) -> Counter[str]:
    return Counter(p["spec"].get("nodeName", "") for p in c.list(kinds.POD))


def images(c: Cluster) -> Counter[str]:
    return Counter(p["spec"]["containers"][0]["image"] for p in c.list(kinds.POD))


def changed(image: str) -> Object:
    return {"spec": {"template": {"spec": {"containers": [{"name": "main", "image": image}]}}}}


def nodes(count: int) -> list[Object]:
    return [node(f"n{i}") for i in range(1, count + 1)]


async def test_each_node_gets_one_pod_also_those_that_come_later(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=nodes(3), scheduler=True) as c:
        await c.create(daemon_set())
        await c.until(lambda: placed(c) == {"n1": 1, "n2": 1, "n3": 1})
        await c.create(node("n4"))
        await c.until(lambda: placed(c)["n4"] == 1)
        await c.until(lambda: status(c).get("numberAvailable") == 4)
        counts = status(c)
        assert counts["desiredNumberScheduled"] == counts["numberReady"] == 4
        assert "numberUnavailable" not in counts


async def test_taints_and_selectors_keep_nodes_out_and_unschedulable_ones_do_not(
    tmp_path: Path,
) -> None:
    tainted, cordoned, other = node("n2"), node("n3"), node("n4", labels={"disk": "slow"})
    tainted["spec"] = {"taints": [{"key": "gpu", "effect": "NoSchedule"}]}
    cordoned["spec"] = {"unschedulable": True}
    cordoned["metadata"]["labels"] = {"disk": "fast"}
    tainted["metadata"]["labels"] = {"disk": "fast"}
    everything = [node("n1", labels={"disk": "fast"}), tainted, cordoned, other]
    async with cluster(tmp_path, CONTROLLERS, nodes=everything, scheduler=True) as c:
        await c.create(daemon_set(pod={"nodeSelector": {"disk": "fast"}}))
        await c.until(lambda: placed(c) == {"n1": 1, "n3": 1})
        await c.change(kinds.NODE, "n4", {"metadata": {"labels": {"disk": "fast"}}}, "")
        await c.until(lambda: placed(c) == {"n1": 1, "n3": 1, "n4": 1})
        # A taint that comes later: NoSchedule lets pods go on, NoExecute ends them.
        taints = [{"key": "gpu", "effect": "NoExecute"}]
        await c.change(kinds.NODE, "n1", {"spec": {"taints": taints}}, "")
        await c.until(lambda: placed(c) == {"n3": 1, "n4": 1})


async def test_an_update_goes_node_by_node_and_can_be_undone(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=nodes(3), scheduler=True) as c:
        await c.create(daemon_set())
        await c.until(lambda: status(c).get("numberAvailable") == 3)
        worst = 3

        def look(old: Object | None, new: Object | None) -> None:
            nonlocal worst
            worst = min(worst, (new or {}).get("status", {}).get("numberAvailable", 0))

        c.caches.of(kinds.DAEMON_SET).subscribe(look)
        await c.change(kinds.DAEMON_SET, "log", changed("busybox:2"))
        await c.until(lambda: images(c) == {"busybox:2": 3})
        await c.until(lambda: status(c).get("updatedNumberScheduled") == 3)
        await c.until(lambda: status(c).get("numberAvailable") == 3)
        assert worst == 2
        numbers = {r["revision"] for r in c.list(kinds.CONTROLLER_REVISION)}
        assert numbers == {1, 2}
        first = next(r for r in c.list(kinds.CONTROLLER_REVISION) if r["revision"] == 1)
        # What `kubectl rollout undo` does.
        await c.client.patch(kinds.DAEMON_SET, "log", first["data"], "default", type="strategic")
        await c.until(lambda: images(c) == {"busybox:1": 3})
        numbers = {r["revision"] for r in c.list(kinds.CONTROLLER_REVISION)}
        assert numbers == {2, 3}


async def test_a_surge_makes_the_new_pod_before_the_old_one_goes(tmp_path: Path) -> None:
    strategy = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    async with cluster(tmp_path, CONTROLLERS, nodes=nodes(2), scheduler=True) as c:
        await c.create(daemon_set(updateStrategy=strategy))
        await c.until(lambda: status(c).get("numberAvailable") == 2)
        most = 0

        def look(old: Object | None, new: Object | None) -> None:
            nonlocal most
            most = max(most, len(c.list(kinds.POD)))

        c.caches.of(kinds.POD).subscribe(look)
        await c.change(kinds.DAEMON_SET, "log", changed("busybox:2"))
        await c.until(lambda: images(c) == {"busybox:2": 2})
        assert most == 3


async def test_on_delete_waits_for_a_person(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=nodes(2), scheduler=True) as c:
        await c.create(daemon_set(updateStrategy={"type": "OnDelete"}))
        await c.until(lambda: status(c).get("numberAvailable") == 2)
        await c.change(kinds.DAEMON_SET, "log", changed("busybox:2"))
        await c.until(lambda: status(c).get("updatedNumberScheduled") is None)
        victim = c.list(kinds.POD)[0]
        await c.client.delete(kinds.POD, meta.name(victim), "default")
        await c.until(lambda: images(c) == {"busybox:1": 1, "busybox:2": 1})


async def test_a_pod_that_failed_is_made_anew(tmp_path: Path) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=nodes(1), scheduler=True) as c:
        await c.create(daemon_set())
        await c.until(lambda: status(c).get("numberAvailable") == 1)
        victim = c.list(kinds.POD)[0]
        failed = {**victim, "status": {**victim["status"], "phase": "Failed"}}
        await c.client.update(kinds.POD, failed, subresource="status")
        await c.until(
            lambda: c.list(kinds.POD) and meta.uid(c.list(kinds.POD)[0]) != meta.uid(victim)
        )
        assert await c.events_of("FailedDaemonPod")


@pytest.mark.parametrize("limit", [0, 1])
async def test_old_revisions_go_beyond_the_limit(tmp_path: Path, limit: int) -> None:
    async with cluster(tmp_path, CONTROLLERS, nodes=nodes(1), scheduler=True) as c:
        await c.create(daemon_set(revisionHistoryLimit=limit))
        for number in range(2, 5):
            await c.until(lambda: status(c).get("numberAvailable") == 1)
            await c.change(kinds.DAEMON_SET, "log", changed(f"busybox:{number}"))
            await c.until(lambda n=number: images(c) == {f"busybox:{n}": 1})
        await c.until(lambda: len(c.list(kinds.CONTROLLER_REVISION)) == limit + 1)


async def test_pods_go_with_their_set(tmp_path: Path) -> None:
    controllers = [daemonset.CONTROLLER, garbage.CONTROLLER]
    async with cluster(tmp_path, controllers, nodes=nodes(2), scheduler=True) as c:
        await c.create(daemon_set())
        await c.until(lambda: status(c).get("numberAvailable") == 2)
        await c.client.delete(kinds.DAEMON_SET, "log", "default", propagation="Background")
        await c.until(lambda: not c.list(kinds.POD) and not c.list(kinds.CONTROLLER_REVISION))
