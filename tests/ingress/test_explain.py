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


@pytest.mark.parametrize(
    "url",
    ["ftp://shop.example/", "http:///user", "//", "http://shop.example:99999/", "http://[::1/"],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not a URL"):
        parse(url)


def test_a_name_in_other_letters_is_the_one_that_browsers_send() -> None:
    assert parse("https://Bücher.example./a").host == "xn--bcher-kva.example"


EXPLAINED = {
    "proxy-body-size=8m": ("annotations", "max_body=8388608"),
    "proxy-cookie-path=/ /a": ("annotations", "cookie_path:/+/a"),
    "enable-cors=true": ("cors", "pages of * may ask with GET, PUT"),
    "limit-rps=5": ("limit", "5 requests a second (25 more at once) for each client, then 429"),
    "limit-connections=2": ("limit", "2 requests at one time for each client"),
    "auth-type=basic;auth-secret=users": ("guard", "Secret shop/users does not exist"),
    "auth-url=http://a.b/c;auth-signin=http://l": ("guard", "GET http://a.b/c must say 2xx, 401"),
    "affinity=cookie": ("choice", "the pod that cookie INGRESSCOOKIE names"),
    "upstream-hash-by=$host": ("choice", "the pod that $host belongs to"),
    "load-balance=ewma": ("choice", "fewest requests under way"),
    "proxy-next-upstream=error;proxy-next-upstream-tries=2": ("retry", "after error, 2 pods"),
    "default-backend=sorry;custom-http-errors=503,404": ("fallback", "its answers 404, 503"),
}


@pytest.mark.parametrize("given", EXPLAINED)
def test_each_annotation_says_what_it_does(given: str) -> None:
    prefix = "nginx.ingress.kubernetes.io/"
    pairs = (each.split("=", 1) for each in given.split(";"))
    mine = ingress(
        "web", {"shop.io": [path("/", "web")]}, annotations={prefix + k: v for k, v in pairs}
    )
    table = compile(
        [mine], [ingress_class()], [service("web")], [slice_("web", [endpoint("10.42.0.5")])]
    )
    lines, found = said(table, "shop.io/")
    heading, text = EXPLAINED[given]
    assert text in "\n".join(lines[heading])
    assert found.served


def test_canaries_and_default_backends_are_told() -> None:
    prefix = "nginx.ingress.kubernetes.io/"
    given = {prefix + "canary": "true", prefix + "canary-weight": "30"}
    canary = ingress("beta", {"shop.io": [path("/", "other")]}, annotations=given)
    main = ingress(
        "web", {"shop.io": [path("/", "web")]}, annotations={prefix + "default-backend": "sorry"}
    )
    table = compile(
        [main, canary],
        [ingress_class()],
        [service("web"), service("other"), service("sorry")],
        [slice_("sorry", [endpoint("10.42.0.9")])],
    )
    lines, found = said(table, "shop.io/")
    assert found.served
    assert lines["canary"] == ["30 % to shop/other:80 of Ingress shop/beta"]
    assert "the default backend answers" in lines["endpoint"][0]
    assert lines["endpoint"][1] == "10.42.0.9:8080"
    assert lines["not"] == ["shop.io/ (Prefix) of Ingress shop/beta: it is a canary, see above"]
