"""Faults a user meets most, in the words they will search for; `test_golden` has the breadth."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshkube.api import kinds, schemas
from meshkube.api.defaults import apply_defaults
from meshkube.api.errors import invalid as invalid_object
from meshkube.api.kinds import KINDS, Kind
from meshkube.api.schemas import Node
from meshkube.api.validation import validate_binding, validate_create, validate_update
from meshkube.api.validation.faults import quoted, shown

META = {"name": "x", "namespace": "default"}
CONTAINER = {"name": "c", "image": "i:1"}
LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must"
    " start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for"
    " validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)


def prepared(kind: Kind, obj: dict[str, Any]) -> dict[str, Any]:
    obj = copy.deepcopy(obj)
    meta = {key: META[key] for key in META if kind.namespaced or key != "namespace"}
    obj["metadata"] = {**meta, **obj.get("metadata", {})}
    apply_defaults(kind, obj)
    return obj


def faults(kind: Kind, obj: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in validate_create(kind, prepared(kind, obj))]


def changes(kind: Kind, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [str(fault) for fault in validate_update(kind, prepared(kind, new), prepared(kind, old))]


def deployment(spec: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER], **pod}}
    selector = {"matchLabels": {"a": "b"}}
    return {"spec": {"selector": selector, "template": template, **(spec or {})}}


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": {"containers": [CONTAINER], **spec}}


@pytest.mark.parametrize(
    ("kind", "obj", "wanted"),
    [
        (
            kinds.NAMESPACE,
            {"metadata": {"name": "A"}},
            [f'metadata.name: Invalid value: "A": {LABEL}'],
        ),
        (
            kinds.NAMESPACE,
            {"metadata": {"name": "a.b"}},
            ['metadata.name: Invalid value: "a.b": must not contain dots'],
        ),
        (kinds.CONFIG_MAP, {"metadata": {"name": "a.b"}}, []),
        (
            kinds.CONFIG_MAP,
            {"metadata": {"name": ""}},
            ["metadata.name: Required value: name or generateName is required"],
        ),
        (
            kinds.CONFIG_MAP,
            {"metadata": {"annotations": {"a": "x" * 300_000}}},
            ["metadata.annotations: Too long: may not be more than 262144 bytes"],
        ),
        (kinds.CONFIG_MAP, {"data": {"a": "x" * (1 << 20)}}, []),
        (
            kinds.CONFIG_MAP,
            {"data": {"a": "x" * (1 << 20), "b": "y"}},
            ["Too long: may not be more than 1048576 bytes"],
        ),
        (
            kinds.SECRET,
            {"type": "kubernetes.io/tls", "data": {"tls.crt": ""}},
            ["data[tls.key]: Required value"],
        ),
        (
            kinds.DEPLOYMENT,
            deployment(restartPolicy="Never"),
            [
                'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values:'
                ' "Always"'
            ],
        ),
        (
            kinds.DEPLOYMENT,
            deployment({"selector": {"matchLabels": {"a": "c"}}}),
            [
                'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}:'
                " `selector` does not match template `labels`"
            ],
        ),
        (
            kinds.DEPLOYMENT,
            deployment({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}}}),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value:"
                ' intstr.IntOrString{Type:1, IntVal:0, StrVal:"0%"}: may not be 0 when `maxSurge`'
                " is 0"
            ],
        ),
        (
            kinds.POD,
            pod(containers=[{**CONTAINER, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]),
            ['spec.containers[0].volumeMounts[0].name: Not found: "v"'],
        ),
        (
            kinds.POD,
            pod(containers=[CONTAINER, {"name": "c"}]),
            [
                "spec.containers[1].image: Required value",
                'spec.containers[1].name: Duplicate value: "c"',
            ],
        ),
        (
            kinds.POD,
            pod(volumes=[{"name": "v", "emptyDir": {}, "configMap": {"name": "c"}}]),
            ["spec.volumes[0].configMap: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            kinds.POD,
            pod(
                containers=[
                    {**CONTAINER, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}
                ]
            ),
            [
                'spec.containers[0].resources.requests: Invalid value: "2": must be less than or'
                " equal to cpu limit of 1"
            ],
        ),
        (kinds.SERVICE, {"spec": {}}, ["spec.ports: Required value"]),
        (
            kinds.SERVICE,
            {"spec": {"ports": [{"port": 80}, {"port": 81}]}},
            ["spec.ports[0].name: Required value", "spec.ports[1].name: Required value"],
        ),
        (
            kinds.SERVICE,
            {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}},
            ["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        ),
        (
            kinds.INGRESS,
            {"spec": {"rules": [{"host": "a_b", "http": {"paths": []}}]}},
            [
                'spec.rules[0].host: Invalid value: "a_b": a lowercase RFC 1123 subdomain must'
                " consist of lower case alphanumeric characters, '-' or '.', and must start and end"
                " with an alphanumeric character (e.g. 'example.com', regex used for validation is"
                r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
                "spec.rules[0].http.paths: Required value",
            ],
        ),
        (
            kinds.LEASE,
            {"spec": {"leaseDurationSeconds": 0}},
            ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
    ],
)
def test_faults_on_create(kind: Kind, obj: dict[str, Any], wanted: list[str]) -> None:
    assert faults(kind, obj) == wanted


SERVICE = {"spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}}


@pytest.mark.parametrize(
    ("kind", "old", "new", "wanted"),
    [
        (
            kinds.DEPLOYMENT,
            deployment(),
            deployment({"selector": {"matchLabels": {"a": "b", "c": "d"}}}),
            [
                'spec.template.metadata.labels: Invalid value: map[string]string{"a":"b"}:'
                " `selector` does not match template `labels`",
                "spec.selector: Invalid value: v1.LabelSelector{MatchLabels:map[string]string"
                '{"a":"b", "c":"d"}, MatchExpressions:[]v1.LabelSelectorRequirement(nil)}: field is'
                " immutable",
            ],
        ),
        (
            kinds.SERVICE,
            SERVICE,
            {"spec": {**SERVICE["spec"], "clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.2"]}},
            ['spec.clusterIPs[0]: Invalid value: []string{"10.0.0.2"}: may not change once set'],
        ),
        (
            kinds.SECRET,
            {},
            {"type": "a/b"},
            ['type: Invalid value: "a/b": field is immutable'],
        ),
        (
            kinds.CONFIG_MAP,
            {"immutable": True, "data": {"a": "b"}},
            {"data": {"a": "c"}},
            [
                "immutable: Forbidden: field is immutable when `immutable` is set",
                "data: Forbidden: field is immutable when `immutable` is set",
            ],
        ),
        (kinds.POD, pod(), pod(containers=[{**CONTAINER, "image": "i:2"}]), []),
        (kinds.POD, pod(), pod(tolerations=[{"operator": "Exists"}]), []),
        (
            kinds.POD,
            pod(),
            pod(containers=[CONTAINER, {**CONTAINER, "name": "d"}]),
            ["spec.containers: Forbidden: pod updates may not add or remove containers"],
        ),
    ],
)
def test_faults_on_update(
    kind: Kind, old: dict[str, Any], new: dict[str, Any], wanted: list[str]
) -> None:
    assert changes(kind, old, new) == wanted


def test_a_forbidden_change_of_a_pod_shows_what_differs() -> None:
    found = changes(kinds.POD, pod(), pod(hostname="h", containers=[{**CONTAINER, "tty": True}]))
    (message,) = found
    assert message.startswith("spec: Forbidden: pod updates may not change fields other than")
    assert message.splitlines()[1:] == [
        "- spec.containers[0].tty: None",
        "+ spec.containers[0].tty: True",
        "- spec.hostname: None",
        "+ spec.hostname: 'h'",
    ]


def test_faults_become_one_status_with_a_cause_for_each() -> None:
    kind = kinds.SERVICE
    found = validate_create(kind, prepared(kind, {"spec": {"ports": [{"port": 0}]}}))
    status = invalid_object(kind.group, kind.kind, "x", found).status()
    assert status["message"] == (
        'Service "x" is invalid: [spec.ports[0].port: Invalid value: 0: must be between 1 and'
        " 65535, inclusive, spec.ports[0].targetPort: Invalid value: 0: must be between 1 and"
        " 65535, inclusive]"
    )
    assert status["details"]["causes"][0] == {
        "reason": "FieldValueInvalid",
        "message": "Invalid value: 0: must be between 1 and 65535, inclusive",
        "field": "spec.ports[0].port",
    }


def test_bindings_name_a_node() -> None:
    assert validate_binding({"target": {"kind": "Node", "name": "n"}}) == []
    found = validate_binding({"target": {"kind": "Pod"}})
    assert [str(fault) for fault in found] == [
        'target.kind: Unsupported value: "Pod": supported values: "Node", "<empty>"',
        "target.name: Required value",
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        ("a", '"a"'),
        ('a"b\\', '"a\\"b\\\\"'),
        ("é\n\x01\u200b", '"é\\n\\x01\\u200b"'),
        (True, "true"),
        (1.5, "1.5"),
        (None, '"null"'),
        ({"b": "1", "a": "2"}, 'map[string]string{"a":"2", "b":"1"}'),
        (["a", "b"], '[]string{"a", "b"}'),
    ],
)
def test_values_are_shown_as_go_shows_them(value: Any, wanted: str) -> None:
    assert shown(value) == wanted


def test_plain_text_is_quoted_at_once() -> None:
    assert quoted("a b") == '"a b"'


texts = st.sampled_from(["", "a", "A_", "-", "..", "/x", "a/b", "1", "50%", "None", "é", "a" * 300])
NUMBERS = st.sampled_from([-1, 0, 1, 80, 70000, (1 << 31) - 1])
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    "string": texts,
    "integer": NUMBERS,
    "number": NUMBERS,
    "boolean": st.booleans(),
    "int-or-string": NUMBERS | texts,
    "quantity": st.sampled_from(["0", "-1", "1", "1500m", "1Gi", "0.1u"]),
    "time": st.just("2024-01-01T00:00:00Z"),
    "micro-time": st.just("2024-01-01T00:00:00.000000Z"),
    "bytes": st.sampled_from(["", "YQ==", "e30="]),
    "any": st.just({"a": 1}),
}


@st.composite
def shaped(draw: st.DrawFn, node: Node, depth: int) -> Any:
    """Any value of a shape, most of them nonsense."""
    if node.type in SCALARS:
        return draw(SCALARS[node.type])
    if node.type == "array":
        assert node.items is not None
        count = draw(st.integers(0, 2 if depth > 0 else 0))
        return [draw(shaped(node.items, depth - 1)) for _ in range(count)]
    if node.type == "map":
        assert node.items is not None
        keys = draw(st.lists(texts, unique=True, max_size=2))
        return {key: draw(shaped(node.items, depth - 1)) for key in keys}
    if depth <= 0:
        return {}
    if node.type == "json" and node.items is not None:
        return draw(shaped(node.items, depth - 1))
    if not node.fields:
        return {}
    keys = draw(st.lists(st.sampled_from(sorted(node.fields)), unique=True, max_size=5))
    return {key: draw(shaped(node.fields[key], depth - 1)) for key in keys}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_no_object_of_the_right_shape_makes_validation_fail(
    kind: Kind, data: st.DataObject
) -> None:
    objects = []
    for _ in range(2):
        obj = data.draw(shaped(schemas.schema_for(kind), 7))
        assert schemas.check(kind, obj).errors == []
        schemas.prune(kind, obj)
        apply_defaults(kind, obj)
        objects.append(obj)
    validate_create(kind, objects[0])
    validate_update(kind, *objects)


def test_a_namespace_beside_a_user_is_let_be() -> None:
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "u"}
    for subject in (user, {**user, "kind": "Group"}):
        binding = {"roleRef": role, "subjects": [{**subject, "namespace": "kube-system"}]}
        assert faults(kinds.CLUSTER_ROLE_BINDING, binding) == []
