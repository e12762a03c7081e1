"""Why a URL goes where it goes: the table's own answer, and a reason for each rule that lost."""

from __future__ import annotations

import pytest

from meshkube.ingress.explain import Explanation, explain, parse
from meshkube.ingress.routes import RouteTable, compile
from tests.support.ingress import endpoint, ingress, ingress_class, path, service, slice_


@pytest.fixture
def table() -> RouteTable:
    return compile(
        [
            ingress(
                "shop",
                {"shop.example": [path("/user", "user"), path("/user/admin", "admin", "Exact")]},
                tls=[{"hosts": ["shop.example"], "secretName": "shop-tls"}],
            ),
            ingress(
                "late", {"shop.example": [path("/user", "other")]}, created="2026-02-01T00:00:00Z"
            ),
            ingress("wild", {"*.example": [path("/", "other")]}),
            ingress(
                "moved",
                {"old.example": [path("/", "user")]},
                annotations={"nginx.ingress.kubernetes.io/permanent-redirect": "https://new.test"},
            ),
        ],
        [ingress_class()],
        [service("user"), service("admin")],
        [slice_("user", [endpoint("10.42.0.5")])],
    )


def said(table: RouteTable, url: str) -> tuple[dict[str, list[str]], Explanation]:
    found = explain(table, parse(url), "127.0.0.1", lambda key: None, {"10.42.0.5": "shop/user-1"})
    lines: dict[str, list[str]] = {}
    for heading, text in found.lines:
        lines.setdefault(heading, []).append(text)
    return lines, found


def test_the_rule_the_service_and_the_pod(table: RouteTable) -> None:
    lines, found = said(table, "shop.example/user/1?q=2")
    assert found.served
    assert lines["rule"] == ["shop.example/user (Prefix) of Ingress shop/shop"]
    assert lines["service"] == ["shop/user:80"]
    assert lines["endpoint"] == ["10.42.0.5:8080 (pod shop/user-1)"]
    reasons = "\n".join(lines["not"])
    assert "of Ingress shop/late: Ingress shop/shop is older" in reasons
    assert "/user/admin (Exact) of Ingress shop/shop: path /user/1 is not it" in reasons
    assert "*.example/ (Prefix) of Ingress shop/wild: host shop.example is more exact" in reasons
    assert "old.example/ (Prefix) of Ingress shop/moved: it is for host old.example" in reasons


def test_a_service_without_endpoints_is_a_503_with_its_reason(table: RouteTable) -> None:
    lines, found = said(table, "http://shop.example/user/admin")
    assert not found.served
    assert lines["answer"][0].startswith("503: ")
    assert "shop/admin" in lines["answer"][0]


def test_no_rule_is_a_404_with_its_reason(table: RouteTable) -> None:
    lines, found = said(table, "http://elsewhere.test/")
    assert not found.served
    assert lines["rule"] == [
        "none, answered with 404: no Ingress has a rule for host elsewhere.test"
    ]


def test_annotations_that_answer_are_shown(table: RouteTable) -> None:
    lines, found = said(table, "http://old.example/x")
    assert not found.served
    assert lines["answer"] == ["301 to https://new.test"]
    assert "redirect=https://new.test" in lines["annotations"][0]


def test_the_certificate_and_that_its_secret_is_missing(table: RouteTable) -> None:
    lines, _ = said(table, "https://shop.example/user")
    assert lines["certificate"] == [
        "Secret shop/shop-tls (for shop.example), which does not exist: the default one"
    ]
    lines, _ = said(table, "https://a.example/")
    assert lines["certificate"] == [
        "the ingress' own default one: no Ingress has tls for this host"
    ]


def test_a_bad_path_is_a_400(table: RouteTable) -> None:
    lines, found = said(table, "http://shop.example/%zz")
    assert not found.served
    assert "400" in lines["request"][0]


@pytest.mark.parametrize("url", ["ftp://shop.example/", "http:///user", "//"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        parse(url)
