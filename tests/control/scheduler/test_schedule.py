"""Which node a pod gets, and what is said when it gets none."""

from __future__ import annotations

from time import perf_counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api.types import Object
from meshkube.control.scheduler.filters import refusal, tolerates
from meshkube.control.scheduler.model import NodeInfo, PodInfo, Snapshot, requests
from meshkube.control.scheduler.schedule import Decision, schedule


def node(name: str, cpu: str = "4", memory: str = "8Gi", pods: int = 110, **more: Any) -> Object:
    return {
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name} | more.pop("labels", {}),
        },
        "spec": more,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": str(pods)}},
    }


def pod(name: str = "p", cpu: str = "", owner: str = "", ports: tuple[int, ...] = (),
        **spec: Any) -> Object:  # fmt: skip
    container: Object = {"name": "c", "image": "app:1"}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    if ports:
        container["ports"] = [{"containerPort": p, "hostPort": p} for p in ports]
    metadata: Object = {"name": name, "namespace": "default", "uid": f"uid-{name}"}
    if owner:
        metadata["ownerReferences"] = [{"uid": owner, "controller": True}]
    return {"metadata": metadata, "spec": {"containers": [container], **spec}}


def nodes(*objects: Object) -> list[NodeInfo]:
    snapshot = Snapshot()
    for obj in objects:
        snapshot.set_node(obj)
    return snapshot.known()


def decide(obj: Object, *objects: Object) -> Decision:
    return schedule(PodInfo.of(obj), nodes(*objects))


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}
NO_HELP = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"


def in_zone(operator: str, *values: str) -> Object:
    term = {"matchExpressions": [{"key": "zone", "operator": operator, "values": list(values)}]}
    return {
        "nodeAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}
        }
    }


@pytest.mark.parametrize(
    ("obj", "target", "reason", "hope"),
    [
        (pod(cpu="5"), node("n"), "Insufficient cpu", NO_VICTIMS),
        (pod(), node("n", unschedulable=True), "node(s) were unschedulable", NO_HELP),
        (pod(), node("n", taints=[TAINT]), "node(s) had untolerated taint {gpu: yes}", NO_HELP),
        (
            pod(nodeSelector={"disk": "ssd"}),
            node("n"),
            "node(s) didn't match Pod's node affinity/selector",
            NO_HELP,
        ),
        (
            pod(affinity=in_zone("In", "a")),
            node("n", labels={"zone": "b"}),
            "node(s) didn't match Pod's node affinity/selector",
            NO_HELP,
        ),
        (pod(), node("n", pods=0), "Too many pods", NO_VICTIMS),
    ],
)
def test_a_node_that_cannot_take_it_says_why(
    obj: Object, target: Object, reason: str, hope: str
) -> None:
    said = decide(obj, target)
    assert said.node == ""
    assert said.message == (
        f"0/1 nodes are available: 1 {reason}. preemption: 0/1 nodes are available: 1 {hope}."
    )


def test_a_full_node_has_kubernetes_wording() -> None:
    snapshot = Snapshot()
    snapshot.set_node(node("n", cpu="1"))
    snapshot.set_pod(PodInfo.of(pod("first", cpu="800m", nodeName="n")))
    said = schedule(PodInfo.of(pod("second", cpu="500m")), snapshot.known())
    assert said.message == (
        "0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: 1 No"
        " preemption victims found for incoming pod."
    )


def test_reasons_of_many_nodes_are_counted() -> None:
    said = decide(
        pod(cpu="2", preemptionPolicy="Never"),
        node("a", cpu="1"),
        node("b", cpu="1"),
        node("c", taints=[TAINT]),
    )
    assert said.message == (
        "0/3 nodes are available: 1 node(s) had untolerated taint {gpu: yes}, 2 Insufficient cpu."
        " preemption: not eligible due to preemptionPolicy=Never."
    )
    assert decide(pod()).message == "no nodes available to schedule pods"


