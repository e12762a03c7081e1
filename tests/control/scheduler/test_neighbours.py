"""Pods that want company or room: affinity, anti-affinity, spread."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api.types import Object
from meshkube.control.scheduler.model import PodInfo, Snapshot, place_all
from meshkube.control.scheduler.schedule import Decision, schedule

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


def node(name: str, zone: str = "", cpu: str = "64") -> Object:
    labels = {HOST: name, **({ZONE: zone} if zone else {})}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": {"cpu": cpu, "memory": "64Gi", "pods": "110"}},
    }


def pod(
    name: str, app: str = "web", on: str = "", namespace: str = "default", **spec: Any
) -> Object:
    metadata = {"name": name, "namespace": namespace, "uid": f"{namespace}-{name}"}
    spec = {"containers": [{"name": "c", "image": "x"}], **spec}
    if on:
        spec["nodeName"] = on
    return {"metadata": {**metadata, "labels": {"app": app}}, "spec": spec}


def term(app: str, key: str = HOST, **more: Any) -> Object:
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": key, **more}


def near(*terms: Object) -> Object:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def far(*terms: Object) -> Object:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": list(terms)}}


def rather(kind: str, weight: int, wanted: Object) -> Object:
    one = {"weight": weight, "podAffinityTerm": wanted}
    return {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [one]}}


def spread(key: str = ZONE, skew: int = 1, app: str = "web", **more: Any) -> Object:
    return {
        "maxSkew": skew,
        "topologyKey": key,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": app}},
        **more,
    }


THREE = [node("a1", "a"), node("a2", "a"), node("b1", "b")]


def decide(obj: Object, there: list[Object], nodes: list[Object] = THREE,
           namespaces: dict[str, dict[str, str]] | None = None) -> Decision:  # fmt: skip
    snapshot = place_all(Snapshot(), nodes, there)
    return schedule(PodInfo.of(obj), snapshot.known(), namespaces=namespaces or {})


@pytest.mark.parametrize(
    ("obj", "there", "allowed"),
    [
        # Together with the database, on its host or in its zone.
        (pod("p", affinity=near(term("db"))), [pod("d", "db", "a2")], {"a2"}),
        (pod("p", affinity=near(term("db", ZONE))), [pod("d", "db", "a2")], {"a1", "a2"}),
        (pod("p", affinity=near(term("db"))), [pod("d", "db", "a2", "other")], set()),
        (
            pod("p", affinity=near(term("db", namespaces=["other"]))),
            [pod("d", "db", "a2", "other")],
            {"a2"},
        ),
        (
            pod("p", affinity=near(term("db", namespaceSelector={"matchLabels": {"team": "x"}}))),
            [pod("d", "db", "b1", "other")],
            {"b1"},
        ),
        (
            pod("p", affinity=near(term("db", namespaceSelector={}))),
            [pod("d", "db", "b1", "third")],
            {"b1"},
        ),
        # The first of a group goes anywhere; the next ones follow it.
        (pod("p", affinity=near(term("web", ZONE))), [], {"a1", "a2", "b1"}),
        (pod("p", affinity=near(term("web", ZONE))), [pod("q", on="b1")], {"b1"}),
        # Apart from each other.
        (pod("p", affinity=far(term("web"))), [pod("q", on="a1")], {"a2", "b1"}),
        (pod("p", affinity=far(term("web", ZONE))), [pod("q", on="a1")], {"b1"}),
        # Those that are there want to be alone.
        (pod("p"), [pod("q", "db", "b1", affinity=far(term("web", ZONE)))], {"a1", "a2"}),
        # Evenly over zones.
        (pod("p", topologySpreadConstraints=[spread()]), [pod("q", on="a1")], {"b1"}),
        (
            pod("p", topologySpreadConstraints=[spread(skew=2)]),
            [pod("q", on="a1")],
            {"a1", "a2", "b1"},
        ),
        (
            pod("p", topologySpreadConstraints=[spread(), spread(HOST)]),
            [pod("q", on="a1"), pod("r", on="b1")],
            {"a2"},
        ),
        (
            pod("p", topologySpreadConstraints=[spread(minDomains=3)]),
            [pod("q", on="a1"), pod("r", on="b1")],
            set(),
        ),
        (
            # Zones where it may not go at all do not count.
            pod("p", topologySpreadConstraints=[spread()], nodeSelector={ZONE: "a"}),
            [pod("q", on="a1")],
            {"a1", "a2"},
        ),
    ],
)
def test_where_a_pod_may_go(obj: Object, there: list[Object], allowed: set[str]) -> None:
    possible = set()
    for number in range(3):
        only = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In",
                                                    "values": [f"{THREE[number]['metadata']['name']}"]}]}]}}}  # fmt: skip # noqa: E501
        if "topologySpreadConstraints" in obj["spec"]:
            continue
        held = {**obj["spec"], "affinity": {**obj["spec"].get("affinity", {}), **only}}
        found = decide(
            {**obj, "spec": held}, there, namespaces={"other": {"team": "x"}, "third": {}}
        )
        possible.add(found.node)
    chosen = decide(obj, there, namespaces={"other": {"team": "x"}, "third": {}}).node
    assert (chosen in allowed) if allowed else chosen == ""
    if possible:
        assert possible - {""} == allowed


@pytest.mark.parametrize(
    ("obj", "there", "words"),
    [
        (pod("p", affinity=near(term("db"))), [], "3 node(s) didn't match pod affinity rules"),
        (
            pod("p", affinity=far(term("web"))),
            [pod(n, on=n) for n in ("a1", "a2", "b1")],
            "3 node(s) didn't match pod anti-affinity rules",
        ),
        (
            pod("p"),
            [pod(n, "db", n, affinity=far(term("web"))) for n in ("a1", "a2", "b1")],
            "3 node(s) didn't satisfy existing pods anti-affinity rules",
        ),
        (
            pod("p", topologySpreadConstraints=[spread("rack")]),
            [],
            "3 node(s) didn't match pod topology spread constraints (missing required label)",
        ),
        (
            pod("p", topologySpreadConstraints=[spread(minDomains=3)]),
            [pod("q", on="a1"), pod("r", on="b1")],
            "3 node(s) didn't match pod topology spread constraints.",
        ),
    ],
)
def test_why_not(obj: Object, there: list[Object], words: str) -> None:
    assert f"0/3 nodes are available: {words}" in decide(obj, there).message


@pytest.mark.parametrize(
    ("affinity", "node_"),
    [
        (rather("podAffinity", 50, term("db")), "a2"),
        (rather("podAntiAffinity", 50, term("db", ZONE)), "b1"),
    ],
)
def test_preferences_are_followed(affinity: Object, node_: str) -> None:
    assert decide(pod("p", affinity=affinity), [pod("d", "db", "a2")]).node == node_


def test_soft_spread_prefers_the_emptier_zone() -> None:
    soft = spread(whenUnsatisfiable="ScheduleAnyway")
    there = [pod(f"q{n}", on="b1") for n in range(3)] + [pod("r", on="a1")]
    assert decide(pod("p", topologySpreadConstraints=[soft]), there).node in ("a1", "a2")


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.integers(0, 25))
def test_skew_is_never_exceeded(zones: int, hosts: int, skew: int, count: int) -> None:
    nodes = [node(f"n{z}-{h}", f"z{z}") for z in range(zones) for h in range(hosts)]
    snapshot = place_all(Snapshot(), nodes, [])
    placed: Counter[str] = Counter({f"z{z}": 0 for z in range(zones)})
    for number in range(count):
        info = PodInfo.of(pod(f"p{number}", topologySpreadConstraints=[spread(skew=skew)]))
        found = schedule(info, snapshot.known())
        assert found.node
        snapshot.assume(info, found.node)
        placed[str(snapshot.nodes[found.node].labels[ZONE])] += 1
        assert max(placed.values()) - min(placed.values()) <= skew
