"""Which resource a path names, and the verb a request means."""

from __future__ import annotations

import pytest

from meshkube.api import kinds
from meshkube.control.apiserver.resources import verb_of
from meshkube.control.apiserver.routing import Route, parse


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/api/v1/pods", Route(kinds.POD)),
        ("/api/v1/namespaces/d/pods", Route(kinds.POD, "d")),
        ("/api/v1/namespaces/d/pods/p", Route(kinds.POD, "d", "p")),
        ("/api/v1/namespaces/d/pods/p/status", Route(kinds.POD, "d", "p", "status")),
        ("/api/v1/namespaces", Route(kinds.NAMESPACE)),
        ("/api/v1/namespaces/d", Route(kinds.NAMESPACE, "", "d")),
        ("/api/v1/namespaces/d/", Route(kinds.NAMESPACE, "", "d")),
        ("/api/v1/namespaces/d/finalize", Route(kinds.NAMESPACE, "", "d", "finalize")),
        ("/api/v1/nodes/n%31/status", Route(kinds.NODE, "", "n1", "status")),
        ("/apis/apps/v1/deployments", Route(kinds.DEPLOYMENT)),
        (
            "/apis/apps/v1/namespaces/d/deployments/w/scale",
            Route(kinds.DEPLOYMENT, "d", "w", "scale"),
        ),
        ("/apis/events.k8s.io/v1/namespaces/d/events", Route(kinds.EVENTS_EVENT, "d")),
    ],
)
def test_paths_of_resources(path: str, route: Route) -> None:
    assert parse(path) == route


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/api",
        "/api/v1",
        "/api/v2/pods",
        "/apis/apps/v1",
        "/apis/apps/v1/pods",
        "/api/v1/pods/p",
        "/api/v1/namespaces/d/nodes",
        "/api/v1/namespaces/d/pods/p/scale",
        "/api/v1/namespaces/d/pods/p/status/x",
        "/api/v1/namespaces/d/nothing",
        "/api/v1/namespaces//pods",
        "/apis/apps/v1/namespaces/d",
    ],
)
def test_other_paths_name_no_resource(path: str) -> None:
    assert parse(path) is None


@pytest.mark.parametrize(
    ("method", "path", "watch", "verb"),
    [
        ("GET", "/api/v1/pods", False, "list"),
        ("GET", "/api/v1/pods", True, "watch"),
        ("GET", "/api/v1/namespaces/d/pods/p", False, "get"),
        ("GET", "/api/v1/namespaces/d/pods/p", True, "watch"),
        ("POST", "/api/v1/namespaces/d/pods", False, "create"),
        ("POST", "/api/v1/namespaces/d/pods/p/binding", False, "create"),
        ("POST", "/api/v1/namespaces/d/pods/p", False, ""),
        ("PUT", "/api/v1/namespaces/d/pods/p", False, "update"),
        ("PUT", "/api/v1/namespaces/d/pods", False, ""),
        ("PATCH", "/api/v1/namespaces/d/pods/p", False, "patch"),
        ("DELETE", "/api/v1/namespaces/d/pods/p", False, "delete"),
        ("DELETE", "/api/v1/namespaces/d/pods", False, "deletecollection"),
        ("TRACE", "/api/v1/namespaces/d/pods", False, ""),
    ],
)
def test_verbs(method: str, path: str, watch: bool, verb: str) -> None:
    route = parse(path)
    assert route is not None
    assert verb_of(method, route, watch) == verb
