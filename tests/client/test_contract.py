"""What every client must do: in process, from another thread and over HTTPS, against the same real
API."""

import asyncio
import concurrent.futures
import contextlib
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import meta
from meshkube.api.errors import ApiError
from meshkube.api.kinds import CONFIG_MAP, DEPLOYMENT, NAMESPACE, NODE, POD, Kind
from meshkube.api.types import Object
from meshkube.aside import side_loop
from meshkube.client.across import AcrossClient
from meshkube.client.base import Client, WatchEvent
from tests.support.api import running_api, serving_api

PATIENCE = 60.0


@contextlib.asynccontextmanager
async def connected(how: str, directory: Path) -> AsyncIterator[Client]:
    """A client of an API that runs over the store in that directory."""
    if how == "in-process":
        async with running_api(directory) as local:
            yield local
    elif how == "other-thread":
        with side_loop("api") as home:
            async with held_open(home, directory) as local:
                yield AcrossClient(local, home)
    else:
        async with serving_api(directory) as served, served.client() as http:
            yield http


@contextlib.asynccontextmanager
async def held_open(home: asyncio.AbstractEventLoop, directory: Path) -> AsyncIterator[Client]:
    """An API on another thread's loop, from its start to its end in one task of that loop."""
    opened: concurrent.futures.Future[Client] = concurrent.futures.Future()
    over = asyncio.Event()

    async def hold() -> None:
        async with running_api(directory) as local:
            opened.set_result(local)
            await over.wait()

    holding = asyncio.run_coroutine_threadsafe(hold(), home)
    try:
        yield await asyncio.wrap_future(opened)
    finally:
        home.call_soon_threadsafe(over.set)
        await asyncio.wrap_future(holding)


ALL_WAYS = ["in-process", "https", "other-thread"]
WAYS = pytest.mark.parametrize("how", ALL_WAYS)


@pytest.fixture(params=ALL_WAYS)
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Client]:
    async with connected(request.param, tmp_path) as client:
        yield client


@contextlib.asynccontextmanager
async def watching(
    client: Client, kind: Kind, namespace: str | None = None, **more: Any
) -> AsyncIterator[AsyncIterator[WatchEvent]]:
    watch = client.watch(kind, namespace, **more)
    async with contextlib.aclosing(watch):  # type: ignore[type-var]
        yield watch


