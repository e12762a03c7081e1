"""Endpoints, EndpointSlices, their mirror, and load-balancer addresses."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.control.controllers import (
    endpoint_mirror,
    endpoint_slices,
    endpoints,
    load_balancer,
)
from tests.support.cluster import cluster, node, pod

ALL = (
    endpoints.CONTROLLER,
    endpoint_slices.CONTROLLER,
    endpoint_mirror.CONTROLLER,
    load_balancer.CONTROLLER,
)


def service(name: str = "web", ports: list[Object] | None = None, **spec: Any) -> Object:
    ports = [{"port": 80}] if ports is None else ports
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default", "labels": {"team": "a"}, "uid": "s"},
        "spec": {"selector": {"app": "web"}, "ports": ports, **spec},
    }


def running_pod(number: int, ready: bool = True, **more: Any) -> Object:
    made = pod(f"p{number:04}", {"app": "web"}, nodeName="n1", **more)
    made["metadata"]["uid"] = f"u{number}"
    address = f"10.42.{number // 250}.{number % 250 + 1}"
    made["status"] = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": str(ready)}],
    }
    return made


def stored(todo: endpoint_slices.Plan, existing: list[Object]) -> list[Object]:
    """What the API holds after a plan."""
    by_name = {meta.name(slice): slice for slice in existing}
    for slice in todo.delete:
        del by_name[meta.name(slice)]
    for slice in todo.update:
        by_name[meta.name(slice)] = slice
    for slice in todo.create:
        name = f"s{len(by_name)}-{id(slice)}"
        by_name[name] = {**slice, "metadata": {**slice["metadata"], "name": name}}
    return list(by_name.values())


def plan(svc: Object, pods: list[Object], existing: list[Object]) -> endpoint_slices.Plan:
    return endpoint_slices.plan(svc, pods, existing, lambda name: "")


def test_a_distribution_hints_at_the_zone_of_each_ready_endpoint() -> None:
    pods = [running_pod(1), running_pod(2, ready=False)]

    def hints(svc: Object, zone: str) -> list[object]:
        (made,) = endpoint_slices.plan(svc, pods, [], lambda name: zone).create
        return [one.get("hints") for one in made["endpoints"]]

    close = service(trafficDistribution="PreferClose")
    assert hints(close, "a") == [{"forZones": [{"name": "a"}]}, None]
    assert hints(close, "") == [None, None]
    assert hints(service(), "a") == [None, None]
    assert hints(service(trafficDistribution="PreferSameZone"), "a") == hints(close, "a")
    here = service(trafficDistribution="PreferSameNode")
    both = {"forZones": [{"name": "a"}], "forNodes": [{"name": "n1"}]}
    assert hints(here, "a") == [both, None]
    assert hints(here, "") == [{"forNodes": [{"name": "n1"}]}, None]


def addresses(slices: list[Object]) -> list[str]:
    return sorted(e["addresses"][0] for s in slices for e in s["endpoints"])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(0, 400), max_size=260), min_size=1, max_size=4))
def test_slices_hold_every_endpoint_once_and_at_most_a_hundred(rounds: list[set[int]]) -> None:
    existing: list[Object] = []
    for numbers in rounds:
        pods = [running_pod(number) for number in numbers]
        todo = plan(service(), pods, existing)
        existing = stored(todo, existing)
        assert addresses(existing) == sorted(p["status"]["podIP"] for p in pods)
        assert all(len(slice["endpoints"]) <= 100 for slice in existing)
        assert existing, "one empty slice says that there is none"
        again = plan(service(), pods, existing)
        assert again == endpoint_slices.Plan()


def test_one_changed_endpoint_changes_one_slice() -> None:
    pods = [running_pod(number) for number in range(250)]
    existing = stored(plan(service(), pods, []), [])
    pods[120] = running_pod(120, ready=False)
    todo = plan(service(), pods, existing)
    assert (len(todo.create), len(todo.update), len(todo.delete)) == (0, 1, 0)
    todo = plan(service(), pods[:7] + pods[8:], existing)
    assert len(todo.update) <= 2


def test_conditions_tell_ready_serving_and_terminating() -> None:
    leaving = running_pod(1)
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    def conditions(svc: Object, one: Object) -> Object:
        (slice,) = plan(svc, [one], []).create
        return slice["endpoints"][0]["conditions"]  # type: ignore[no-any-return]

    assert conditions(service(), leaving) == {"ready": False, "serving": True, "terminating": True}
    waiting = running_pod(2, ready=False)
    assert conditions(service(), waiting)["ready"] is False
    assert conditions(service(publishNotReadyAddresses=True), waiting) == {
        "ready": True,
        "serving": False,
        "terminating": False,
    }


def test_named_ports_lead_where_each_pod_has_them() -> None:
    ports = [{"name": "http", "port": 80, "targetPort": "web"}]
    pods = []
    for number, container_port in enumerate((8080, 8080, 9090)):
        made = running_pod(number)
        made["spec"]["containers"][0]["ports"] = [{"name": "web", "containerPort": container_port}]
        pods.append(made)
    slices = plan(service(ports=ports), pods, []).create
    found = {(s["ports"][0]["port"], len(s["endpoints"])) for s in slices}
    assert found == {(8080, 2), (9090, 1)}
    target = endpoints.wanted(service(ports=ports), pods)
    assert [s["ports"][0]["port"] for s in target["subsets"]] == [8080, 9090]


def test_a_headless_service_names_its_pods() -> None:
    one = running_pod(1, hostname="db-0", subdomain="web")
    svc = service(ports=[], clusterIP="None")
    (slice,) = plan(svc, [one], []).create
    assert slice["endpoints"][0]["hostname"] == "db-0"
    assert "service.kubernetes.io/headless" in meta.labels(slice)
    target = endpoints.wanted(svc, [one])
    assert target["subsets"][0]["addresses"][0]["hostname"] == "db-0"


def test_endpoints_put_pods_that_are_not_ready_aside() -> None:
    target = endpoints.wanted(service(), [running_pod(1), running_pod(2, ready=False)])
    (subset,) = target["subsets"]
    assert [a["ip"] for a in subset["addresses"]] == ["10.42.0.2"]
    assert [a["ip"] for a in subset["notReadyAddresses"]] == ["10.42.0.3"]
    assert subset["ports"] == [{"port": 80, "protocol": "TCP"}]


async def test_a_service_follows_its_pods(tmp_path: Path) -> None:
    async with cluster(tmp_path, ALL, nodes=[node()], scheduler=True) as running:
        made = service()
        del made["metadata"]["uid"]
        await running.create(made)
        for name in ("a", "b"):
            await running.create(pod(name, {"app": "web"}))

        def ready() -> int:
            return sum(
                bool(e["conditions"]["ready"])
                for s in running.list(kinds.ENDPOINT_SLICE, "default")
                if meta.labels(s).get("kubernetes.io/service-name") == "web"
                for e in s["endpoints"] or ()
            )

        def in_endpoints() -> int:
            found = running.caches.of(kinds.ENDPOINTS).get("default/web") or {}
            return sum(len(s.get("addresses") or ()) for s in found.get("subsets") or ())

        def zones() -> set[str]:
            found = running.list(kinds.ENDPOINT_SLICE, "default")
            return {e.get("zone", "") for s in found for e in s["endpoints"] or ()}

        await running.until(lambda: (ready(), in_endpoints()) == (2, 2), "both pods")
        for zone in ("a", "b"):
            labels = {"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}}
            await running.client.patch(kinds.NODE, meta.name(node()), labels)
            await running.until(partial(lambda zone: zones() == {zone}, zone), "the node's zone")
        await running.client.delete(kinds.POD, "a", "default")
        await running.until(lambda: (ready(), in_endpoints()) == (1, 1), "one pod")
        await running.client.delete(kinds.SERVICE, "web", "default")
        await running.until(
            lambda: running.caches.of(kinds.ENDPOINTS).get("default/web") is None and not ready()
        )


async def test_endpoints_written_by_hand_are_mirrored(tmp_path: Path) -> None:
    async with cluster(tmp_path, ALL) as running:
        made = service("outside")
        del made["metadata"]["uid"], made["spec"]["selector"]
        await running.create(made)
        by_hand = {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": {"name": "outside", "namespace": "default"},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 5432}]}],
        }
        await running.create(by_hand)

        def mirrored() -> list[str]:
            return addresses(
                [
                    s
                    for s in running.list(kinds.ENDPOINT_SLICE, "default")
                    if meta.labels(s).get("kubernetes.io/service-name") == "outside"
                ]
            )

        await running.until(lambda: mirrored() == ["192.0.2.7"])
        await running.change(
            kinds.ENDPOINTS,
            "outside",
            {"subsets": [{"addresses": [{"ip": "192.0.2.8"}], "ports": [{"port": 5432}]}]},
        )
        await running.until(lambda: mirrored() == ["192.0.2.8"])
        assert len(running.list(kinds.ENDPOINTS, "default")) == 1


async def test_a_load_balancer_gets_the_addresses_of_ready_nodes(tmp_path: Path) -> None:
    async with cluster(tmp_path, ALL, nodes=[node()]) as running:
        made = service(type="LoadBalancer")
        del made["metadata"]["uid"]
        await running.create(made)

        def found() -> Any:
            svc = running.caches.of(kinds.SERVICE).get("default/web") or {}
            return (svc.get("status") or {}).get("loadBalancer")

        await running.until(lambda: found() == {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]})
        spec = {
            "type": "ClusterIP",
            "allocateLoadBalancerNodePorts": None,
            "externalTrafficPolicy": None,
            "ports": [{"port": 80}],
        }
        await running.change(kinds.SERVICE, "web", {"spec": spec})
        await running.until(lambda: not found())
