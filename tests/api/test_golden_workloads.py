"""What Kubernetes 1.33 itself says of ReplicationControllers, DaemonSets, StatefulSets, Jobs and
CronJobs: as `test_golden`, recorded apart in `golden/workloads.json`.

Left out are answers that print whole Go structs of a policy or a template, and
`spec.templateGeneration`, which the API server counts for itself.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.api.validation import validate_create, validate_update
from tests.api.test_golden import edited, kind_of, listed, read, stored, without_zeros

GOLDEN = read("workloads.json")
BASES: list[dict[str, Any]] = GOLDEN["bases"]


def named(case: dict[str, Any]) -> str:
    path, operation, *_ = case["edits"][-1]
    return f"{BASES[case['base']]['given']['kind']}: {'.'.join(map(str, path))} {operation}"


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["given"]["kind"])
def test_manifests_are_stored_as_kubernetes_stores_them(base: dict[str, Any]) -> None:
    kind = kind_of(base["given"])
    obj = stored(kind, base["given"])
    assert without_zeros(obj) == without_zeros(base["stored"])
    assert validate_create(kind, obj) == []


@pytest.mark.parametrize("case", GOLDEN["create"], ids=named)
def test_faults_on_create_are_those_of_kubernetes(case: dict[str, Any]) -> None:
    given = BASES[case["base"]]["given"]
    kind = kind_of(given)
    obj = stored(kind, edited(given, case["edits"]))
    assert listed(validate_create(kind, obj)) == case["faults"]


@pytest.mark.parametrize("case", GOLDEN["update"], ids=named)
def test_faults_on_update_are_those_of_kubernetes(case: dict[str, Any]) -> None:
    old: Object = copy.deepcopy(BASES[case["base"]]["stored"])
    old["metadata"]["resourceVersion"] = "1"
    kind = kind_of(old)
    obj = stored(kind, edited(old, case["edits"]))
    assert listed(validate_update(kind, obj, stored(kind, old))) == case["faults"]
