"""What changes about definitions: schemas, versions, names, servers."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.options import WriteOptions
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from tests.support.api import running_registry
from tests.support.custom import crd, version, widget

CRD = kinds.CUSTOM_RESOURCE_DEFINITION


def schema(*needed: str, status: bool = False, **fields: Any) -> dict[str, Any]:
    spec = {"type": "object", "properties": fields}
    if needed:
        spec["required"] = list(needed)
    properties: dict[str, Any] = {"spec": spec}
    if status:
        properties["status"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {"type": "object", "properties": properties}


def kind_of(registry: Registry, version: str = "v1", kind: str = "Widget") -> Kind:
    found = registry.catalog.by_kind(f"example.com/{version}", kind)
    assert found is not None
    return found


async def redefine(registry: Registry, *versions: dict[str, Any]) -> None:
    client = LocalClient(registry)
    found = await client.get(CRD, "widgets.example.com")
    await client.update(CRD, {**found, "spec": {**found["spec"], "versions": list(versions)}})


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


async def test_stored_objects_are_read_by_the_schema_as_it_is_now(registry: Registry) -> None:
    client = LocalClient(registry)
    await client.create(CRD, crd(version(schema=schema(a=TEXT, b=TEXT))))
    kind = kind_of(registry)
    await client.create(kind, {**widget(), "spec": {"a": "x", "b": "y"}})
    new = {"type": "string", "default": "filled in"}
    await redefine(registry, version(schema=schema(a=TEXT, c=new)))
    assert (await client.get(kind, "w", "default"))["spec"] == {"a": "x", "c": "filled in"}
    # Back again: nobody wrote it, so nothing was lost.
    await redefine(registry, version(schema=schema(a=TEXT, b=TEXT)))
    assert (await client.get(kind, "w", "default"))["spec"] == {"a": "x", "b": "y"}


async def test_a_stricter_schema_lets_be_what_is_not_touched(registry: Registry) -> None:
    client = LocalClient(registry)
    await client.create(CRD, crd(version(schema=schema(a=TEXT, b=TEXT))))
    kind = kind_of(registry)
    await client.create(kind, {**widget(), "spec": {"a": "long enough", "b": "x"}})
    await redefine(registry, version(schema=schema(a={"type": "string", "maxLength": 3}, b=TEXT)))
    await client.patch(kind, "w", {"spec": {"b": "y"}}, "default")
    with pytest.raises(ApiError, match=r"spec\.a: Too long"):
        await client.patch(kind, "w", {"spec": {"a": "still too long"}}, "default")


async def test_a_watch_ends_when_the_schema_changes(registry: Registry) -> None:
    await LocalClient(registry).create(CRD, crd(version(schema=schema(a=TEXT))))
    watcher = await registry.watch(Query(kind_of(registry), None))
    await redefine(registry, version(schema=schema(a=TEXT, b=TEXT)))
    assert await watcher.take(5) == []
    assert watcher.ended


async def test_several_versions_of_one_object(registry: Registry) -> None:
    client = LocalClient(registry)
    old = version("v1beta1", schema("a", a=TEXT), storage=False, deprecated=True)
    await client.create(CRD, crd(old, version("v1", schema(a=TEXT, b=NUMBER))))
    beta, new = kind_of(registry, "v1beta1"), kind_of(registry)
    assert [kind.version for kind in registry.catalog.kinds if kind.group == "example.com"] == [
        "v1",
        "v1beta1",
    ]
    made = await client.create(
        beta, {"metadata": {"name": "w", "namespace": "default"}, "spec": {"a": "x"}}
    )
    assert made["apiVersion"] == "example.com/v1beta1"
    # Each write is judged by the version that it is made in.
    with pytest.raises(ApiError, match=r"spec\.a: Required value"):
        await client.patch(beta, "w", {"spec": {"a": None}}, "default")
    both = await client.patch(new, "w", {"spec": {"b": 1}}, "default")
    assert both["apiVersion"] == "example.com/v1"
    assert (await client.get(beta, "w", "default"))["apiVersion"] == "example.com/v1beta1"
    listed = await client.list(beta)
    assert [one["apiVersion"] for one in listed.items] == ["example.com/v1beta1"]
    managers = {one["apiVersion"] for one in both["metadata"]["managedFields"]}
    assert managers == {"example.com/v1", "example.com/v1beta1"}
    bare = await client.patch(new, "w", {"spec": {"a": None}}, "default")
    assert bare["spec"] == {"b": 1}
    options = WriteOptions()
    obj = {"metadata": {"name": "x", "namespace": "default"}, "spec": {"a": "x"}}
    await registry.create(beta, obj, "default", options)
    assert options.warnings == ["example.com/v1beta1 Widget is deprecated"]


async def test_the_storage_version_may_move(registry: Registry) -> None:
    client = LocalClient(registry)
    await client.create(CRD, crd(version("v1", schema(a=TEXT))))
    await client.create(kind_of(registry), {**widget(), "spec": {"a": "x"}})
    moved = (
        version("v1", schema(a=TEXT), storage=False),
        version("v2", schema(a=TEXT), storage=True),
    )
    await redefine(registry, *moved)
    found = await client.get(CRD, "widgets.example.com")
    assert found["status"]["storedVersions"] == ["v1", "v2"]
    shown = await client.get(kind_of(registry, "v2"), "w", "default")
    assert (shown["apiVersion"], shown["spec"]) == ("example.com/v2", {"a": "x"})
    with pytest.raises(ApiError, match=r"must remain in spec\.versions until a storage"):
        await redefine(registry, moved[1])
    await client.patch(
        CRD, "widgets.example.com", {"status": {"storedVersions": ["v2"]}}, subresource="status"
    )
    await redefine(registry, moved[1])
    assert registry.catalog.by_kind("example.com/v1", "Widget") is None


async def test_names_that_are_taken_are_not_granted_until_they_are_free(
    registry: Registry,
) -> None:
    client = LocalClient(registry)
    await client.create(CRD, crd(shortNames=["w"]))
    made = await client.create(CRD, crd(plural="wheels", kind="Widget", shortNames=["w"]))
    conditions = {one["type"]: one for one in made["status"]["conditions"]}
    assert conditions["NamesAccepted"]["status"] == "False"
    assert conditions["Established"]["reason"] == "NotAccepted"
    assert registry.catalog.by_plural("example.com", "v1", "wheels") is None
    await client.delete(CRD, "widgets.example.com")
    async with asyncio.timeout(10):
        while registry.catalog.by_plural("example.com", "v1", "wheels") is None:
            await asyncio.sleep(0.02)


async def test_what_may_not_change_does_not(registry: Registry) -> None:
    client = LocalClient(registry)
    made = await client.create(CRD, crd())
    with pytest.raises(ApiError) as caught:
        await client.update(CRD, {**made, "spec": {**made["spec"], "scope": "Cluster"}})
    assert 'spec.scope: Invalid value: "Cluster": field is immutable' in caught.value.message


async def test_dry_run_and_generated_names(registry: Registry) -> None:
    client = LocalClient(registry)
    await client.create(CRD, crd())
    kind = kind_of(registry)
    obj = {"metadata": {"generateName": "w-"}, "spec": {"size": 1}}
    shown = await registry.create(kind, obj, "default", WriteOptions(dry_run=True))
    assert shown.object["spec"]["color"] == "red"
    assert (await client.list(kind)).items == []


async def test_a_cluster_scoped_kind_without_sub_resources(registry: Registry) -> None:
    client = LocalClient(registry)
    free = version(schema={"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    await client.create(CRD, crd(free, plural="zones", kind="Zone", scope="Cluster"))
    kind = kind_of(registry, kind="Zone")
    made = await client.create(
        kind, {"metadata": {"name": "z"}, "anything": [{"goes": 1}], "status": {"a": 1}}
    )
    assert made["anything"] == [{"goes": 1}]
    assert made["status"] == {"a": 1}
    changed = await client.patch(kind, "z", {"status": {"a": 2}})
    assert changed["metadata"]["generation"] == 2


async def test_apply_keeps_what_others_own(registry: Registry) -> None:
    client = LocalClient(registry)
    await client.create(CRD, crd())
    kind = kind_of(registry)
    one = widget(parts=[{"name": "a", "count": 1}], tags=["x"])
    await client.patch(kind, "w", one, "default", type="apply", field_manager="one")
    other = widget(size=3, parts=[{"name": "b"}])
    await client.patch(kind, "w", other, "default", type="apply", field_manager="other")
    less = widget(tags=["x"])
    left = await client.patch(kind, "w", less, "default", type="apply", field_manager="one")
    assert left["spec"]["parts"] == [{"name": "b", "count": 1}]
    clash = widget(size=9)
    with pytest.raises(ApiError) as caught:
        await client.patch(kind, "w", clash, "default", type="apply", field_manager="one")
    assert caught.value.code == 409


@pytest.mark.timeout(120)
async def test_every_server_of_a_store_follows(tmp_path: Path, etcd_url: str) -> None:
    async with (
        running_registry(tmp_path, etcd=etcd_url) as one,
        running_registry(tmp_path, etcd=etcd_url) as other,
    ):
        here, there = LocalClient(one), LocalClient(other)
        await here.create(CRD, crd())
        async with asyncio.timeout(10):
            while other.catalog.by_kind("example.com/v1", "Widget") is None:
                await asyncio.sleep(0.02)
        await there.create(kind_of(other), widget())
        assert (await here.get(kind_of(one), "w", "default"))["spec"]["size"] == 3
        await there.delete(CRD, "widgets.example.com")
        async with asyncio.timeout(20):
            while one.catalog.definition("widgets.example.com") is not None:
                await asyncio.sleep(0.02)
        await here.create(CRD, crd())
        assert (await here.list(kind_of(one))).items == []


async def test_a_key_that_is_left_out_counts_as_its_default(registry: Registry) -> None:
    client = LocalClient(registry)
    items = {
        "type": "object",
        "required": ["port"],
        "properties": {"port": NUMBER, "way": {"type": "string", "default": "in"}, "n": TEXT},
    }
    ports = {
        "type": "array",
        "items": items,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["port", "way"],
    }
    await client.create(CRD, crd(version(schema=schema(ports=ports))))
    kind = kind_of(registry)
    for manager, port in (("one", {"port": 1, "n": "a"}), ("two", {"port": 1, "way": "out"})):
        config = {**widget(), "spec": {"ports": [port]}}
        await client.patch(kind, "w", config, "default", type="apply", field_manager=manager)
    config = {**widget(), "spec": {"ports": [{"port": 1, "n": "b"}]}}
    last = await client.patch(kind, "w", config, "default", type="apply", field_manager="one")
    assert last["spec"]["ports"] == [
        {"port": 1, "way": "in", "n": "b"},
        {"port": 1, "way": "out"},
    ]
