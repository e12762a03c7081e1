"""The controllers with a provider of somebody else, and how it is found."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from meshkube.address_pool import parse
from meshkube.api import kinds, meta
from meshkube.api.balancing import FROM_POOL
from meshkube.api.types import Object
from meshkube.control.cloud import loading
from meshkube.control.cloud.bare_metal import BareMetal
from meshkube.control.cloud.loading import CloudSettings
from meshkube.control.cloud.provider import Route
from meshkube.control.controllers import cloud_controllers, cloud_nodes, load_balancer, node_ipam
from meshkube.control.loop import Settings
from tests.control.cloud.example import ExampleCloud
from tests.support.cluster import Cluster, cluster, node


def service(name: str = "web", **spec: Any) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 80}], **spec},
    }


def found(running: Cluster, name: str = "web") -> Any:
    svc = running.caches.of(kinds.SERVICE).get(f"default/{name}") or {}
    return ((svc.get("status") or {}).get("loadBalancer") or {}).get("ingress")


def stored_node(running: Cluster, name: str = "n1") -> Object:
    return running.caches.of(kinds.NODE).get(name) or {}


async def test_a_balancer_is_made_followed_and_taken_back(tmp_path: Path) -> None:
    cloud = ExampleCloud(CloudSettings())
    all_controllers = (load_balancer.CONTROLLER,)
    settings = Settings(cloud=cloud)
    async with cluster(tmp_path, all_controllers, nodes=[node()], settings=settings) as running:
        await running.create(service())
        await running.until(lambda: found(running) == [{"hostname": "web.balancers.example"}])
        assert cloud.balancers == {"default/web": ["n1"]}
        await running.create(node("n2"))
        await running.until(lambda: cloud.balancers["default/web"] == ["n1", "n2"])
        await running.client.delete(kinds.SERVICE, "web", "default")
        await running.until(lambda: not cloud.balancers)
        await running.until(lambda: not running.caches.of(kinds.SERVICE).get("default/web"))


async def test_a_service_of_another_type_gives_its_balancer_back(tmp_path: Path) -> None:
    cloud = ExampleCloud(CloudSettings())
    async with cluster(
        tmp_path, (load_balancer.CONTROLLER,), nodes=[node()], settings=Settings(cloud=cloud)
    ) as running:
        await running.create(service())
        await running.until(lambda: found(running))
        spec = {
            "type": "ClusterIP",
            "allocateLoadBalancerNodePorts": None,
            "externalTrafficPolicy": None,
            "ports": [{"port": 80}],
        }
        await running.change(kinds.SERVICE, "web", {"spec": spec})
        await running.until(lambda: not found(running) and not cloud.balancers)
        left = running.caches.of(kinds.SERVICE).get("default/web")
        assert left is not None
        assert not meta.metadata(left).get("finalizers")


async def test_a_refusal_is_an_event_and_is_tried_again(tmp_path: Path) -> None:
    cloud = ExampleCloud(CloudSettings())
    cloud.refuses = "no more balancers"
    async with cluster(
        tmp_path, (load_balancer.CONTROLLER,), nodes=[node()], settings=Settings(cloud=cloud)
    ) as running:
        await running.create(service())
        while not (events := await running.events_of("QuotaExceeded")):
            pass
        assert events[0]["message"] == "no more balancers"
        cloud.refuses = ""
        await running.until(lambda: found(running))


async def test_a_pool_gives_each_service_an_address_of_its_own(
    tmp_path: Path,
) -> None:
    settings = Settings(cloud=BareMetal(parse(["192.0.2.1-192.0.2.4"])))
    async with cluster(
        tmp_path,
        (load_balancer.CONTROLLER,),
        nodes=[node()],
        settings=settings,
    ) as running:
        for number in range(5):
            await running.create(service(f"s{number}"))
        names = [f"s{number}" for number in range(5)]

        def held() -> list[str]:
            return [entry[0]["ip"] for name in names if (entry := found(running, name))]

        await running.until(lambda: len(held()) == 4)
        assert len(set(held())) == 4
        while not await running.events_of("NoFreeAddress"):
            pass
        (svc,) = (s for s in running.list(kinds.SERVICE) if meta.name(s) == "s0")
        assert [c["type"] for c in svc["status"]["conditions"]] == [FROM_POOL]


async def test_nodes_are_described_by_their_machines(tmp_path: Path) -> None:
    cloud = ExampleCloud(CloudSettings())
    cloud.machines["n1"] = "running"
    taint = {"key": cloud_nodes.UNINITIALIZED, "value": "true", "effect": "NoSchedule"}
    new = {**node(), "spec": {"taints": [taint]}}
    async with cluster(
        tmp_path, cloud_controllers(cloud), nodes=[new], settings=Settings(cloud=cloud)
    ) as running:
        await running.until(lambda: len(stored_node(running)["status"]["addresses"]) == 2)
        held = stored_node(running)
        assert held["spec"]["providerID"] == "example://n1"
        assert not held["spec"].get("taints")
        assert meta.labels(held)["topology.kubernetes.io/zone"] == "zone-a"
        assert {a["type"] for a in held["status"]["addresses"]} == {"InternalIP", "ExternalIP"}


async def test_a_node_that_is_away_is_judged_by_its_machine(tmp_path: Path) -> None:
    cloud = ExampleCloud(CloudSettings())
    cloud.machines["n1"] = "shut down"
    away = node()
    away["status"]["conditions"][0]["status"] = "Unknown"
    async with cluster(
        tmp_path, cloud_controllers(cloud), nodes=[away], settings=Settings(cloud=cloud)
    ) as running:
        await running.until(lambda: stored_node(running).get("spec", {}).get("taints"))
        assert stored_node(running)["spec"]["taints"][0]["key"] == cloud_nodes.SHUTDOWN
        del cloud.machines["n1"]
        labels = {"metadata": {"labels": {"a": "b"}}}
        await running.client.patch(kinds.NODE, "n1", labels)
        await running.until(lambda: not stored_node(running))


async def test_routes_to_pods_follow_the_nodes(tmp_path: Path) -> None:
    cloud = ExampleCloud(CloudSettings())
    cloud.machines.update(n1="running", n2="running")
    cloud.table.add(Route("gone", "10.42.9.0/24"))
    settings = Settings(cloud=cloud, pod_cidr="10.42.0.0/16")
    both = (*cloud_controllers(cloud), node_ipam.CONTROLLER)
    async with cluster(tmp_path, both, nodes=[node(), node("n2")], settings=settings) as running:
        await running.until(lambda: {route.node for route in cloud.table} == {"n1", "n2"})
        await running.client.delete(kinds.NODE, "n2")
        await running.until(lambda: {route.node for route in cloud.table} == {"n1"})


def test_a_provider_is_found_by_the_name_of_its_entry_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entry = EntryPoint("example", f"{ExampleCloud.__module__}:ExampleCloud", loading.GROUP)
    broken = EntryPoint("broken", "no.such.module:Cloud", loading.GROUP)
    monkeypatch.setattr(loading, "entry_points", lambda group: EntryPoints([entry, broken]))
    settings = CloudSettings(pod_cidr="10.42.0.0/16")
    made = loading.load("example", settings)
    assert isinstance(made, ExampleCloud)
    assert made.settings is settings
    assert isinstance(loading.load("bare-metal", settings), BareMetal)
    with pytest.raises(ValueError, match=r"'hetzner' is none .*: bare-metal, broken"):
        loading.load("hetzner", settings)
    with pytest.raises(ValueError, match="broken: ModuleNotFoundError"):
        loading.load("broken", settings)
