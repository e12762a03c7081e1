"""What a proxied page refers to, and the names in `proxy` paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.errors import ApiError
from meshkube.control.apiserver.proxy_links import Page, location
from meshkube.control.apiserver.proxy_names import (
    Endpoint,
    endpoints,
    pod_port,
    service_port,
    split,
)
from meshkube.control.apiserver.routing import parse

PREFIX = "/api/v1/namespaces/a/services/b/proxy"


@pytest.mark.parametrize(
    ("url", "led"),
    [
        ("/", f"{PREFIX}/"),
        ("/x?y=1#z", f"{PREFIX}/x?y=1#z"),
        ("http://10.0.0.1:80/x/", f"{PREFIX}/x/"),
        ("http://elsewhere/x", "http://elsewhere/x"),
        ("x/y", "x/y"),
        ("#top", "#top"),
        (f"{PREFIX}/x", f"{PREFIX}/x"),
        ("mailto:a@b", "mailto:a@b"),
    ],
)
def test_locations(url: str, led: str) -> None:
    assert location(url, PREFIX, "10.0.0.1:80") == led


@pytest.mark.parametrize(
    ("text", "led"),
    [
        ('<a href="/x">', f'<a href="{PREFIX}/x">'),
        ("<IMG alt='a > b' SRC='/x'>", f"<IMG alt='a > b' SRC='{PREFIX}/x'>"),
        ("<link rel=x href=/x>", f'<link rel=x href="{PREFIX}/x">'),
        ('<form method="post" action="/x?a=1&amp;b=2">',
         f'<form method="post" action="{PREFIX}/x?a=1&amp;b=2">'),
        ('<script src="/a.js">if (a < b) c("<a href=/x")</script>',
         f'<script src="{PREFIX}/a.js">if (a < b) c("<a href=/x")</script>'),
        ('<p title="/x">/x</p>', '<p title="/x">/x</p>'),
        ("a < b and 1 <2", "a < b and 1 <2"),
    ],
)  # fmt: skip
def test_links_of_a_page(text: str, led: str) -> None:
    page = Page(PREFIX, "h")
    assert page.feed(text.encode()) + page.end() == led.encode()


@given(st.lists(st.sampled_from(['<a href="/x">', "text", "<", ">", "<b", " x='", "é"])))
def test_pieces_make_no_difference(words: list[str]) -> None:
    text = "".join(words).encode()
    whole, pieces = Page(PREFIX, "h"), Page(PREFIX, "h")
    one_by_one = b"".join(pieces.feed(bytes([byte])) for byte in text) + pieces.end()
    assert one_by_one == whole.feed(text) + whole.end()


@pytest.mark.parametrize(
    ("path", "name", "tail"),
    [
        ("/api/v1/namespaces/a/pods/b/proxy", "b", ""),
        ("/api/v1/namespaces/a/pods/b/proxy/", "b", "/"),
        ("/api/v1/namespaces/a/services/https:b:c/proxy/d//e%2Ff", "https:b:c", "/d//e%2Ff"),
        ("/api/v1/namespaces/a/services/b%3A80/proxy/x", "b:80", "/x"),
        ("/api/v1/nodes/n/proxy/pods/", "n", "/pods/"),
    ],
)
def test_paths(path: str, name: str, tail: str) -> None:
    route = parse(path)
    assert route is not None
    assert (route.name, route.subresource, route.tail) == (name, "proxy", tail)


def test_no_other_resource_has_a_path_below() -> None:
    assert parse("/api/v1/namespaces/a/configmaps/b/proxy/x") is None
    assert parse("/api/v1/namespaces/a/pods/b/log/x") is None


def test_names() -> None:
    assert split("a") == ("http", "a", "")
    assert split("a:web") == ("http", "a", "web")
    assert split("https:a:443") == ("https", "a", "443")
    assert split("https:a:") == ("https", "a", "")
    for bad in ("", ":80", "ftp:a:1", "a:b:c:d"):
        with pytest.raises(ApiError):
            split(bad)


def test_ports() -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{}, {"ports": [
        {"name": "web", "containerPort": 8080}, {"containerPort": 9}]}]}}  # fmt: skip
    assert [pod_port(pod, text) for text in ("", "web", "81")] == [8080, 8080, 81]
    assert pod_port({"spec": {"containers": [{}]}}, "") == 80
    two = {"metadata": {"name": "s"}, "spec": {"ports": [
        {"name": "web", "port": 80}, {"name": "other", "port": 81}]}}  # fmt: skip
    assert [service_port(two, text) for text in ("80", "other", "81")] == ["web", "other", "other"]
    one = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    assert service_port(one, "") == ""
    for service, text in ((two, ""), (two, "82"), (one, "web")):
        with pytest.raises(ApiError) as caught:
            service_port(service, text)
        assert caught.value.code == 503
    with pytest.raises(ApiError):
        pod_port(pod, "nope")


def test_endpoints_that_are_ready() -> None:
    slices = [
        {
            "ports": [{"name": "web", "port": 8080}, {"name": "x", "port": 1}],
            "endpoints": [
                {
                    "addresses": ["10.0.0.1"],
                    "conditions": {"ready": True},
                    "targetRef": {"kind": "Pod", "name": "p"},
                    "nodeName": "n",
                },
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
                {"addresses": ["10.0.0.3"]},
            ],
        }
    ]
    assert endpoints(slices, "web") == [
        Endpoint("10.0.0.1", 8080, "p", "n"),
        Endpoint("10.0.0.3", 8080, "", ""),
    ]
    assert endpoints(slices, "other") == []
