"""What may let through what was refused, and what may not."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.kinds import Kind
from meshkube.control import room

TEAM = {"name": "team", "namespace": "a"}


def quota(hard: str, used: str = "1", counted: str = "") -> dict[str, Any]:
    status = {"hard": {"pods": counted or hard}, "used": {"pods": used}}
    return {"metadata": TEAM, "spec": {"hard": {"pods": hard}}, "status": status}


def limits(value: str) -> dict[str, Any]:
    return {"metadata": TEAM, "spec": {"limits": [{"type": "Pod", "max": {"cpu": value}}]}}


def space(level: str) -> dict[str, Any]:
    return {"metadata": {"name": "a", "labels": {"pod-security.kubernetes.io/enforce": level}}}


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (kinds.RESOURCE_QUOTA, quota("1"), quota("2")),
        (kinds.RESOURCE_QUOTA, quota("900m"), quota("1")),
        (kinds.RESOURCE_QUOTA, quota("2", counted="1"), quota("2")),
        (kinds.RESOURCE_QUOTA, quota("2", "2"), quota("2", "1")),
        (kinds.RESOURCE_QUOTA, {**quota("2"), "status": {}}, quota("2")),
        (kinds.RESOURCE_QUOTA, quota("1"), {**quota("1"), "spec": {"hard": {}}}),
        (kinds.RESOURCE_QUOTA, quota("1"), None),
        (kinds.LIMIT_RANGE, limits("1"), limits("2")),
        (kinds.LIMIT_RANGE, limits("1"), None),
        (kinds.NAMESPACE, space("restricted"), space("baseline")),
        (kinds.SERVICE_ACCOUNT, None, {"metadata": TEAM}),
    ],
)
def test_this_may_make_room(kind: Kind, old: Any, new: Any) -> None:
    assert room.opened(kind, old, new) == "a"


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (kinds.RESOURCE_QUOTA, None, quota("1")),
        (kinds.RESOURCE_QUOTA, quota("2"), quota("1")),
        (kinds.RESOURCE_QUOTA, quota("2", "1"), quota("2", "2")),
        (kinds.LIMIT_RANGE, None, limits("1")),
        (kinds.LIMIT_RANGE, limits("1"), limits("1")),
        (kinds.NAMESPACE, None, space("baseline")),
        (kinds.NAMESPACE, space("baseline"), space("baseline")),
        (kinds.SERVICE_ACCOUNT, {"metadata": TEAM}, {"metadata": TEAM}),
        (kinds.SERVICE_ACCOUNT, {"metadata": TEAM}, None),
    ],
)
def test_this_makes_none(kind: Kind, old: Any, new: Any) -> None:
    assert room.opened(kind, old, new) is None
