"""Parsed objects have their equal parts in common, and nothing else."""

from __future__ import annotations

import orjson

from meshkube.api import kinds
from meshkube.control.apiserver.sharing import KEPT, Parts, parsed


def pod(name: str, image: str = "web:1") -> bytes:
    managed = {"manager": name, "fieldsV1": {"f:spec": {"f:containers": {}}}}
    return orjson.dumps(
        {
            "metadata": {"name": name, "managedFields": [managed, {"manager": "odd"}]},
            "spec": {"containers": [{"name": "main", "image": image}], "nodeName": name},
        }
    )


def test_equal_parts_are_one() -> None:
    one, other, third = (parsed(kinds.POD, raw) for raw in (pod("a"), pod("b"), pod("c", "web:2")))
    assert one["spec"]["containers"] is other["spec"]["containers"]
    assert third["spec"]["containers"] is not one["spec"]["containers"]
    trees = [obj["metadata"]["managedFields"][0]["fieldsV1"] for obj in (one, other, third)]
    assert trees[0] is trees[1] is trees[2]
    for obj, raw in ((one, pod("a")), (other, pod("b")), (third, pod("c", "web:2"))):
        assert obj == orjson.loads(raw)


def test_what_is_not_met_again_is_forgotten_and_what_is_stays() -> None:
    parts = Parts()
    first = parts.one(["first"])
    for number in range(3 * KEPT):
        parts.one([number])
        assert parts.one(["first"]) is first
    assert len(parts._met) + len(parts._before) <= 2 * KEPT
