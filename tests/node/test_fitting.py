"""Pods that were given to a node without asking whether they fit."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.node.fitting import misfit, place_of

NODE: Object = {
    "metadata": {"name": "n"},
    "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "3", "example.com/gpu": "1"}},
}


def pod(requests: Object | None = None, **port: Any) -> Object:
    ports = [{"containerPort": 80, "protocol": "TCP", **port}] if port else []
    container = {"name": "c", "resources": {"requests": requests or {}}, "ports": ports}
    return {"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [container]}}


@pytest.mark.parametrize(
    ("new", "others", "reason", "message"),
    [
        (
            pod({"cpu": "1500m"}),
            [pod({"cpu": "600m"})],
            "OutOfcpu",
            "Node didn't have enough resource: cpu, requested: 1500, used: 600, capacity: 2000",
        ),
        (
            pod({"memory": "2Gi"}),
            [],
            "OutOfmemory",
            "Node didn't have enough resource: memory, requested: 2147483648, used: 0,"
            " capacity: 1073741824",
        ),
        (
            pod({"example.com/gpu": "1"}),
            [pod({"example.com/gpu": "1"})],
            "OutOfexample.com/gpu",
            "Node didn't have enough resource: example.com/gpu, requested: 1, used: 1, capacity: 1",
        ),
        (
            pod(),
            [pod(), pod(), pod()],
            "OutOfpods",
            "Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        ),
        (
            pod(hostPort=80),
            [pod(hostPort=80, hostIP="127.0.0.1")],
            "NodePorts",
            "Predicate NodePorts failed: node(s) didn't have free ports for the requested"
            " pod ports",
        ),
    ],
)
def test_what_does_not_fit_is_told(
    new: Object, others: list[Object], reason: str, message: str
) -> None:
    found = misfit(new, map(place_of, others), NODE)
    assert found is not None
    assert (found.reason, found.message) == (reason, message)


@pytest.mark.parametrize(
    ("new", "others"),
    [
        (pod({"cpu": "2", "memory": "1Gi"}), [pod(), pod()]),
        (pod({"example.com/unknown-here": "1"}), []),
        (pod(hostPort=80), [pod(hostPort=80, protocol="UDP"), pod(hostPort=81)]),
    ],
)
def test_what_fits_is_taken_on(new: Object, others: list[Object]) -> None:
    assert misfit(new, map(place_of, others), NODE) is None
