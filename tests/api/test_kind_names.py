"""Kinds by the names that people type."""

from __future__ import annotations

import pytest

from meshkube.api import kinds
from meshkube.api.kind_names import BUILT_IN, KindNames, defined, discovered
from tests.support.custom import crd, version

BUILT_IN_NAMES = [
    ("pods", kinds.POD),
    ("PO", kinds.POD),
    ("Pod", kinds.POD),
    ("pods.v1", kinds.POD),
    ("pods.v1.", kinds.POD),
    ("deploy", kinds.DEPLOYMENT),
    ("deploy.apps", kinds.DEPLOYMENT),
    ("deployments.v1.apps", kinds.DEPLOYMENT),
    ("hpa", kinds.HORIZONTAL_POD_AUTOSCALER),
    ("hpa.autoscaling", kinds.HORIZONTAL_POD_AUTOSCALER),
    ("hpa.v1.autoscaling", kinds.HORIZONTAL_POD_AUTOSCALER_V1),
    ("horizontalpodautoscalers.v1.autoscaling", kinds.HORIZONTAL_POD_AUTOSCALER_V1),
    ("deployments.v2.apps", None),
    ("pods.apps", None),
    ("deployments.v1", None),
    ("all", None),
    ("", None),
]


@pytest.mark.parametrize(("word", "kind"), BUILT_IN_NAMES)
def test_built_in_kinds_have_every_name_that_kubectl_takes(word, kind):
    assert BUILT_IN.one(word) is kind


def resource(plural: str, kind: str, *shorts: str, **more: object) -> dict:
    return {
        "resource": plural,
        "singularResource": kind.lower(),
        "responseKind": {"kind": kind},
        "scope": "Namespaced",
        "shortNames": list(shorts),
        "verbs": ["get", "list"],
        **more,
    }


def group(name: str, **versions: list[dict]) -> dict:
    listed = [{"version": each, "resources": found} for each, found in versions.items()]
    return {"metadata": {"name": name}, "versions": listed}


FOUND = discovered(
    {
        "items": [
            group(
                "one.io",
                v2=[resource("widgets", "Widget", "wd", categories=["all"])],
                v1=[resource("widgets", "Widget", categories=["all"])],
            ),
            group(
                "two.io",
                v1=[
                    resource("widgets", "Widget", scope="Cluster"),
                    resource("wd", "Odd", categories=["all"], verbs=["create"]),
                ],
            ),
        ]
    }
)
NAMES = KindNames(FOUND)


@pytest.mark.parametrize(
    ("word", "api_version", "plural"),
    [
        ("widget", "one.io/v2", "widgets"),
        ("widgets.two.io", "two.io/v1", "widgets"),
        ("Widget.v1.one.io", "one.io/v1", "widgets"),
        ("wd", "two.io/v1", "wd"),
        ("wd.one.io", "one.io/v2", "widgets"),
    ],
)
def test_of_several_the_first_group_in_its_first_version_and_a_whole_name_first(
    word, api_version, plural
):
    found = NAMES.one(word)
    assert found is not None
    assert (found.api_version, found.plural) == (api_version, plural)


def test_a_category_is_each_kind_that_can_be_listed_once():
    assert [kind.api_version for kind in NAMES.category("ALL")] == ["one.io/v2"]


def test_scopes_and_paths_are_as_discovered():
    wide = NAMES.of("two.io/v1", "Widget")
    assert wide is not None
    assert wide.path("space", "x") == "/apis/two.io/v1/widgets/x"


@pytest.mark.parametrize(
    ("word", "near"), [("wigets", "widgets"), ("widgts.two.io", "widgets.two.io"), ("zzz", "")]
)
def test_what_is_nearly_a_name_is_told(word, near):
    assert NAMES.near(word) == near


@pytest.mark.parametrize(
    "odd", [{}, {"items": None}, {"items": [1, {"versions": [{"resources": ["x"]}]}]}]
)
def test_an_odd_document_has_no_kinds(odd):
    assert discovered(odd) == []


def test_a_definition_tells_the_kinds_it_will_bring():
    [one] = defined(crd(version("v1")))
    assert (one.api_version, one.kind, one.plural) == ("example.com/v1", "Widget", "widgets")
    assert defined({"spec": {"names": "x"}}) == []
