"""ValidatingAdmissionPolicies: whose writes they judge, what they say."""

from __future__ import annotations

from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.registry import Registry
from meshkube.control.auth.users import MASTERS, User
from tests.support.custom import crd, widget

ANN = User("ann", (MASTERS,))
POLICY, BINDING = kinds.VALIDATING_ADMISSION_POLICY, kinds.VALIDATING_ADMISSION_POLICY_BINDING


def policy(*validations: dict[str, Any], resources: str = "configmaps", **spec: Any) -> dict:
    group = "" if resources == "configmaps" else "example.com"
    rule = {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "resources": [resources],
    }
    constraints = {"resourceRules": [rule]}
    whole = {"matchConstraints": constraints, "validations": list(validations), **spec}
    return {"metadata": {"name": "p"}, "spec": whole}


async def bound(registry: Registry, made: dict, *actions: str, **spec: Any) -> None:
    client = LocalClient(registry)
    await client.create(POLICY, made)
    whole = {"policyName": "p", "validationActions": list(actions or ("Deny",)), **spec}
    await client.create(BINDING, {"metadata": {"name": "b"}, "spec": whole})


async def config(registry: Registry, name: str, **data: str) -> list[str]:
    """Creates a ConfigMap as a user; the warnings that came back."""
    options = WriteOptions(user=ANN)
    obj = {"metadata": {"name": name}, "data": data}
    await registry.create(kinds.CONFIG_MAP, obj, "default", options)
    return options.warnings


async def test_a_policy_denies(registry: Registry) -> None:
    check = {
        "expression": "variables.count <= 1",
        "messageExpression": "'too much: %d'.format([variables.count])",
    }
    counted = [{"name": "count", "expression": "has(object.data) ? object.data.size() : 0"}]
    conditions = [
        {"name": "not-system", "expression": "request.namespace != 'kube-system'"},
        {"name": "not-delete", "expression": "request.operation != 'DELETE'"},
    ]
    await bound(registry, policy(check, variables=counted, matchConditions=conditions))
    await config(registry, "fine", a="1")
    with pytest.raises(ApiError) as caught:
        await config(registry, "bad", a="1", b="2")
    assert caught.value.code == 422
    assert caught.value.message.endswith(
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: too much: 2"
    )
    with pytest.raises(ApiError, match="too much: 2"):
        await registry.patch(
            kinds.CONFIG_MAP,
            "fine",
            "default",
            lambda doc: {**doc, "data": {"a": "1", "b": "2"}},
            WriteOptions(user=ANN),
        )
    await registry.delete(kinds.CONFIG_MAP, "fine", "default", DeleteOptions(user=ANN))
    # The server's own writes are not judged.
    own = {"metadata": {"name": "own"}, "data": {"a": "1", "b": "2"}}
    await LocalClient(registry).create(kinds.CONFIG_MAP, own, "default")


async def test_a_policy_may_only_warn(registry: Registry) -> None:
    await bound(registry, policy({"expression": "false", "message": "hm"}), "Warn")
    warnings = await config(registry, "x")
    assert warnings == ["Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': hm"]


async def test_old_objects_users_and_reasons(registry: Registry) -> None:
    check = {
        "expression": "request.operation != 'DELETE' || oldObject.metadata.name != 'keep'",
        "reason": "Forbidden",
        "message": "kept",
    }
    await bound(registry, policy(check))
    await config(registry, "keep")
    with pytest.raises(ApiError, match="kept") as caught:
        await registry.delete(kinds.CONFIG_MAP, "keep", "default", DeleteOptions(user=ANN))
    assert caught.value.code == 403


async def test_selectors_and_parameters(registry: Registry) -> None:
    client = LocalClient(registry)
    await client.create(kinds.CUSTOM_RESOURCE_DEFINITION, crd())
    kind = registry.catalog.by_kind("example.com/v1", "Widget")
    assert kind is not None
    limit = {"metadata": {"name": "limit", "namespace": "default"}, "data": {"most": "5"}}
    await client.create(kinds.CONFIG_MAP, limit)
    check = {"expression": "object.spec.size <= int(params.data.most)"}
    made = policy(check, resources="widgets", paramKind={"apiVersion": "v1", "kind": "ConfigMap"})
    names = {"matchLabels": {"kubernetes.io/metadata.name": "default"}}
    await bound(
        registry,
        made,
        paramRef={"name": "limit", "parameterNotFoundAction": "Deny"},
        matchResources={"namespaceSelector": names},
    )
    await registry.create(kind, widget("ok", size=5), "default", WriteOptions(user=ANN))
    with pytest.raises(ApiError, match=r"failed expression: object\.spec\.size"):
        await registry.create(kind, widget("no", size=6), "default", WriteOptions(user=ANN))
    await client.create(kinds.NAMESPACE, {"metadata": {"name": "else"}})
    await registry.create(kind, widget("no", "else", size=6), "else", WriteOptions(user=ANN))


@pytest.mark.parametrize(("failure", "denied"), [("Fail", True), ("Ignore", False)])
async def test_an_expression_without_a_value(
    registry: Registry, failure: str, denied: bool
) -> None:
    await bound(registry, policy({"expression": "object.data.x == '1'"}, failurePolicy=failure))
    if denied:
        with pytest.raises(ApiError, match="resulted in error: no such key: x"):
            await config(registry, "x")
    else:
        await config(registry, "x")


async def test_what_is_no_expression_is_refused(registry: Registry) -> None:
    with pytest.raises(ApiError) as caught:
        await LocalClient(registry).create(POLICY, policy({"expression": "objct.x =="}))
    (cause,) = caught.value.details["causes"]
    assert cause["field"] == "spec.validations[0].expression"
    assert "compilation failed" in cause["message"]
