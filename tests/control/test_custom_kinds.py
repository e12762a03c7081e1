"""Controllers that concern every kind also concern those that come later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.registry import Registry
from meshkube.control.auth import component_roles
from meshkube.control.manager import ControlPlane
from tests.support.api import running_registry
from tests.support.custom import crd, widget

CRD = kinds.CUSTOM_RESOURCE_DEFINITION


@pytest.fixture
async def registry(tmp_path: Path) -> AsyncIterator[Registry]:
    """With controllers that run under their own names, as the daemon's do."""
    async with running_registry(tmp_path) as registry:
        plane = ControlPlane(
            client=LocalClient(registry, component_roles.CONTROLLER_MANAGER),
            client_of=lambda name: LocalClient(registry, component_roles.controller_user(name)),
            identity="a",
            custom=registry.catalog,
        )
        async with asyncio.TaskGroup() as group:
            task = group.create_task(plane.run(lambda: None))
            async with asyncio.timeout(10):
                while not plane.leading:
                    await asyncio.sleep(0.02)
            yield registry
            task.cancel()


async def defined(registry: Registry) -> Kind:
    await LocalClient(registry).create(CRD, crd())
    found = registry.catalog.definition("widgets.example.com")
    assert found is not None
    return found.kinds[0]


async def gone(registry: Registry, kind: Kind, name: str, namespace: str | None = None) -> None:
    async with asyncio.timeout(15):
        while True:
            try:
                await LocalClient(registry).get(kind, name, namespace)
            except ApiError as error:
                if error.code == 404:
                    return
                raise
            await asyncio.sleep(0.05)


def owned(obj: dict, kind: Kind, owner: dict, **more: object) -> dict:
    reference = {**meta.owner_reference(kind, owner), "controller": False, **more}
    obj["metadata"]["ownerReferences"] = [reference]
    return obj


def config(name: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}


async def test_what_a_custom_object_owns_goes_with_it(registry: Registry) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    owner = await client.create(kind, widget("owner"))
    await client.create(kinds.CONFIG_MAP, owned(config("mine"), kind, owner), "default")
    below = await client.create(kind, owned(widget("below"), kind, owner))
    assert below["spec"]["size"] == 3
    await client.delete(kind, "owner", "default", propagation="Background")
    await gone(registry, kinds.CONFIG_MAP, "mine", "default")
    await gone(registry, kind, "below", "default")


async def test_a_custom_object_goes_with_its_owner(registry: Registry) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    owner = await client.create(kinds.CONFIG_MAP, config("owner"), "default")
    await client.create(kind, owned(widget(), kinds.CONFIG_MAP, owner))
    await client.delete(kinds.CONFIG_MAP, "owner", "default", propagation="Foreground")
    await gone(registry, kind, "w", "default")


async def test_an_orphan_keeps_all_but_its_owner(registry: Registry) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    owner = await client.create(kind, widget("owner"))
    await client.create(kind, owned(widget("below", color="green"), kind, owner))
    await client.delete(kind, "owner", "default", propagation="Orphan")
    await gone(registry, kind, "owner", "default")
    left = await client.get(kind, "below", "default")
    assert not left["metadata"].get("ownerReferences")
    assert left["spec"]["color"] == "green"


async def test_a_namespace_takes_custom_objects_along(registry: Registry) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    await client.create(kinds.NAMESPACE, {"metadata": {"name": "toys"}})
    await client.create(kind, widget(namespace="toys"))
    await client.delete(kinds.NAMESPACE, "toys")
    await gone(registry, kinds.NAMESPACE, "toys")
    assert (await client.list(kind)).items == []


async def test_a_definition_goes_in_the_foreground_too_and_may_come_back(
    registry: Registry,
) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    held = widget()
    held["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(kind, held)
    await client.delete(CRD, "widgets.example.com", propagation="Foreground")
    with pytest.raises(ApiError, match="create not allowed while custom resource definition is"):
        await client.create(kind, widget("late"))
    async with asyncio.timeout(10):
        while not meta.deleting(await client.get(kind, "w", "default")):
            await asyncio.sleep(0.05)
    assert meta.deleting(await client.get(CRD, "widgets.example.com"))
    await client.patch(kind, "w", {"metadata": {"finalizers": None}}, "default")
    await gone(registry, CRD, "widgets.example.com")
    assert (await client.list(await defined(registry))).items == []


async def test_a_quota_counts_custom_objects(registry: Registry) -> None:
    client = LocalClient(registry)
    kind = await defined(registry)
    await client.create(kind, widget("one"))
    hard = {"count/widgets.example.com": "2"}
    quota = {"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": hard}}
    await client.create(kinds.RESOURCE_QUOTA, quota)

    async def used(count: str) -> None:
        async with asyncio.timeout(10):
            while True:
                found = await client.get(kinds.RESOURCE_QUOTA, "q", "default")
                if (found.get("status") or {}).get("used") == {"count/widgets.example.com": count}:
                    return
                await asyncio.sleep(0.05)

    await used("1")
    await client.create(kind, widget("two"))
    with pytest.raises(ApiError, match="exceeded quota: q"):
        await client.create(kind, widget("three"))
    await client.delete(kind, "one", "default")
    await used("1")
