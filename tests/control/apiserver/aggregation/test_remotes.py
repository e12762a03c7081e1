"""Who answers for which group and version."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api.types import Object
from meshkube.control.apiserver.aggregation.remotes import Remotes, read


def api_service(name: str, service: str = "api", **spec: Any) -> Object:
    version, _, group = name.partition(".")
    place = {"namespace": "ns", "name": service, "port": 443}
    default = {"groupPriorityMinimum": 100, "versionPriority": 10}
    return {
        "metadata": {"name": name},
        "spec": {"group": group, "version": version, "service": place, **default, **spec},
    }


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/apis/a.example/v1", "v1.a.example"),
        ("/apis/a.example/v1/", "v1.a.example"),
        ("/apis/a.example/v1/namespaces/x/things/y/status", "v1.a.example"),
        ("/openapi/v3/apis/a.example/v1", "v1.a.example"),
        ("/apis/a.example/v2/things", ""),
        ("/apis/a.example", ""),
        ("/apis", ""),
        ("/api/v1/pods", ""),
        ("/apis/b.example/v1/things", ""),
    ],
)
def test_a_path_leads_to_the_remote_of_its_group_and_version(path: str, name: str) -> None:
    found = Remotes([api_service("v1.a.example")]).of(path)
    assert (found.name if found else "") == name


def test_what_has_no_service_or_is_built_in_is_answered_here() -> None:
    assert read(api_service("v1.apps")) is None
    assert read(api_service("v1.a.example") | {"spec": {"group": "a", "version": "v1"}}) is None
    assert read(api_service("v1beta1.metrics.k8s.io")) is not None


def test_groups_and_versions_come_in_the_order_of_their_priorities() -> None:
    remotes = Remotes(
        [
            api_service("v1.low.example", groupPriorityMinimum=10),
            api_service("v1alpha1.high.example", groupPriorityMinimum=900),
            api_service("v1.high.example", groupPriorityMinimum=20),
            api_service("v2.high.example", groupPriorityMinimum=20, versionPriority=5),
        ]
    )
    assert list(remotes.groups) == ["high.example", "low.example"]
    assert [one.version for one in remotes.groups["high.example"]] == ["v1", "v1alpha1", "v2"]


def test_one_that_is_known_not_to_answer_says_why() -> None:
    api = api_service("v1.a.example")
    assert not Remotes([api]).of("/apis/a.example/v1").refused  # type: ignore[union-attr]
    condition = {"type": "Available", "status": "False", "reason": "R", "message": "it is gone"}
    api["status"] = {"conditions": [condition]}
    assert Remotes([api]).of("/apis/a.example/v1").refused == "it is gone"  # type: ignore[union-attr]