async def events(watch: AsyncIterator[WatchEvent], count: int) -> list[tuple[str, str]]:
    """The next `count` changes, as type and name."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(PATIENCE):
        while len(found) < count:
            type, obj = await anext(watch)
            if type != "BOOKMARK":
                found.append((type, meta.name(obj)))
    return found


async def failed(attempt: Awaitable[object], code: int, reason: str) -> ApiError:
    with pytest.raises(ApiError) as raised:
        await attempt
    assert (raised.value.code, raised.value.reason) == (code, reason)
    return raised.value


def config_map(name: str, namespace: str = "default", **labels: str) -> Object:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1"}}


def pod(name: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }


def node(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}


def namespace(name: str) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def names(objects: list[Object]) -> list[str]:
    return [meta.name(obj) for obj in objects]


def changed(obj: Object, value: str) -> Object:
    return {**obj, "data": {"a": value}}


# Reading and creating


async def test_what_was_created_is_there(client: Client) -> None:
    given = config_map("a")
    made = await client.create(CONFIG_MAP, given)
    assert given == config_map("a"), "the caller's object stays as it was"
    assert meta.uid(made)
    assert meta.resource_version(made)
    assert (made["apiVersion"], made["kind"]) == ("v1", "ConfigMap")
    assert await client.get(CONFIG_MAP, "a", "default") == made


async def test_a_namespace_given_counts(client: Client) -> None:
    bare = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    made = await client.create(CONFIG_MAP, bare, "default")
    assert meta.namespace(made) == "default"


async def test_names_can_be_generated(client: Client) -> None:
    given = {**config_map(""), "metadata": {"generateName": "web-", "namespace": "default"}}
    made = await client.create(CONFIG_MAP, given)
    assert meta.name(made).startswith("web-")
    assert len(meta.name(made)) > len("web-")


async def test_cluster_scoped_kinds(client: Client) -> None:
    made = await client.create(NODE, node("n1"))
    assert await client.get(NODE, "n1") == made
    assert names((await client.list(NODE)).items) == ["n1"]
    await client.delete(NODE, "n1")
    await failed(client.get(NODE, "n1"), 404, "NotFound")


async def test_what_is_not_there(client: Client) -> None:
    error = await failed(client.get(CONFIG_MAP, "a", "default"), 404, "NotFound")
    assert error.message == 'configmaps "a" not found'
    assert error.details == {"name": "a", "kind": "configmaps"}
    await failed(client.delete(CONFIG_MAP, "a", "default"), 404, "NotFound")
    await failed(client.patch(CONFIG_MAP, "a", {}, "default"), 404, "NotFound")
    absent = await client.create(CONFIG_MAP, config_map("b"))
    await client.delete(CONFIG_MAP, "b", "default")
    await failed(client.update(CONFIG_MAP, absent), 404, "NotFound")


async def test_a_name_is_taken_once(client: Client) -> None:
    await client.create(CONFIG_MAP, config_map("a"))
    await failed(client.create(CONFIG_MAP, config_map("a")), 409, "AlreadyExists")


async def test_faults_are_named_with_their_fields(client: Client) -> None:
    wrong = pod("p")
    wrong["spec"]["containers"][0]["name"] = "Not A Name"
    error = await failed(client.create(POD, wrong), 422, "Invalid")
    assert [cause["field"] for cause in error.details["causes"]] == ["spec.containers[0].name"]


# Lists


async def test_lists(client: Client) -> None:
    await client.create(NAMESPACE, namespace("other"))
    for obj in (config_map("b", app="web"), config_map("a", app="db"), config_map("c", "other")):
        await client.create(CONFIG_MAP, obj)
    every = await client.list(CONFIG_MAP)
    assert {"a", "b", "c"} <= set(names(every.items))
    assert int(every.resource_version) > 0
    assert all(obj["kind"] == "ConfigMap" and obj["apiVersion"] == "v1" for obj in every.items)
    own = await client.list(CONFIG_MAP, "default")
    assert [name for name in names(own.items) if len(name) == 1] == ["a", "b"]
    assert names((await client.list(CONFIG_MAP, labels="app in (web,x),app!=db")).items) == ["b"]
    found = await client.list(CONFIG_MAP, fields="metadata.name=c,metadata.namespace=other")
    assert names(found.items) == ["c"]
    assert (await client.list(CONFIG_MAP, "absent")).items == []


async def test_pages_are_of_one_moment(client: Client) -> None:
    for number in range(5):
        await client.create(CONFIG_MAP, config_map(f"m{number}", app="x"))
    first = await client.list(CONFIG_MAP, "default", labels="app=x", limit=2)
    assert names(first.items) == ["m0", "m1"]
    assert first.continue_token
    await client.delete(CONFIG_MAP, "m3", "default")
    await client.create(CONFIG_MAP, config_map("m31", app="x"))
    rest: list[str] = []
    token = first.continue_token
    while token:
        page = await client.list(
            CONFIG_MAP, "default", labels="app=x", limit=2, continue_token=token
        )
        assert page.resource_version == first.resource_version
        rest += names(page.items)
        token = page.continue_token
    assert rest == ["m2", "m3", "m4"]


@pytest.mark.parametrize(
    "more", [{"labels": "a in ("}, {"fields": "spec.unknown=1"}, {"continue_token": "nonsense"}]
)
async def test_what_cannot_be_listed(client: Client, more: dict[str, str]) -> None:
    await failed(client.list(CONFIG_MAP, "default", **more), 400, "BadRequest")


# Writing


async def test_updates(client: Client) -> None:
    made = await client.create(CONFIG_MAP, config_map("a"))
    newer = await client.update(CONFIG_MAP, changed(made, "2"))
    assert newer["data"] == {"a": "2"}
    assert meta.uid(newer) == meta.uid(made)
    assert int(meta.resource_version(newer)) > int(meta.resource_version(made))
    await failed(client.update(CONFIG_MAP, changed(made, "3")), 409, "Conflict")
    assert await client.get(CONFIG_MAP, "a", "default") == newer
    assert made["data"] == {"a": "1"}


async def test_an_update_that_changes_nothing_makes_no_version(client: Client) -> None:
    made = await client.create(CONFIG_MAP, config_map("a"))
    assert await client.update(CONFIG_MAP, made) == made


async def test_status_is_apart(client: Client) -> None:
    made = await client.create(POD, pod("p"))
    loud = {**made, "status": {**made["status"], "message": "hello"}}
    assert "message" not in (await client.update(POD, loud))["status"]
    done = await client.update(
        POD, {**loud, "metadata": {**made["metadata"], "labels": {"x": "y"}}}, subresource="status"
    )
    assert done["status"]["message"] == "hello"
    assert meta.generation(done) == meta.generation(made)


async def test_patches(client: Client) -> None:
    await client.create(CONFIG_MAP, config_map("a", app="web"))
    merged = await client.patch(CONFIG_MAP, "a", {"data": {"a": None, "b": "2"}}, "default")
    assert merged["data"] == {"b": "2"}
    operations = [{"op": "add", "path": "/data/c", "value": "3"}]
    patched = await client.patch(CONFIG_MAP, "a", operations, "default", type="json")
    assert patched["data"] == {"b": "2", "c": "3"}
    await client.create(POD, pod("p"))
    containers = {"containers": [{"name": "c", "image": "other"}]}
    strategic = await client.patch(POD, "p", {"spec": containers}, "default", type="strategic")
    assert [c["image"] for c in strategic["spec"]["containers"]] == ["other"]
    assert strategic["spec"]["containers"][0]["name"] == "c"


async def test_a_status_can_be_patched(client: Client) -> None:
    await client.create(POD, pod("p"))
    done = await client.patch(
        POD, "p", {"status": {"phase": "Running"}}, "default", subresource="status"
    )
    assert done["status"]["phase"] == "Running"


async def test_apply_creates_changes_and_conflicts(client: Client) -> None:
    async def apply(value: str, manager: str, force: bool = False) -> Object:
        obj = {**config_map("a"), "data": {"a": value}}
        return await client.patch(
            CONFIG_MAP, "a", obj, "default", type="apply", field_manager=manager, force=force
        )

    assert (await apply("1", "one"))["data"] == {"a": "1"}
    assert (await apply("2", "one"))["data"] == {"a": "2"}
    await failed(apply("3", "two"), 409, "Conflict")
    assert (await apply("3", "two", force=True))["data"] == {"a": "3"}


# Deletion


async def test_preconditions_of_a_deletion(client: Client) -> None:
    made = await client.create(CONFIG_MAP, config_map("a"))
    await failed(client.delete(CONFIG_MAP, "a", "default", uid="other"), 409, "Conflict")
    await failed(client.delete(CONFIG_MAP, "a", "default", resource_version="1"), 409, "Conflict")
    await client.delete(
        CONFIG_MAP,
        "a",
        "default",
        uid=meta.uid(made),
        resource_version=meta.resource_version(made),
    )
    await failed(client.get(CONFIG_MAP, "a", "default"), 404, "NotFound")


async def test_finalizers_hold_an_object(client: Client) -> None:
    given = config_map("a")
    given["metadata"]["finalizers"] = ["example.com/hold"]
    await client.create(CONFIG_MAP, given)
    await client.delete(CONFIG_MAP, "a", "default")
    held = await client.get(CONFIG_MAP, "a", "default")
    assert meta.deleting(held)
    await client.patch(CONFIG_MAP, "a", {"metadata": {"finalizers": None}}, "default")
    await failed(client.get(CONFIG_MAP, "a", "default"), 404, "NotFound")


async def test_propagation_is_passed_on(client: Client) -> None:
    labels = {"app": "web"}
    template = {"metadata": {"labels": labels}, "spec": pod("p")["spec"]}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"matchLabels": labels}, "template": template},
    }
    await client.create(DEPLOYMENT, deployment)
    await client.delete(DEPLOYMENT, "web", "default", propagation="Foreground")
    held = await client.get(DEPLOYMENT, "web", "default")
    assert held["metadata"]["finalizers"] == ["foregroundDeletion"]


async def test_a_grace_period_is_passed_on(client: Client) -> None:
    await client.create(NODE, node("n1"))
    await client.create(POD, pod("p"))
    binding = {"metadata": {"name": "p", "namespace": "default"}, "target": {"name": "n1"}}
    await client.create(POD, binding, subresource="binding")
    assert (await client.get(POD, "p", "default"))["spec"]["nodeName"] == "n1"
    await client.delete(POD, "p", "default", grace_period=7)
    held = await client.get(POD, "p", "default")
    assert held["metadata"]["deletionGracePeriodSeconds"] == 7
    await client.delete(POD, "p", "default", grace_period=0)
    await failed(client.get(POD, "p", "default"), 404, "NotFound")


# Watches


async def test_a_watch_tells_every_change_after_its_version(client: Client) -> None:
    early = await client.create(CONFIG_MAP, config_map("early"))
    version = meta.resource_version(early)
    made = await client.create(CONFIG_MAP, config_map("a"))
    async with watching(client, CONFIG_MAP, "default", resource_version=version) as watch:
        assert await events(watch, 1) == [("ADDED", "a")]
        await client.update(CONFIG_MAP, changed(made, "2"))
        await client.delete(CONFIG_MAP, "a", "default")
        assert await events(watch, 2) == [("MODIFIED", "a"), ("DELETED", "a")]


async def test_a_watch_follows_a_list_without_a_gap(client: Client) -> None:
    async def create() -> None:
        for number in range(100):
            await client.create(CONFIG_MAP, config_map(f"m{number:02}"))

    async def follow() -> list[str]:
        await asyncio.sleep(0.05)
        found = await client.list(CONFIG_MAP, "default")
        seen = [name for name in names(found.items) if name.startswith("m")]
        version = found.resource_version
        async with watching(client, CONFIG_MAP, "default", resource_version=version) as watch:
            seen += [name for _, name in await events(watch, 100 - len(seen))]
        return seen

    _, seen = await asyncio.gather(create(), follow())
    assert sorted(seen) == [f"m{number:02}" for number in range(100)]


async def test_the_objects_of_a_watch_are_whole(client: Client) -> None:
    version = (await client.list(CONFIG_MAP)).resource_version
    made = await client.create(CONFIG_MAP, config_map("a"))
    async with watching(client, CONFIG_MAP, resource_version=version) as watch:
        async with asyncio.timeout(PATIENCE):
            event = await anext(watch)
    assert event == WatchEvent("ADDED", made)


async def test_a_watch_keeps_to_its_scope(client: Client) -> None:
    await client.create(NAMESPACE, namespace("other"))
    version = (await client.list(CONFIG_MAP)).resource_version
    scope = {"labels": "app=web", "fields": "metadata.name!=hidden", "resource_version": version}
    async with watching(client, CONFIG_MAP, "default", **scope) as watch:
        for obj in (
            config_map("x", "other", app="web"),
            config_map("x", app="db"),
            config_map("hidden", app="web"),
            config_map("seen", app="web"),
        ):
            await client.create(CONFIG_MAP, obj)
        assert await events(watch, 1) == [("ADDED", "seen")]
        # An object that leaves or enters the selection is deleted or added for this watch.
        await client.patch(CONFIG_MAP, "seen", {"metadata": {"labels": {"app": "db"}}}, "default")
        await client.patch(CONFIG_MAP, "x", {"metadata": {"labels": {"app": "web"}}}, "default")
        assert await events(watch, 2) == [("DELETED", "seen"), ("ADDED", "x")]


@WAYS
async def test_a_version_too_old_is_gone(how: str, tmp_path: Path) -> None:
    async with connected(how, tmp_path) as client:
        await client.create(CONFIG_MAP, config_map("a"))
    # An API that begins anew has no history before its beginning.
    async with (
        connected(how, tmp_path) as client,
        watching(client, CONFIG_MAP, resource_version="1") as watch,
        asyncio.timeout(PATIENCE),
    ):
        with pytest.raises(ApiError) as raised:
            await anext(watch)
    assert (raised.value.code, raised.value.reason) == (410, "Expired")


async def test_a_watch_that_was_closed_is_over(client: Client) -> None:
    async with watching(client, CONFIG_MAP) as watch:
        await client.create(CONFIG_MAP, config_map("a"))
        async with asyncio.timeout(PATIENCE):
            await anext(watch)
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