@pytest.mark.parametrize(
    ("toleration", "covers"),
    [
        ({"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "cpu", "operator": "Exists"}, False),
    ],
)
def test_tolerations_cover_taints(toleration: Object, covers: bool) -> None:
    assert tolerates([toleration], TAINT) is covers


@pytest.mark.parametrize(
    ("operator", "values", "fits"),
    [
        ("In", ["a", "b"], True),
        ("In", ["b"], False),
        ("NotIn", ["b"], True),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Gt", ["1"], False),
    ],
)
def test_node_affinity_operators(operator: str, values: list[str], fits: bool) -> None:
    obj = pod(affinity=in_zone(operator, *values))
    assert bool(decide(obj, node("n", labels={"zone": "a"})).node) is fits


def test_host_ports_clash_on_the_same_address_only() -> None:
    snapshot = Snapshot()
    snapshot.set_node(node("n"))
    snapshot.set_pod(PodInfo.of(pod("one", ports=(80,), nodeName="n")))
    (info,) = snapshot.known()
    clash = refusal(PodInfo.of(pod("two", ports=(80,))), info)
    assert clash is not None
    assert clash.reasons == ("node(s) didn't have free ports for the requested pod ports",)
    assert refusal(PodInfo.of(pod("two", ports=(81,))), info) is None
    snapshot.remove_pod("uid-one")
    assert refusal(PodInfo.of(pod("two", ports=(80,))), info) is None


def test_pods_of_one_owner_spread() -> None:
    snapshot = Snapshot()
    for name in ("a", "b", "c"):
        snapshot.set_node(node(name))
    for number in range(6):
        info = PodInfo.of(pod(f"p{number}", owner="rs"))
        snapshot.assume(info, schedule(info, snapshot.known()).node)
    assert [len(n.pods) for n in snapshot.known()] == [2, 2, 2]


def test_the_emptier_node_is_taken() -> None:
    snapshot = Snapshot()
    for name in ("a", "b"):
        snapshot.set_node(node(name))
    snapshot.set_pod(PodInfo.of(pod("big", cpu="3", nodeName="a")))
    assert schedule(PodInfo.of(pod(cpu="100m")), snapshot.known()).node == "b"


def test_preferences_and_soft_taints_weigh() -> None:
    soft = TAINT | {"effect": "PreferNoSchedule"}
    assert decide(pod(), node("a", taints=[soft]), node("b")).node == "b"
    preference = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["x"]}]}
    affinity = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "preference": preference}
            ]
        }
    }
    chosen = decide(pod(affinity=affinity), node("a"), node("b", labels={"zone": "x"}))
    assert chosen.node == "b"


def test_init_containers_count_by_the_largest_and_sidecars_by_their_sum() -> None:
    def container(cpu: str, **more: Any) -> Object:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    spec = {
        "containers": [container("100m"), container("200m")],
        "initContainers": [container("1"), container("50m", restartPolicy="Always")],
        "overhead": {"cpu": "10m"},
    }
    assert requests(spec) == {"cpu": 1010}
    spec["initContainers"] = [container("50m", restartPolicy="Always"), container("100m")]
    assert requests(spec) == {"cpu": 360}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(200, 4000), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 1500), st.booleans()), max_size=40),
)
def test_no_node_is_ever_overcommitted(cpus: list[int], asked: list[tuple[int, bool]]) -> None:
    snapshot = Snapshot()
    for number, cpu in enumerate(cpus):
        snapshot.set_node(node(f"n{number}", cpu=f"{cpu}m", pods=10))
    for number, (cpu, leaves) in enumerate(asked):
        info = PodInfo.of(pod(f"p{number}", cpu=f"{cpu}m"))
        decision = schedule(info, snapshot.known(), start=number)
        if decision.node:
            snapshot.assume(info, decision.node)
        else:
            for one in snapshot.known():
                room = one.allocatable["cpu"] - one.requested.get("cpu", 0)
                assert room < cpu or len(one.pods) == 10, "it would have fitted there"
        if leaves:
            snapshot.remove_pod(info.uid)
        for one in snapshot.known():
            used = sum(p.requests.get("cpu", 0) for p in one.pods.values())
            assert used == one.requested.get("cpu", 0) <= one.allocatable["cpu"]
            assert len(one.pods) <= 10


def test_an_assumed_pod_stays_until_the_api_says_otherwise() -> None:
    snapshot = Snapshot()
    for name in ("a", "b"):
        snapshot.set_node(node(name))
    info = PodInfo.of(pod(cpu="1"))
    snapshot.assume(info, "a")
    snapshot.set_pod(PodInfo.of(pod(cpu="1")))
    assert snapshot.nodes["a"].requested["cpu"] == 1000, "an event from before the binding"
    snapshot.set_pod(PodInfo.of(pod(cpu="1", nodeName="b")))
    assert snapshot.nodes["a"].requested["cpu"] == 0
    assert snapshot.nodes["b"].requested["cpu"] == 1000


def test_a_node_gone_and_back_still_has_its_pods() -> None:
    snapshot = Snapshot()
    snapshot.set_pod(PodInfo.of(pod(cpu="1", nodeName="a")))
    assert snapshot.known() == []
    snapshot.set_node(node("a"))
    snapshot.remove_node("a")
    assert snapshot.known() == []
    snapshot.set_node(node("a"))
    assert snapshot.known()[0].requested["cpu"] == 1000


def test_a_thousand_nodes_take_milliseconds() -> None:
    """No benchmark: only that nothing is done per node that need not be."""
    snapshot = Snapshot()
    for number in range(1000):
        snapshot.set_node(node(f"n{number}"))
    known, start = snapshot.known(), 0
    began = perf_counter()
    for number in range(50):
        info = PodInfo.of(pod(f"p{number}", cpu="100m", owner="rs"))
        decision = schedule(info, known, start)
        snapshot.assume(info, decision.node)
        start = (start + decision.looked_at) % len(known)
    assert (perf_counter() - began) / 50 < 0.05
    assert max(len(one.pods) for one in known) == 1
