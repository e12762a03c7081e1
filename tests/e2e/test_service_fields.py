"""Each field of a Service, from the API to real packets: a cluster whose pods are processes of the
host's own network, and a second host as the client outside.

Fields whose packets are tried elsewhere are in `TRIED`; together they are all that a Service has.
"""

from __future__ import annotations

import ast
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.schemas.nodes import schema_for
from tests.lab.cluster import ROOT, Cluster
from tests.lab.host import Host, lab, wait_for
from tests.lab.pods import ask, serve, stop

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

HERE = "e2e/test_service_fields.py"
KERNEL = "dataplane/test_kernel.py"
POLICIES = "dataplane/test_traffic_policies.py"
BOTH = "e2e/test_dual_stack.py::test_a_service_of_both_answers_the_host_and_pods_on_each_address"
PLAIN = f"{HERE}::test_ports_lead_to_the_targets_of_selected_pods_by_number_and_by_name"
TRIED = {
    "allocateLoadBalancerNodePorts": f"{HERE}::test_a_balancer_without_node_ports",
    "clusterIP": f"{HERE}::test_a_cluster_ip_may_be_chosen_and_a_headless_service_has_none",
    "clusterIPs": BOTH,
    "externalIPs": f"{KERNEL}::test_external_and_load_balancer_addresses_lead_to_pods",
    "externalName": f"{HERE}::test_an_external_name_is_a_name_only",
    "externalTrafficPolicy": f"{POLICIES}::"
    "test_a_local_policy_keeps_the_clients_address_and_leaves_pods_free",
    "healthCheckNodePort": f"{HERE}::test_a_health_port_says_whether_a_node_has_endpoints",
    "internalTrafficPolicy": f"{POLICIES}::test_an_internal_policy_binds_pods_to_their_node",
    "ipFamilies": BOTH,
    "ipFamilyPolicy": BOTH,
    "loadBalancerClass": f"{HERE}::test_a_balancer_of_another_class_is_left_to_others",
    "loadBalancerIP": f"{HERE}::test_a_balancer_without_node_ports",
    "loadBalancerSourceRanges": f"{POLICIES}::test_source_ranges_let_only_those_through",
    "ports": PLAIN,
    "ports.appProtocol": "ingress/test_http2_pods.py",
    "ports.name": PLAIN,
    "ports.nodePort": PLAIN,
    "ports.port": PLAIN,
    "ports.protocol": PLAIN,
    "ports.targetPort": PLAIN,
    "publishNotReadyAddresses": f"{HERE}::test_pods_that_are_not_ready_serve_where_that_is_wanted",
    "selector": PLAIN,
    "sessionAffinity": f"{KERNEL}::test_affinity_holds_while_the_backend_lives_and_no_longer",
    "sessionAffinityConfig": f"{KERNEL}::test_a_silent_client_is_forgotten_after_the_time_out",
    "trafficDistribution": f"{POLICIES}::"
    "test_a_distribution_keeps_traffic_in_its_zone_while_it_can",
    "type": PLAIN,
}


class World:
    """The cluster, and the host outside."""

    def __init__(self, cluster: Cluster, outside: Host) -> None:
        self.cluster, self.outside = cluster, outside
        self.node = cluster.host

    def service(self, name: str, *ports: dict[str, Any], **spec: Any) -> dict[str, Any]:
        """Makes it, and returns what the API made of it."""
        given = {"ports": list(ports) or [{"port": 80, "targetPort": 8080}], **spec}
        self.apply("v1", "Service", name, spec={"selector": {"app": "web"}, **given})
        return dict(self.cluster.get("service", name))

    def apply(self, version: str, kind: str, name: str, **content: Any) -> None:
        metadata = {"name": name, **content.pop("metadata", {})}
        manifest = {"apiVersion": version, "kind": kind, "metadata": metadata, **content}
        file = self.node.directory / "manifest.json"
        file.write_text(json.dumps(manifest))
        self.cluster.meshkube("apply", "-f", str(file))

    def answers(self, address: str, port: int, udp: bool = False, outside: bool = False) -> bool:
        host = self.outside if outside else self.node
        try:
            return ask(host.name, address, port, udp, timeout=0.5)[0] == "pod"
        except OSError:
            return False

    def soon(self, address: str, port: int, udp: bool = False, outside: bool = False) -> None:
        what = f"{address}:{port}"
        wait_for(lambda: self.answers(address, port, udp, outside), 20, what)

    def gone(self, address: str, port: int) -> None:
        wait_for(lambda: not self.answers(address, port), 20, f"no answer at {address}:{port}")


