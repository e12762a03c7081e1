"""The plan of a StatefulSet, played through at random: order holds at every step."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control.controllers import history
from meshkube.control.controllers import stateful_pods as identity
from meshkube.control.controllers.stateful_plan import World, plan, status

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}


def stateful_set(replicas: int, **spec: Any) -> Object:
    return {
        "metadata": {"name": "db", "namespace": "d", "uid": "u"},
        "spec": {
            "replicas": replicas,
            "podManagementPolicy": "OrderedReady",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            "selector": {"matchLabels": {"app": "db"}},
            "template": {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": []}},
            **spec,
        },
        "status": {},
    }


def revision(name: str) -> Object:
    template = {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": [{"name": name}]}}
    return {"metadata": {"name": name}, "data": history.data_of(template)}


class Play:
    """A set, its pods, and nodes that take their time."""

    def __init__(self, obj: Object, seed: int) -> None:
        self.set = obj
        self.pods: dict[str, Object] = {}
        self.random = random.Random(seed)
        self.made = 0
        self.update = revision("r1")
        self.current = self.update

    @property
    def world(self) -> World:
        return World(self.set, list(self.pods.values()), self.current, self.update, NOW)

    def reconcile(self) -> None:
        world = self.world
        todo = plan(world)
        found, _ = status(world, 0)
        for pod in todo.create:
            self.made += 1
            metadata = {**pod["metadata"], "uid": f"p{self.made}"}
            self.pods[meta.name(pod)] = {**pod, "metadata": metadata, "status": {}}
        for pod in todo.delete:
            metadata = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
            self.pods[meta.name(pod)] = {**pod, "metadata": metadata}
        self.set = {**self.set, "status": found}
        if found["currentRevision"] == meta.name(self.update):
            self.current = self.update

    def nodes(self) -> None:
        for name, pod in list(self.pods.items()):
            if self.random.random() < 0.5:
                continue
            if meta.deleting(pod):
                del self.pods[name]
            else:
                self.pods[name] = {**pod, "status": {"phase": "Running", "conditions": [READY]}}

    def well(self) -> set[int]:
        return {identity.ordinal(p) for p in self.pods.values() if self.world.well(p)}

    def run(self, rounds: int = 60) -> None:
        for _ in range(rounds):
            self.reconcile()
            self.nodes()


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), first=st.integers(0, 5), then=st.integers(0, 5))
def test_pods_come_after_those_before_them_and_go_from_the_end(
    seed: int, first: int, then: int
) -> None:
    play = Play(stateful_set(first), seed)
    for replicas in (first, then):
        play.set = {**play.set, "spec": {**play.set["spec"], "replicas": replicas}}
        for _ in range(60):
            well, before = play.well(), set(play.pods)
            todo = plan(play.world)
            assert len(todo.create) + len(todo.delete) <= 1
            for pod in todo.create:
                assert set(range(identity.ordinal(pod))) <= well
            for pod in todo.delete:
                assert meta.name(pod) == max(before, key=lambda n: int(n.rpartition("-")[2]))
            play.reconcile()
            play.nodes()
        assert set(play.pods) == {f"db-{i}" for i in range(replicas)}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), replicas=st.integers(1, 5), partition=st.integers(0, 6))
def test_an_update_keeps_all_but_one_and_stops_at_the_partition(
    seed: int, replicas: int, partition: int
) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    play = Play(stateful_set(replicas, updateStrategy=strategy), seed)
    play.run()
    play.update = revision("r2")
    for _ in range(80):
        play.reconcile()
        assert len(play.well()) >= replicas - 1
        play.nodes()
    of = {identity.ordinal(p): identity.revision_of(p) for p in play.pods.values()}
    assert of == {i: "r2" if i >= partition else "r1" for i in range(replicas)}
    done = play.set["status"]["currentRevision"] == "r2"
    assert done == (partition == 0)


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_all_at_once_only_where_that_is_asked_for(policy: str) -> None:
    play = Play(stateful_set(4, podManagementPolicy=policy, ordinals={"start": 3}), 0)
    made = [meta.name(p) for p in plan(play.world).create]
    assert made == ["db-3", "db-4", "db-5", "db-6"][: 4 if policy == "Parallel" else 1]


@pytest.mark.parametrize(
    ("scaled", "deleted", "number", "owner"),
    [
        ("Retain", "Retain", 0, None),
        ("Retain", "Delete", 0, "StatefulSet"),
        ("Retain", "Delete", 9, "StatefulSet"),
        ("Delete", "Retain", 0, None),
        ("Delete", "Retain", 9, "Pod"),
        ("Delete", "Delete", 0, "StatefulSet"),
        ("Delete", "Delete", 9, "Pod"),
    ],
)
def test_with_whom_a_claim_goes(scaled: str, deleted: str, number: int, owner: str | None) -> None:
    policy = {"whenScaled": scaled, "whenDeleted": deleted}
    obj = stateful_set(2, persistentVolumeClaimRetentionPolicy=policy)
    pod: Object = {"metadata": {"name": f"db-{number}", "uid": "p"}}
    other = {"kind": "Backup", "name": "x", "uid": "b"}
    found = identity.owners_of_claim(obj, pod, [other])
    assert found[0] == other
    assert [r["kind"] for r in found[1:]] == ([owner] if owner else [])
    # Asked again, it stays so.
    assert identity.owners_of_claim(obj, pod, found) == found
