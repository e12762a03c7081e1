"""CustomResourceDefinitions and their objects, through the registry and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from tests.support.api import running_registry
from tests.support.custom import crd, widget

CRD = kinds.CUSTOM_RESOURCE_DEFINITION


async def defined(registry: Registry, definition: dict | None = None) -> Kind:
    made = await LocalClient(registry).create(CRD, definition or crd())
    found = registry.catalog.definition(made["metadata"]["name"])
    assert found is not None
    return found.kinds[0]


async def test_a_definition_is_served_at_once(registry: Registry) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    made = await client.create(kind, widget())
    assert made["spec"] == {"size": 3, "color": "red", "replicas": 1}
    assert made["metadata"]["generation"] == 1
    assert (await client.get(kind, "w", "default")) == made
    assert [one["metadata"]["name"] for one in (await client.list(kind)).items] == ["w"]
    patched = await client.patch(kind, "w", {"spec": {"size": 4}}, "default")
    assert patched["spec"]["size"] == 4
    assert patched["metadata"]["generation"] == 2
    await client.delete(kind, "w", "default")
    with pytest.raises(ApiError, match=r'widgets\.example\.com "w" not found'):
        await client.get(kind, "w", "default")


async def test_every_fault_of_an_object_is_told(registry: Registry) -> None:
    kind = await defined(registry)
    bad = widget(size=11, color="blue", note="X1", tags=["a", "a"], parts=[{}], labels={"a": 1})
    with pytest.raises(ApiError) as caught:
        await LocalClient(registry).create(kind, bad)
    causes = {cause["field"]: cause["message"] for cause in caught.value.details["causes"]}
    assert caught.value.code == 422
    assert causes == {
        "spec.size": "Invalid value: 11: spec.size in body should be less than or equal to 10",
        "spec.color": 'Unsupported value: "blue": supported values: "red", "green"',
        "spec.note": "Invalid value: \"X1\": spec.note in body should match '^[a-z ]*$'",
        "spec.tags[1]": 'Duplicate value: "a"',
        "spec.parts[0].name": "Required value",
        "spec.labels.a": 'Invalid value: "integer": spec.labels.a in body must be of type string:'
        ' "integer"',
    }


async def test_a_restart_finds_definitions_and_objects(tmp_path: Path) -> None:
    async with running_registry(tmp_path) as registry:
        kind = await defined(registry)
        await LocalClient(registry).create(kind, widget())
    async with running_registry(tmp_path) as registry:
        found = registry.catalog.by_kind("example.com/v1", "Widget")
        assert found is not None
        assert (await LocalClient(registry).get(found, "w", "default"))["spec"]["size"] == 3
