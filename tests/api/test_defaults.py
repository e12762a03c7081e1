"""What is filled in, beyond what the golden manifests show."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds
from meshkube.api.defaults import apply_defaults
from meshkube.api.defaults.pods import pull_policy
from meshkube.api.defaults.rules import IfZero, Rules, under
from meshkube.api.validation import validate_create
from tests.api.test_golden import BASES, kind_of


def defaulted(kind: kinds.Kind, obj: dict[str, Any]) -> dict[str, Any]:
    apply_defaults(kind, obj)
    return obj


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.27", "IfNotPresent"),
        ("registry:5000/nginx", "Always"),
        ("registry:5000/team/nginx:1", "IfNotPresent"),
        ("nginx@sha256:" + "0" * 64, "IfNotPresent"),
        ("nginx:latest@sha256:" + "0" * 64, "Always"),
        ("", "IfNotPresent"),
        ("NoSuch:Name:", "IfNotPresent"),
    ],
)
def test_images_are_always_pulled_when_their_tag_is_latest(image: str, policy: str) -> None:
    assert pull_policy(image) == policy


def test_requests_follow_limits_in_pods_and_not_in_templates() -> None:
    container = {"name": "c", "image": "i", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}
    pod = defaulted(kinds.POD, {"spec": {"containers": [copy.deepcopy(container)]}})
    assert pod["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "1", "memory": "1Gi"}
    template = {"spec": {"containers": [copy.deepcopy(container)]}}
    deployment = defaulted(kinds.DEPLOYMENT, {"spec": {"template": template}})
    resources = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
    assert "requests" not in resources


def test_requests_that_were_given_stay() -> None:
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}}
    pod = {"spec": {"containers": [{"name": "c", "image": "i", "resources": resources}]}}
    found = defaulted(kinds.POD, pod)["spec"]["containers"][0]["resources"]["requests"]
    assert found == {"cpu": "100m", "memory": "1Gi"}


def test_no_replicas_stay_none() -> None:
    assert defaulted(kinds.DEPLOYMENT, {"spec": {"replicas": 0}})["spec"]["replicas"] == 0


def test_host_network_ports_are_host_ports() -> None:
    ports = [{"containerPort": 80}, {"containerPort": 81, "hostPort": 9}]
    spec = {"hostNetwork": True, "containers": [{"name": "c", "image": "i", "ports": ports}]}
    defaulted(kinds.POD, {"spec": spec})
    assert [port["hostPort"] for port in ports] == [80, 9]


@pytest.mark.parametrize(
    ("spec", "field", "value"),
    [
        ({}, "type", "ClusterIP"),
        ({}, "internalTrafficPolicy", "Cluster"),
        ({}, "externalTrafficPolicy", None),
        ({"externalIPs": ["1.2.3.4"]}, "externalTrafficPolicy", "Cluster"),
        ({"type": "NodePort"}, "externalTrafficPolicy", "Cluster"),
        ({"type": "ExternalName"}, "internalTrafficPolicy", None),
        ({"type": "LoadBalancer"}, "allocateLoadBalancerNodePorts", True),
        (
            {"sessionAffinity": "ClientIP"},
            "sessionAffinityConfig",
            {"clientIP": {"timeoutSeconds": 10800}},
        ),
        ({"sessionAffinityConfig": {"clientIP": {}}}, "sessionAffinityConfig", None),
    ],
)
def test_services(spec: dict[str, Any], field: str, value: Any) -> None:
    assert defaulted(kinds.SERVICE, {"spec": spec})["spec"].get(field) == value


def test_the_name_of_a_namespace_is_always_its_label() -> None:
    obj = {"metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "b", "x": "y"}}}
    labels = defaulted(kinds.NAMESPACE, obj)["metadata"]["labels"]
    assert labels == {"kubernetes.io/metadata.name": "a", "x": "y"}


def test_text_of_a_secret_becomes_data() -> None:
    secret = defaulted(kinds.SECRET, {"data": {"a": "eA=="}, "stringData": {"a": "é", "b": ""}})
    assert secret == {"type": "Opaque", "data": {"a": "w6k=", "b": ""}}


@pytest.mark.parametrize("base", BASES, ids=lambda base: base["given"]["kind"])
def test_defaults_of_defaults_change_nothing(base: dict[str, Any]) -> None:
    once = defaulted(kind_of(base["given"]), copy.deepcopy(base["given"]))
    assert defaulted(kind_of(once), copy.deepcopy(once)) == once


def test_given_objects_share_nothing_with_the_tables() -> None:
    one = defaulted(kinds.POD, {"spec": {"containers": [{"name": "c", "image": "i"}]}})
    one["spec"]["securityContext"]["runAsUser"] = 1
    other = defaulted(kinds.POD, {"spec": {"containers": [{"name": "c", "image": "i"}]}})
    assert other["spec"]["securityContext"] == {}


names = st.from_regex("[a-z]([-a-z0-9]{0,10}[a-z0-9])?", fullmatch=True)
ports = st.integers(1, 65535)


@st.composite
def deployments(draw: st.DrawFn) -> dict[str, Any]:
    """Deployments that say little and say it well."""
    labels = draw(st.dictionaries(names, names, min_size=1, max_size=3))
    volumes = draw(st.lists(names, unique=True, max_size=3))
    containers = [
        {
            "name": name,
            "image": draw(names),
            "ports": [{"containerPort": port} for port in draw(st.lists(ports, max_size=2))],
            "volumeMounts": [{"name": each, "mountPath": f"/{each}"} for each in volumes],
            "readinessProbe": draw(
                st.sampled_from([{"tcpSocket": {"port": 80}}, {"grpc": {"port": 1}}])
            ),
        }
        for name in draw(st.lists(names, unique=True, min_size=1, max_size=3))
    ]
    spec = {"containers": containers, "volumes": [{"name": each} for each in volumes]}
    return {
        "metadata": {"name": draw(names), "namespace": draw(names)},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


@settings(max_examples=60, deadline=None)
@given(deployments())
def test_what_is_filled_in_is_valid(deployment: dict[str, Any]) -> None:
    obj = defaulted(kinds.DEPLOYMENT, deployment)
    assert validate_create(kinds.DEPLOYMENT, obj) == []
    again = copy.deepcopy(obj)
    apply_defaults(kinds.DEPLOYMENT, again)
    assert again == obj


def test_rows_apply_where_their_parent_is() -> None:
    rules = Rules([("a", {}), ("a.b", 1), ("c[].d", "x"), ("c[].n", IfZero(3)), ("e.f", 1)])
    obj = {"c": [{"d": ""}, {"d": "y", "n": 0}, {"n": 2}]}
    rules.apply(obj)
    assert obj == {
        "a": {"b": 1},
        "c": [{"d": "x", "n": 3}, {"d": "y", "n": 3}, {"d": "x", "n": 2}],
    }


def test_rows_move_under_a_prefix() -> None:
    assert [path for path, _ in under("a.b", [("", {}), ("c[].d", 1)])] == ["a.b", "a.b.c[].d"]


@pytest.mark.parametrize(
    ("kind", "given", "path", "filled"),
    [
        (kinds.PERSISTENT_VOLUME, {"spec": {}}, "spec.persistentVolumeReclaimPolicy", "Retain"),
        (kinds.PERSISTENT_VOLUME_CLAIM, {"spec": {}}, "spec.volumeMode", "Filesystem"),
        (kinds.PERSISTENT_VOLUME_CLAIM, {"spec": {}}, "status.phase", "Pending"),
        (kinds.STORAGE_CLASS, {"provisioner": "x"}, "volumeBindingMode", "Immediate"),
        (kinds.CSI_DRIVER, {"spec": {}}, "spec.volumeLifecycleModes", ["Persistent"]),
        (
            kinds.LIMIT_RANGE,
            {"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"x": "1"}}]}},
            "spec.limits",
            [
                {
                    "type": "Container",
                    "max": {"cpu": "2"},
                    "min": {"x": "1"},
                    "default": {"cpu": "2"},
                    "defaultRequest": {"cpu": "2", "x": "1"},
                }
            ],
        ),
        (
            kinds.LIMIT_RANGE,
            {"spec": {"limits": [{"type": "Pod", "max": {"cpu": "2"}}]}},
            "spec.limits",
            [{"type": "Pod", "max": {"cpu": "2"}}],
        ),
        (kinds.HORIZONTAL_POD_AUTOSCALER, {"spec": {"maxReplicas": 2}}, "spec.minReplicas", 1),
        (
            kinds.HORIZONTAL_POD_AUTOSCALER,
            {"spec": {"behavior": {"scaleUp": {"selectPolicy": "Min"}}}},
            "spec.behavior.scaleUp.selectPolicy",
            "Min",
        ),
        (
            kinds.HORIZONTAL_POD_AUTOSCALER,
            {"spec": {"behavior": {}}},
            "spec.behavior.scaleDown",
            {
                "selectPolicy": "Max",
                "policies": [{"type": "Percent", "value": 100, "periodSeconds": 15}],
            },
        ),
        (
            kinds.NETWORK_POLICY,
            {"spec": {"podSelector": {}, "egress": [{}]}},
            "spec.policyTypes",
            ["Ingress", "Egress"],
        ),
        (
            kinds.ROLE_BINDING,
            {"roleRef": {"kind": "Role", "name": "r"}},
            "roleRef.apiGroup",
            "rbac.authorization.k8s.io",
        ),
        (
            kinds.CLUSTER_ROLE_BINDING,
            {"subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]},
            "subjects",
            [
                {"kind": "User", "apiGroup": "rbac.authorization.k8s.io"},
                {"kind": "ServiceAccount"},
            ],
        ),
        (kinds.PRIORITY_CLASS, {"value": 1}, "preemptionPolicy", "PreemptLowerPriority"),
        (kinds.FLOW_SCHEMA, {"spec": {}}, "spec.matchingPrecedence", 1000),
        (
            kinds.MUTATING_WEBHOOK_CONFIGURATION,
            {"webhooks": [{"name": "w"}]},
            "webhooks",
            [
                {
                    "name": "w",
                    "reinvocationPolicy": "Never",
                    "failurePolicy": "Fail",
                    "matchPolicy": "Equivalent",
                    "namespaceSelector": {},
                    "objectSelector": {},
                    "timeoutSeconds": 10,
                }
            ],
        ),
    ],
)
def test_other_kinds(kind: kinds.Kind, given: Any, path: str, filled: Any) -> None:
    apply_defaults(kind, given)
    for step in path.split("."):
        given = given[step]
    assert given == filled
