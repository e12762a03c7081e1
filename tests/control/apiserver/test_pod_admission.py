"""What every new pod is given by the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.control.apiserver import strategy
from meshkube.control.apiserver.admission import AWAY, admit_create


class Cluster:
    def find(self, kind: Kind, name: str, namespace: str = "") -> Object | None:
        return {"metadata": {"name": name}}

    def all(self, kind: Kind) -> Iterable[Object]:
        return ()

    def inside(self, kind: Kind, namespace: str) -> Iterable[Object]:
        return ()


def admitted(**spec: Any) -> Object:
    pod = {"metadata": {"name": "p"}, "spec": spec}
    admit_create(kinds.POD, pod, "default", Cluster())
    return pod["spec"]  # type: ignore[return-value]


def test_a_pod_puts_up_with_a_node_that_is_away_for_five_minutes() -> None:
    assert admitted()["tolerations"] == [
        {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
        for key in AWAY
    ]


@pytest.mark.parametrize(
    ("own", "added"),
    [
        ({"operator": "Exists"}, 0),
        ({"operator": "Exists", "effect": "NoSchedule"}, 2),
        ({"key": AWAY[0], "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5}, 1),
        ({"key": AWAY[1], "operator": "Exists"}, 1),
        ({"key": "gpu", "operator": "Exists"}, 2),
    ],
)
def test_what_it_says_itself_stands(own: Object, added: int) -> None:
    found = admitted(tolerations=[own])["tolerations"]
    assert found[0] == own
    assert len(found) == 1 + added


def test_a_pod_has_a_priority() -> None:
    assert admitted()["priority"] == 0
    assert admitted()["preemptionPolicy"] == "PreemptLowerPriority"


def test_amounts_for_a_pod_as_a_whole_are_dropped_as_where_that_feature_is_off() -> None:
    pod: Object = {"metadata": {"name": "p"}, "spec": {"resources": {"limits": {"cpu": "1"}}}}
    strategy.prepare_create(kinds.POD, pod, "default", "2026-01-01T00:00:00Z", "u")
    assert pod["spec"] == {}
