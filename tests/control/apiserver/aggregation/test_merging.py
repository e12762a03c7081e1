"""Discovery with what others answer for."""

from __future__ import annotations

from meshkube.api import kinds
from meshkube.api.types import Object
from meshkube.control.apiserver import discovery
from meshkube.control.apiserver.aggregation import merging
from meshkube.control.apiserver.aggregation.remotes import Remotes
from tests.control.apiserver.aggregation.test_remotes import api_service

GROUPS = discovery.grouped(kinds.KINDS)
REMOTES = Remotes([api_service("v1.a.example"), api_service("v1beta1.metrics.k8s.io")])
SAID: list[Object] = [
    {"name": "things", "singularName": "thing", "namespaced": True, "kind": "Thing",
     "verbs": ["get"], "shortNames": ["th"]},
    {"name": "things/scale", "kind": "Scale", "group": "autoscaling", "version": "v1",
     "namespaced": True, "verbs": ["get", "update"]},
    {"name": "wholes", "namespaced": False, "kind": "Whole", "verbs": ["list"]},
]  # fmt: skip


def test_groups_of_others_follow_own_ones() -> None:
    own = discovery.api_group_list(GROUPS)
    names = [one["name"] for one in merging.group_list(own, REMOTES)["groups"]]
    assert names == [*(one["name"] for one in own["groups"]), "a.example"]


def test_a_group_of_others_reads_as_any() -> None:
    version = {"groupVersion": "a.example/v1", "version": "v1"}
    assert merging.group(None, REMOTES, "a.example") == {
        "kind": "APIGroup",
        "apiVersion": "v1",
        "name": "a.example",
        "versions": [version],
        "preferredVersion": version,
    }
    assert merging.group(None, REMOTES, "b.example") is None
    own = discovery.api_group(GROUPS, "apps")
    assert merging.group(own, REMOTES, "apps") == own


def test_a_version_that_another_answers_for_is_told_once() -> None:
    own = discovery.aggregated(GROUPS, core=False)
    found = merging.aggregated(own, REMOTES, {("metrics.k8s.io", "v1beta1"): SAID})
    (group,) = [one for one in found["items"] if one["metadata"].get("name") == "metrics.k8s.io"]
    (version,) = group["versions"]
    assert [one["resource"] for one in version["resources"]] == ["things", "wholes"]


def test_resources_are_told_with_their_sub_resources() -> None:
    own = discovery.aggregated(GROUPS, core=False)
    found = merging.aggregated(own, REMOTES, {("a.example", "v1"): SAID})
    (group,) = [one for one in found["items"] if one["metadata"].get("name") == "a.example"]
    (version,) = group["versions"]
    assert version["freshness"] == "Current"
    thing, whole = version["resources"]
    assert thing["scope"] == "Namespaced"
    assert thing["shortNames"] == ["th"]
    assert thing["responseKind"] == {"group": "a.example", "version": "v1", "kind": "Thing"}
    (scale,) = thing["subresources"]
    assert scale["subresource"] == "scale"
    assert scale["responseKind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
    assert whole["scope"] == "Cluster"


def test_what_never_said_what_it_serves_is_stale() -> None:
    found = merging.aggregated(discovery.aggregated(GROUPS, core=False), REMOTES, {})
    (group,) = [one for one in found["items"] if one["metadata"].get("name") == "a.example"]
    assert group["versions"] == [{"version": "v1", "resources": [], "freshness": "Stale"}]
