"""Resources, probes, log requests, image policies, security: one table each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshkube.api.qos import qos_class
from meshkube.api.types import Object
from meshkube.node.container_spec import security
from meshkube.node.env import ConfigError
from meshkube.node.image_peers import ASKED_BESIDES, candidates, has_image
from meshkube.node.images import policy_of
from meshkube.node.log_request import BadLogRequest, parse_log_request
from meshkube.node.permission import permitted
from meshkube.node.probes import Tally, http_url, port_number, schedule
from meshkube.node.resources import limits_of, oom_score
from meshkube.node.runtime import Image

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def pod(*resources: Object, **spec: Any) -> Object:
    containers = [{"name": f"c{n}", "resources": r} for n, r in enumerate(resources)]
    return {"metadata": {"name": "p"}, "spec": {"containers": containers, **spec}}


FULL = {"limits": {"cpu": "1", "memory": "1Gi"}}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        (({},), "BestEffort"),
        (({"requests": {"cpu": "0"}},), "BestEffort"),
        (({"requests": {"cpu": "1"}},), "Burstable"),
        ((FULL,), "Guaranteed"),
        ((FULL, {}), "Burstable"),
        (({**FULL, "requests": {"cpu": "1000m", "memory": "1024Mi"}},), "Guaranteed"),
        (({**FULL, "requests": {"cpu": "500m"}},), "Burstable"),
        (({"limits": {"memory": "1Gi"}},), "Burstable"),
    ],
)
def test_quality_of_service(resources: tuple[Object, ...], expected: str) -> None:
    assert qos_class(pod(*resources)) == expected


def test_limits_in_the_kernels_terms() -> None:
    obj = pod({"requests": {"cpu": "250m"}, "limits": {"cpu": "1500m", "memory": "64Mi"}})
    found = limits_of(obj, obj["spec"]["containers"][0], 2**30)
    assert found.limits == (256, 150_000, 64 * 2**20)
    bare = pod({})
    found = limits_of(bare, bare["spec"]["containers"][0], 2**30)
    assert found.limits == (2, 0, 0)


def test_out_of_memory_scores() -> None:
    half = pod({"requests": {"memory": "512Mi"}})
    assert oom_score(half, half["spec"]["containers"][0], 2**30) == 500
    for resources, score in (({}, 1000), (FULL, -997)):
        obj = pod(resources)
        assert oom_score(obj, obj["spec"]["containers"][0], 2**30) == score


def test_a_verdict_needs_enough_alike_in_a_row() -> None:
    times = schedule({"successThreshold": 2, "failureThreshold": 3})
    tally = Tally(times, False)
    verdicts = []
    for good in (True, False, True, True, False, False, True, False, False, False):
        tally.add(good)
        verdicts.append(tally.verdict)
    assert verdicts == [False, False, False, True, True, True, True, True, True, False]


def test_a_probe_has_kubernetes_defaults() -> None:
    times = schedule({})
    assert (times.initial_delay, times.period, times.timeout) == (0, 10, 1)
    assert (times.successes, times.failures) == (1, 3)


def test_ports_by_number_and_name() -> None:
    container = {"ports": [{"name": "web", "containerPort": 8080}]}
    assert [port_number(port, container) for port in (80, "81", "web")] == [80, 81, 8080]
    for bad in ("no", 0, 70000):
        with pytest.raises(ValueError, match="port"):
            port_number(bad, container)
    action = {"path": "x", "port": "web", "scheme": "HTTPS"}
    assert http_url(action, container, "10.0.0.1") == ("https", "10.0.0.1", 8080, "/x")


def test_log_requests() -> None:
    found = parse_log_request({"follow": "true", "tailLines": "5", "sinceSeconds": "60"}, NOW)
    assert (found.options.follow, found.options.tail) == (True, 5)
    assert found.options.since == NOW - timedelta(minutes=1)
    found = parse_log_request({"sinceTime": "2025-12-31T00:00:00Z", "limitBytes": "9"}, NOW)
    assert found.options.since == NOW - timedelta(days=1)
    assert found.limit_bytes == 9
    for bad in (
        {"tailLines": "-1"},
        {"tailLines": "x"},
        {"limitBytes": "0"},
        {"sinceTime": "soon"},
        {"sinceTime": "2025-12-31T00:00:00Z", "sinceSeconds": "1"},
    ):
        with pytest.raises(BadLogRequest):
            parse_log_request(bad, NOW)


@pytest.mark.parametrize(
    ("image", "policy", "expected"),
    [
        ("web", None, "Always"),
        ("web:latest", None, "Always"),
        ("host:5000/web", None, "Always"),
        ("host:5000/web:1", None, "IfNotPresent"),
        ("web@sha256:abc", None, "IfNotPresent"),
        ("web", "Never", "Never"),
    ],
)
def test_image_policies(image: str, policy: str | None, expected: str) -> None:
    assert policy_of({"image": image, "imagePullPolicy": policy}) == expected


def secured(outer: Object, inner: Object, user: str = "") -> Any:
    obj = {"metadata": {"name": "p"}, "spec": {"securityContext": outer}}
    return security(obj, {"name": "c", "securityContext": inner}, Image("i", user=user))


def test_a_containers_security_goes_over_its_pods() -> None:
    found = secured({"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3}, {"runAsUser": 9})
    assert (found.user, found.groups) == ("9:2", ("3",))
    found = secured({}, {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}})
    assert found.no_new_privileges
    assert found.drop_capabilities == ("ALL",)


@pytest.mark.parametrize(("user", "image", "fine"), [(0, "", False), (5, "", True),
    (None, "", False), (None, "7", True), (None, "0", False), (None, "web", False)])  # fmt: skip
def test_who_may_not_be_root_is_not(user: int | None, image: str, fine: bool) -> None:
    inner = {"runAsNonRoot": True, "runAsUser": user}
    if fine:
        secured({}, inner, image)
        return
    with pytest.raises(ConfigError, match="root"):
        secured({}, inner, image)


def certificate(*groups: str) -> dict[str, object]:
    organizations = tuple((("organizationName", group),) for group in groups)
    return {"subject": (*organizations, (("commonName", "x"),))}


@pytest.mark.parametrize(
    ("groups", "method", "path", "may"),
    [
        (["system:masters"], "POST", "/exec/a/b/c", True),
        (["system:nodes"], "GET", "/images/archive", True),
        (["system:nodes"], "GET", "/images", True),
        (["system:nodes"], "POST", "/images", False),
        (["system:nodes"], "GET", "/exec/a/b/c", False),
        (["system:nodes"], "GET", "/images/../pods", False),
        (["others"], "GET", "/images", False),
        ([], "GET", "/healthz", False),
    ],
)
def test_who_may_ask_the_node(groups: list[str], method: str, path: str, may: bool) -> None:
    assert permitted(certificate(*groups), method, path) is may


def test_nobody_without_a_certificate() -> None:
    assert not permitted(None, "GET", "/healthz")


def node(name: str, *images: str, ready: str = "True") -> Object:
    status = {
        "conditions": [{"type": "Ready", "status": ready}],
        "images": [{"names": list(images)}],
    }
    return {"metadata": {"name": name}, "status": status}


def test_nodes_that_name_an_image_are_asked_first() -> None:
    others = [node(f"n{number}") for number in range(20)]
    having = [node("a", "x:1", "y:1"), node("b", "x:1")]
    away = node("c", "x:1", ready="Unknown")
    found = candidates([*others, *having, away, node("own", "x:1")], "own", "x:1")
    names = [one["metadata"]["name"] for one in found]
    assert sorted(names[:2]) == ["a", "b"]
    assert len(names) == 2 + ASKED_BESIDES
    assert not {"c", "own"} & set(names)


def test_a_name_without_a_tag_is_the_latest() -> None:
    assert has_image(node("a", "x:latest"), "x")
    assert not has_image(node("a", "x:1"), "x")