def pod(name: str, ports: bool = False, **spec: Any) -> dict[str, Any]:
    """`ports`: it says its own; of the host's network only one pod may have each."""
    container: dict[str, Any] = {"name": "main", "image": "any"}
    if ports:
        container["ports"] = [{"name": "http", "containerPort": 8080}]
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"hostNetwork": True, "containers": [container], **spec},
    }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with lab(2) as (host, outside):
        server = serve(host.name, "pod", 8080)
        subnet = host.address.rpartition(".")[0]
        pool = f"--load-balancer-pool={subnet}.200-{subnet}.209"
        cluster = Cluster(host, "--runtime=hollow", f"--node-ip={host.address}", pool)
        try:
            cluster.start()
            made = World(cluster, outside)
            made.apply("v1", "Pod", "web", **pod("web", ports=True))
            yield made
        finally:
            stop(server)


def test_every_field_is_tried_by_a_test_that_is_there() -> None:
    spec = schema_for(kinds.SERVICE).fields["spec"].fields
    ports = spec["ports"].items
    assert ports is not None
    assert TRIED.keys() == {*spec, *(f"ports.{name}" for name in ports.fields)}
    for place in TRIED.values():
        file, _, name = place.partition("::")
        tree = ast.parse((Path(ROOT) / "tests" / file).read_text())
        found = {node.name for node in ast.walk(tree) if hasattr(node, "name")}
        assert not name or name in found, place


def test_ports_lead_to_the_targets_of_selected_pods_by_number_and_by_name(world: World) -> None:
    made = world.service(
        "plain",
        {"name": "number", "port": 80, "targetPort": 8080, "nodePort": 30080},
        {"name": "named", "port": 81, "targetPort": "http"},
        {"name": "udp", "port": 82, "protocol": "UDP", "targetPort": 8080, "nodePort": 30080},
        {"name": "same", "port": 8080},
        type="NodePort",
    )
    address = made["spec"]["clusterIP"]
    for port in (80, 81, 8080):
        world.soon(address, port)
    world.soon(address, 82, udp=True)
    world.soon(world.node.address, 30080, outside=True)
    world.soon(world.node.address, 30080, udp=True, outside=True)


def test_a_cluster_ip_may_be_chosen_and_a_headless_service_has_none(world: World) -> None:
    world.service("chosen", clusterIP="10.43.7.7")
    world.soon("10.43.7.7", 80)
    world.service("headless", clusterIP="None")
    wait_for(
        lambda: world.cluster.dig("headless.default.svc.cluster.local") == world.node.address,
        10,
        "the pod's address under the headless name",
    )


def test_a_balancer_without_node_ports(world: World) -> None:
    asked = world.node.address.rpartition(".")[0] + ".205"
    made = world.service(
        "balanced", type="LoadBalancer", allocateLoadBalancerNodePorts=False, loadBalancerIP=asked
    )
    assert "nodePort" not in made["spec"]["ports"][0]
    world.soon(asked, 80, outside=True)
    shown = world.cluster.get("service", "balanced")["status"]["loadBalancer"]["ingress"]
    assert [each["ip"] for each in shown] == [asked]


def test_a_balancer_of_another_class_is_left_to_others(world: World) -> None:
    made = world.service(
        "foreign",
        {"port": 80, "targetPort": 8080, "nodePort": 30090},
        type="LoadBalancer",
        loadBalancerClass="example.com/other",
    )
    world.soon(made["spec"]["clusterIP"], 80)
    world.soon(world.node.address, 30090, outside=True)
    assert world.cluster.get("service", "foreign")["status"]["loadBalancer"] == {}


