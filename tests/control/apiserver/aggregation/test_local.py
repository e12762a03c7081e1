"""APIServices of what is answered here, and their condition."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from meshkube.api import kinds, meta
from meshkube.api.validation.aggregation import validate_api_service
from meshkube.control.apiserver import discovery
from meshkube.control.apiserver.aggregation import local
from meshkube.control.apiserver.aggregation.availability import LOCAL, PASSED, with_condition
from tests.control.apiserver.aggregation.test_remotes import api_service

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_each_group_and_version_has_one_that_the_api_accepts() -> None:
    made = {meta.name(one): one for one in local.wanted(discovery.grouped(kinds.KINDS))}
    assert {"v1.", "v1.apps", "v2.autoscaling", "v1beta1.metrics.k8s.io"} <= made.keys()
    assert [fault for one in made.values() for fault in validate_api_service(one)] == []
    priorities = [one["spec"]["groupPriorityMinimum"] for one in made.values()]
    assert priorities[0] == local.CORE_PRIORITY == max(priorities)
    versions = [
        made[name]["spec"]["versionPriority"] for name in ("v2.autoscaling", "v1.autoscaling")
    ]
    assert versions == sorted(versions, reverse=True)


def test_those_with_a_service_are_not_ours() -> None:
    (first, *_) = local.wanted(discovery.grouped(kinds.KINDS))
    assert local.ours(first)
    taken = api_service("v1beta1.metrics.k8s.io")
    taken["metadata"]["labels"] = {local.AUTOMANAGED: "onstart"}
    assert not local.ours(taken)


def test_a_condition_is_written_when_it_changes_and_dated_when_it_turns() -> None:
    api = api_service("v1.a.example")
    api["status"] = {"conditions": [{"type": "Other", "status": "True"}]}
    found = with_condition(api, PASSED, NOW)
    assert found is not None
    other, made = found["status"]["conditions"]
    assert (other["type"], made["status"], made["reason"]) == ("Other", "True", "Passed")
    later = NOW + timedelta(hours=1)
    assert with_condition(found, PASSED, later) is None
    same = with_condition(found, LOCAL, later)
    assert same is not None
    assert same["status"]["conditions"][1]["lastTransitionTime"] == made["lastTransitionTime"]
    turned = with_condition(found, (False, "MissingEndpoints", "none"), later)
    assert turned is not None
    assert turned["status"]["conditions"][1]["lastTransitionTime"] == meta.timestamp(later)
