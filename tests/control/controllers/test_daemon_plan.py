"""The plan of a DaemonSet, played through at random."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import meta
from meshkube.api.types import Object
from meshkube.control import pods
from meshkube.control.controllers.daemon_plan import World, plan
from meshkube.control.controllers.history import POD_HASH

NOW = datetime(2026, 1, 1, tzinfo=UTC)
READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"}


def daemon_set(**update: Any) -> Object:
    return {"spec": {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": update}}}


class Play:
    def __init__(self, obj: Object, nodes: int, seed: int) -> None:
        self.set, self.hash = obj, "a"
        self.nodes = {f"n{i}": (True, True) for i in range(nodes)}
        self.pods: list[Object] = []
        self.random = random.Random(seed)
        self.made = 0

    def world(self) -> World:
        by_node: dict[str, list[Object]] = {}
        for pod in self.pods:
            by_node.setdefault(pod["spec"]["nodeName"], []).append(pod)
        return World(self.hash, 0, self.nodes, by_node, NOW)

    def reconcile(self) -> None:
        todo = plan(self.set, self.world())
        doomed = {meta.uid(pod) for pod in todo.delete}
        self.pods = [_deleted(p) if meta.uid(p) in doomed else p for p in self.pods]
        for node in todo.create:
            self.made += 1
            self.pods.append(
                {
                    "metadata": {
                        "name": f"p{self.made}",
                        "uid": f"p{self.made}",
                        "labels": {POD_HASH: self.hash},
                        "creationTimestamp": f"2026-01-01T00:00:{self.made % 60:02}Z",
                    },
                    "spec": {"nodeName": node},
                    "status": {"phase": "Pending"},
                }
            )

    def kubelets(self) -> None:
        kept = []
        for pod in self.pods:
            turn = self.random.random() < 0.5
            if meta.deleting(pod) and turn:
                continue
            if turn:
                pod = {**pod, "status": {"phase": "Running", "conditions": [READY]}}
            kept.append(pod)
        self.pods = kept

    def available(self) -> set[str]:
        """Nodes with a pod that serves and that nobody has deleted."""
        serving = (p for p in self.pods if pods.ready(p) and not meta.deleting(p))
        return {p["spec"]["nodeName"] for p in serving}

    def run(self, rounds: int = 40) -> None:
        for _ in range(rounds):
            self.reconcile()
            self.kubelets()


def _deleted(pod: Object) -> Object:
    metadata = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
    return {**pod, "metadata": metadata}


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 6), limit=st.integers(1, 3))
def test_an_update_never_leaves_more_nodes_without_than_it_may(
    seed: int, nodes: int, limit: int
) -> None:
    play = Play(daemon_set(maxUnavailable=limit, maxSurge=0), nodes, seed)
    play.run()
    assert len(play.available()) == nodes
    play.hash = "b"
    for _ in range(80):
        play.reconcile()
        assert len(play.available()) >= nodes - limit
        play.kubelets()
    assert [p["metadata"]["labels"][POD_HASH] for p in play.pods] == ["b"] * nodes


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), nodes=st.integers(1, 6), surge=st.integers(1, 3))
def test_a_surge_leaves_no_node_without_and_stays_within_its_limit(
    seed: int, nodes: int, surge: int
) -> None:
    play = Play(daemon_set(maxUnavailable=0, maxSurge=surge), nodes, seed)
    play.run()
    play.hash = "b"
    for _ in range(80):
        play.reconcile()
        assert len(play.available()) == nodes
        living = [p for p in play.pods if not meta.deleting(p)]
        assert len(living) <= nodes + surge
        play.kubelets()
    assert [p["metadata"]["labels"][POD_HASH] for p in play.pods] == ["b"] * nodes


@given(seed=st.integers(0, 10**6))
def test_nodes_that_should_not_have_one_are_cleared(seed: int) -> None:
    play = Play(daemon_set(maxUnavailable=1, maxSurge=0), 4, seed)
    play.run()
    play.nodes |= {"n0": (False, True), "n1": (False, False)}
    play.run()
    assert sorted(p["spec"]["nodeName"] for p in play.pods) == ["n0", "n2", "n3"]