def test_pods_that_are_not_ready_serve_where_that_is_wanted(world: World) -> None:
    gate = pod("late", readinessGates=[{"conditionType": "example.com/ready"}])
    world.apply("v1", "Pod", "late", **gate)
    for name, early in (("strict", False), ("early", True)):
        made = world.service(name, selector={"app": "late"}, publishNotReadyAddresses=early)
        if early:
            world.soon(made["spec"]["clusterIP"], 80)
        else:
            strict = made["spec"]["clusterIP"]
    assert not world.answers(strict, 80)


def test_an_external_name_is_a_name_only(world: World) -> None:
    world.apply(
        "v1", "Service", "away", spec={"type": "ExternalName", "externalName": "target.invalid"}
    )
    name = "away.default.svc.cluster.local"
    wait_for(lambda: world.cluster.dig(name, "CNAME") == "target.invalid.", 10, "the external name")
    assert "clusterIP" not in world.cluster.get("service", "away")["spec"]


def test_a_health_port_says_whether_a_node_has_endpoints(world: World) -> None:
    world.apply("v1", "Pod", "healthy", **pod("healthy"))
    made = world.service(
        "local",
        type="LoadBalancer",
        externalTrafficPolicy="Local",
        selector={"app": "healthy"},
    )
    port = made["spec"]["healthCheckNodePort"]
    url = f"http://{world.node.address}:{port}/healthz"

    def says(code: str) -> Callable[[], bool]:
        command = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "2", url)
        return lambda: world.outside.run(*command, check=False).stdout == code

    wait_for(says("200"), 20, "a healthy node")
    world.cluster.meshkube("delete", "pod", "healthy")
    wait_for(says("503"), 20, "a node without endpoints")


def slice_of(world: World, name: str, **conditions: bool) -> None:
    world.apply(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        f"{name}-by-hand",
        metadata={"labels": {"kubernetes.io/service-name": name}},
        addressType="IPv4",
        ports=[{"port": 8080, "protocol": "TCP"}],
        endpoints=[{"addresses": [world.node.address], "conditions": conditions}],
    )


def test_without_a_selector_endpoints_are_given_by_hand(world: World) -> None:
    world.apply("v1", "Service", "manual", spec={"ports": [{"port": 80}]})
    address = world.cluster.get("service", "manual")["spec"]["clusterIP"]
    slice_of(world, "manual", ready=True)
    world.soon(address, 80)
    # One that terminates serves on while nobody else does, and nobody does once it is gone.
    slice_of(world, "manual", ready=False, serving=True, terminating=True)
    time.sleep(0.5)
    assert world.answers(address, 80)
    slice_of(world, "manual", ready=False, serving=False, terminating=True)
    world.gone(address, 80)


def test_rules_that_somebody_deletes_are_back_in_seconds_and_an_event_says_so(
    world: World,
) -> None:
    address = world.service("repaired")["spec"]["clusterIP"]
    world.soon(address, 80)
    world.node.run("nft", "delete", "table", "inet", "meshkube")
    began = time.monotonic()
    world.soon(address, 80)
    # A check every 5 s, and a machine that may be busy.
    assert time.monotonic() - began < 15

    def told() -> bool:
        events = world.cluster.get("events")["items"]
        return any(e["reason"] == "RulesRepaired" and "gone" in e["message"] for e in events)

    wait_for(told, 10, "an Event on the Node")


def test_ports_that_are_taken_are_named_and_the_other_parts_run(world: World) -> None:
    host = world.outside
    servers = [serve(host.name, "taken", port) for port in (53, 80)]
    other = Cluster(host, "--runtime=hollow", f"--node-ip={host.address}")
    try:
        other.server = host.start(*other.command, log="meshkube.log")
        wait_for(lambda: "port 80 for http is taken" in other.log, 30, "a word on port 80")
        wait_for(lambda: "port 53 of 10.43.0.10 is taken" in other.log, 30, "a word on port 53")
        command = ("curl", "-ks", "-m", "2", "https://10.43.0.1/livez")
        wait_for(lambda: host.run(*command, check=False).stdout == "ok", 20, "the API by Service")
    finally:
        if other.server is not None:
            other.stop()
        for server in servers:
            stop(server)
