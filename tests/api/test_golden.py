"""What Kubernetes 1.33 itself says of the same objects.

The files in `golden/` were recorded by running Kubernetes' own decoder, defaults and validation
(Go, v1.33.0) over these manifests and over random edits of them: `bases.json` has each manifest as
given and as stored, `create.json` and `update.json` the edits and every fault found. Messages are
compared whole; the order of faults is not (Go's maps have none), and each is told once, as in a
`Status`.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, schemas
from meshkube.api.defaults import apply_defaults
from meshkube.api.errors import FieldError
from meshkube.api.kinds import Kind
from meshkube.api.types import Object
from meshkube.api.validation import validate_create, validate_update

GOLDEN = Path(__file__).parent / "golden"


def read(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())


BASES = read("bases.json")
CREATE = read("create.json")
UPDATE = read("update.json")


def kind_of(obj: Object) -> Kind:
    kind = kinds.by_kind(obj["apiVersion"], obj["kind"])
    assert kind is not None
    return kind


def edited(obj: Object, edits: list[list[Any]]) -> Object:
    """`[path, "set", value]`, `[path, "delete"]` or `[path, "repeat"]`."""
    obj = copy.deepcopy(obj)
    for path, operation, *value in edits:
        *steps, last = path
        place: Any = obj
        for step in steps:
            place = place[step]
        if operation == "delete":
            del place[last]
        elif operation == "set":
            place[last] = copy.deepcopy(value[0])
        else:
            place.append(copy.deepcopy(place[last]))
    return obj


def without_zeros(value: Any) -> Any:
    """Kubernetes does not write most zero values; we keep those that were given."""
    if isinstance(value, dict):
        slim = {key: without_zeros(item) for key, item in value.items()}
        return {key: item for key, item in slim.items() if item not in (None, "", [], {}, 0, False)}
    if isinstance(value, list):
        return [without_zeros(item) for item in value]
    return value


def stored(kind: Kind, obj: Object) -> Object:
    obj = copy.deepcopy(obj)
    schemas.prune(kind, obj)
    apply_defaults(kind, obj)
    return obj


def listed(faults: list[FieldError]) -> list[list[str]]:
    """Without the difference between two pods, which each side writes in its own way."""
    return sorted([fault.path, fault.reason, fault.message.split("\n")[0]] for fault in faults)


def named(case: dict[str, Any]) -> str:
    """`Pod: spec.containers.0.name set`"""
    path, operation, *_ = case["edits"][-1]
    return f"{BASES[case['base']]['given']['kind']}: {'.'.join(map(str, path))} {operation}"


def check_reading(case: dict[str, Any], kind: Kind, obj: Object) -> bool:
    """Compare what decoding says; whether the object could be read."""
    result = schemas.check(kind, obj)
    if "error" in case:
        assert result.errors, case["error"]
        # Kubernetes' message has a prefix only where an API server decodes the body of a request.
        assert result.errors[0].message == case["error"]
        return False
    assert result.errors == []
    faults = ", ".join(f'unknown field "{path}"' for path in result.unknown)
    assert (f"strict decoding error: {faults}" if faults else "") == case.get("strict", "")
    return True


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["given"]["kind"])
def test_manifests_are_stored_as_kubernetes_stores_them(base: dict[str, Any]) -> None:
    obj = stored(kind_of(base["given"]), base["given"])
    assert without_zeros(obj) == without_zeros(base["stored"])


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["given"]["kind"])
def test_manifests_are_accepted(base: dict[str, Any]) -> None:
    kind = kind_of(base["given"])
    assert validate_create(kind, stored(kind, base["given"])) == []


@pytest.mark.parametrize("case", CREATE, ids=named)
def test_faults_on_create_are_those_of_kubernetes(case: dict[str, Any]) -> None:
    given = BASES[case["base"]]["given"]
    kind, obj = kind_of(given), edited(given, case["edits"])
    if check_reading(case, kind, obj):
        assert listed(validate_create(kind, stored(kind, obj))) == case["faults"]


@pytest.mark.parametrize("case", UPDATE, ids=named)
def test_faults_on_update_are_those_of_kubernetes(case: dict[str, Any]) -> None:
    old = copy.deepcopy(BASES[case["base"]]["stored"])
    old["metadata"]["resourceVersion"] = "1"
    kind, obj = kind_of(old), edited(old, case["edits"])
    if check_reading(case, kind, obj):
        found = validate_update(kind, stored(kind, obj), stored(kind, old))
        assert listed(found) == case["faults"]
