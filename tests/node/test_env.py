"""The environment of a container."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkube.api.types import Object
from meshkube.node.env import ConfigError, Context, environment, expand, service_variables

CONFIG = {"metadata": {"name": "cm"}, "data": {"a": "1", "b": "2", "bad=key": "3"}}
SECRET = {"metadata": {"name": "s"}, "data": {"k": base64.b64encode(b"v").decode()}}


def context() -> Context:
    objects: dict[tuple[str, str], Object] = {("ConfigMap", "cm"): CONFIG, ("Secret", "s"): SECRET}
    meta = {
        "name": "p",
        "namespace": "ns",
        "uid": "u1",
        "labels": {"app": 'we"b'},
        "annotations": {"x/y": "z"},
    }
    return Context(
        pod={"metadata": meta, "spec": {"containers": [{"name": "c"}]}},
        pod_ip="10.0.0.2",
        node_name="n1",
        host_ip="192.0.2.1",
        lookup=lambda kind, name: objects.get((kind, name)),
        allocatable={"cpu": "2", "memory": "1Gi"},
        second_ips=("2001:db8::1",),
    )


def resolved(*entries: Object, sources: tuple[Object, ...] = (), **more: Any) -> dict[str, str]:
    container = {"name": "c", "env": list(entries), "envFrom": list(sources), **more}
    return dict(environment(container, context(), {"FROM_SERVICE": "x"}))


def field(path: str) -> str:
    entry = {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": path}}}
    return resolved(entry)["F"]


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(NO)", "$(NO)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("$", "$"),
        ("", ""),
    ],
)
def test_references_are_expanded(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1"}) == expanded


@given(st.text(alphabet="$()Ax "))
def test_expanding_never_fails_and_leaves_text_without_dollars_alone(text: str) -> None:
    found = expand(text, {"A": "1"})
    if "$" not in text:
        assert found == text


def test_later_sources_win_and_names_build_on_earlier_ones() -> None:
    found = resolved(
        {"name": "a", "value": "own"},
        {"name": "b2", "value": "$(a)/$(FROM_SERVICE)"},
        sources=({"configMapRef": {"name": "cm"}}, {"prefix": "S_", "secretRef": {"name": "s"}}),
    )
    assert found == {
        "FROM_SERVICE": "x", "a": "own", "b": "2", "S_k": "v", "b2": "own/x"
    }  # fmt: skip


def test_fields() -> None:
    assert field("metadata.name") == "p"
    assert field("metadata.labels['app']") == 'we"b'
    assert field("metadata.annotations['x/y']") == "z"
    assert field("metadata.labels") == 'app="we\\"b"'
    assert field("spec.nodeName") == "n1"
    assert field("status.podIP") == "10.0.0.2"
    assert field("status.hostIPs") == "192.0.2.1,2001:db8::1"
    with pytest.raises(ConfigError, match="unsupported fieldPath"):
        field("spec.nope")


@pytest.mark.parametrize(
    ("reference", "value"),
    [
        ({"resource": "limits.cpu"}, "1"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "500"),
        ({"resource": "limits.cpu", "divisor": "0"}, "1"),
        ({"resource": "requests.memory", "divisor": "1Mi"}, "64"),
        ({"resource": "limits.memory"}, str(2**30)),
        ({"resource": "requests.cpu"}, "0"),
    ],
)
def test_resources_round_up(reference: Object, value: str) -> None:
    resources = {"limits": {"cpu": "500m"}, "requests": {"memory": "64Mi"}}
    entry = {"name": "R", "valueFrom": {"resourceFieldRef": reference}}
    assert resolved(entry, resources=resources)["R"] == value


def key_of(kind: str, name: str, key: str, **more: Any) -> Object:
    source = "configMapKeyRef" if kind == "ConfigMap" else "secretKeyRef"
    return {"name": "V", "valueFrom": {source: {"name": name, "key": key, **more}}}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (key_of("ConfigMap", "no", "k"), 'configmap "no" not found'),
        (key_of("Secret", "no", "k"), 'secret "no" not found'),
        (key_of("ConfigMap", "cm", "no"), "couldn't find key no in ConfigMap ns/cm"),
        (key_of("Secret", "s", "no"), "couldn't find key no in Secret ns/s"),
    ],
)
def test_what_is_missing_is_named(entry: Object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolved(entry)
    assert str(caught.value) == message
    source = next(iter(entry["valueFrom"].values()))
    source["optional"] = True
    assert "V" not in resolved(entry)


def test_services_are_told() -> None:
    def service(name: str, namespace: str, address: str, *ports: Object) -> Object:
        spec = {"clusterIP": address, "ports": list(ports)}
        return {"metadata": {"name": name, "namespace": namespace}, "spec": spec}

    http = {"name": "http", "port": 80, "protocol": "TCP"}
    services = [
        service("kubernetes", "default", "10.43.0.1", {"port": 443, "name": "https"}),
        service("my-db", "ns", "10.43.0.9", http),
        service("other", "elsewhere", "10.43.0.10", http),
        service("headless", "ns", "None", http),
    ]
    found = service_variables("ns", services, links=True)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.43.0.1"
    assert found["MY_DB_SERVICE_HOST"] == "10.43.0.9"
    assert found["MY_DB_SERVICE_PORT_HTTP"] == "80"
    assert found["MY_DB_PORT"] == found["MY_DB_PORT_80_TCP"] == "tcp://10.43.0.9:80"
    assert not any(name.startswith(("OTHER", "HEADLESS")) for name in found)
    assert all(name.startswith("KUBERNETES") for name in service_variables("ns", services, False))
