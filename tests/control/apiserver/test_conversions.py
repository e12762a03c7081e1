"""Custom kinds whose versions a webhook converts, over the whole registry."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import Kind
from meshkube.api.patch import merge_patch
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.reading import Query
from meshkube.control.apiserver.registry import Registry
from tests.support.custom import crd, version
from tests.support.webhooks import Webhook, running_webhook

CRD = kinds.CUSTOM_RESOURCE_DEFINITION
TEXT = {"type": "string"}


@pytest.fixture
async def hook(tmp_path: Path) -> AsyncIterator[Webhook]:
    async with running_webhook(tmp_path, converting) as hook:
        yield hook


def converting(request: Object) -> Object:
    """`address: host:port` in v1, `host` and `port` in v2; who is called `bad` cannot be read."""
    made = []
    for one in request["objects"]:
        if meta.name(one) == "bad":
            return {"result": {"status": "Failure", "message": "bad is bad"}}
        rest = {key: one[key] for key in ("kind", "metadata")}
        if request["desiredAPIVersion"].endswith("/v2"):
            host, _, port = one["address"].partition(":")
            made.append({**rest, "apiVersion": "example.com/v2", "host": host, "port": port})
        else:
            address = f"{one['host']}:{one['port']}"
            made.append({**rest, "apiVersion": "example.com/v1", "address": address})
    return {"result": {"status": "Success"}, "convertedObjects": made}


def versions(stored: str) -> list[dict[str, Any]]:
    fields = {"v1": ("address",), "v2": ("host", "port")}
    return [
        version(
            name,
            {"type": "object", "properties": dict.fromkeys(known, TEXT), "required": [known[0]]},
            storage=name == stored,
            selectableFields=[{"jsonPath": f".{field}"} for field in known],
        )
        for name, known in fields.items()
    ]


async def defined(registry: Registry, hook: Webhook, stored: str = "v1") -> dict[str, Kind]:
    """Makes the definition, or changes what it stores; its kinds by their versions."""
    client = LocalClient(registry)
    made = crd(*versions(stored))
    webhook = {"clientConfig": hook.client(), "conversionReviewVersions": ["v1"]}
    made["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
    if stored == "v1":
        await client.create(CRD, made)
    else:
        found = await client.get(CRD, meta.name(made))
        await client.update(CRD, {**found, "spec": {**found["spec"], "versions": versions(stored)}})
    found_kinds = {}
    for name in ("v1", "v2"):
        kind = registry.catalog.by_kind(f"example.com/{name}", "Widget")
        assert kind is not None
        found_kinds[name] = kind
    return found_kinds


async def made(registry: Registry, kind: Kind, name: str, **fields: str) -> Object:
    obj = {"apiVersion": kind.api_version, "kind": "Widget", "metadata": {"name": name}, **fields}
    return (await registry.create(kind, obj, "default", WriteOptions())).object


def said(obj: Object) -> Object:
    return {key: obj[key] for key in obj if key not in ("apiVersion", "kind", "metadata")}


async def test_an_object_is_written_and_read_in_either_version(
    registry: Registry, hook: Webhook
) -> None:
    known = await defined(registry, hook)
    created = await made(registry, known["v2"], "w", host="h", port="80")
    assert (created["apiVersion"], said(created)) == (
        "example.com/v2",
        {"host": "h", "port": "80"},
    )
    old = (await registry.get(known["v1"], "w", "default")).object
    assert (old["apiVersion"], said(old)) == ("example.com/v1", {"address": "h:80"})
    assert old["metadata"]["uid"] == created["metadata"]["uid"]
    asked = len(hook.asked)
    change = functools.partial(merge_patch, patch={"port": "81"})
    options = WriteOptions()
    await registry.patch(known["v2"], "w", "default", change, options)
    found = (await registry.get(known["v1"], "w", "default")).object
    assert said(found) == {"address": "h:81"}
    assert len(hook.asked) > asked
    await registry.get(known["v2"], "w", "default")
    asked = len(hook.asked)
    await registry.get(known["v2"], "w", "default")
    assert len(hook.asked) == asked  # what was converted once is remembered
    with pytest.raises(ApiError, match="host: Required value"):
        await made(registry, known["v2"], "x", port="1")


async def test_objects_stored_in_several_versions_are_one_list(
    registry: Registry, hook: Webhook
) -> None:
    known = await defined(registry, hook)
    await made(registry, known["v1"], "a", address="x:1")
    known = await defined(registry, hook, "v2")
    await made(registry, known["v2"], "b", host="y", port="2")
    for name, wanted in (
        ("v1", [{"address": "x:1"}, {"address": "y:2"}]),
        ("v2", [{"host": "x", "port": "1"}, {"host": "y", "port": "2"}]),
    ):
        listing = await registry.list(Query(known[name], "default"))
        assert [said(one.object) for one in listing.items] == wanted
        assert {one.object["apiVersion"] for one in listing.items} == {f"example.com/{name}"}
    chosen = await registry.list(Query(known["v2"], "default", fields="host=x"))
    assert [meta.name(one.object) for one in chosen.items] == ["a"]
    _, gone = await registry.delete(known["v2"], "a", "default", DeleteOptions())
    assert gone


async def test_a_watch_is_told_in_its_version_and_selects_by_it(
    registry: Registry, hook: Webhook
) -> None:
    known = await defined(registry, hook)
    await made(registry, known["v1"], "a", address="x:1")
    watcher = await registry.watch(Query(known["v2"], "default", fields="host=x"))
    told: list[tuple[str, str, str]] = []

    async def until(count: int) -> None:
        async with asyncio.timeout(30):
            while len(told) < count:
                for notice in await watcher.take():
                    obj = notice.cached.object
                    told.append((notice.type, meta.name(obj), obj["host"]))

    await until(1)
    await made(registry, known["v1"], "b", address="y:1")
    await made(registry, known["v2"], "c", host="x", port="3")
    change = functools.partial(merge_patch, patch={"address": "z:1"})
    await registry.patch(known["v1"], "a", "default", change, WriteOptions())
    await registry.delete(known["v1"], "c", "default", DeleteOptions())
    await until(4)
    watcher.close()
    assert told == [
        ("ADDED", "a", "x"),
        ("ADDED", "c", "x"),
        ("DELETED", "a", "x"),
        ("DELETED", "c", "x"),
    ]


async def test_what_cannot_be_converted_is_said_and_lost_to_nobody(
    registry: Registry, hook: Webhook
) -> None:
    known = await defined(registry, hook)
    await made(registry, known["v1"], "bad", address="x:1")
    words = "conversion webhook for example.com/v1, Kind=Widget failed: bad is bad"
    with pytest.raises(ApiError, match=words) as caught:
        await registry.get(known["v2"], "bad", "default")
    assert caught.value.code == 500
    with pytest.raises(ApiError, match=words):
        await registry.list(Query(known["v2"], "default"))
    found = (await registry.get(known["v1"], "bad", "default")).object
    assert said(found) == {"address": "x:1"}


async def test_a_conversion_without_a_webhook_is_refused(registry: Registry) -> None:
    made = crd(*versions("v1"))
    made["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {"clientConfig": {}}}
    with pytest.raises(ApiError, match="exactly one of url or service") as caught:
        await LocalClient(registry).create(CRD, made)
    assert "must specify one of v1, v1beta1" in caught.value.message
