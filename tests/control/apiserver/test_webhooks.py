"""Admission webhooks over the whole registry: whom they are asked about, and what follows."""

from __future__ import annotations

import asyncio
import functools
from pathlib import Path
from typing import Any

import pytest

from meshkube.api import kinds
from meshkube.api.errors import ApiError
from meshkube.api.patch import json_patch, merge_patch
from meshkube.api.types import Object
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.apiserver.options import DeleteOptions, WriteOptions
from meshkube.control.apiserver.registry import Registry
from meshkube.control.auth.users import MASTERS, User
from tests.support.custom import crd, version, widget
from tests.support.webhooks import Webhook, patching, running_webhook

ANN = User("ann", (MASTERS,))
VALIDATING = kinds.VALIDATING_WEBHOOK_CONFIGURATION
MUTATING = kinds.MUTATING_WEBHOOK_CONFIGURATION


def rule(resource: str = "configmaps", *operations: str, group: str = "", **more: Any) -> Object:
    return {
        "apiGroups": [group],
        "apiVersions": ["v1"],
        "operations": list(operations or ("CREATE", "UPDATE", "DELETE")),
        "resources": [resource],
        **more,
    }


async def configured(
    registry: Registry,
    kind: kinds.Kind,
    hook: Webhook,
    *rules: Object,
    name: str = "h",
    **more: Any,
) -> None:
    await entries(registry, kind, entry(hook, "a", *rules, **more))


def entry(hook: Webhook, name: str, *rules: Object, path: str = "/", **more: Any) -> Object:
    return {
        "name": f"{name}.example.com",
        "clientConfig": hook.client(path),
        "rules": list(rules or [rule()]),
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **more,
    }


async def entries(registry: Registry, kind: kinds.Kind, *hooks: Object, name: str = "h") -> None:
    made = {"metadata": {"name": name}, "webhooks": list(hooks)}
    await LocalClient(registry).create(kind, made)


async def config(registry: Registry, name: str, dry_run: bool = False, **data: str) -> Object:
    """Creates a ConfigMap as a user."""
    obj = {"metadata": {"name": name}, "data": data}
    options = WriteOptions(user=ANN, dry_run=dry_run)
    made = await registry.create(kinds.CONFIG_MAP, obj, "default", options)
    return made.object


def refusing(request: Object) -> Object:
    """Refuses what says `bad`, and to delete what says `keep`."""
    obj = request["object"] or {}
    if (obj.get("data") or {}).get("bad"):
        status = {"code": 418, "reason": "Teapot", "message": "bad is bad"}
        return {"allowed": False, "status": status}
    if request["operation"] == "DELETE" and request["oldObject"].get("data"):
        return {"allowed": False, "status": {"message": "keep it"}}
    return {"allowed": True, "warnings": ["looked at"]}


async def test_a_validating_webhook_refuses_creation_change_and_deletion(
    registry: Registry, tmp_path: Path
) -> None:
    async with running_webhook(tmp_path, refusing) as hook:
        await configured(registry, VALIDATING, hook)
        await config(registry, "fine", a="1")
        with pytest.raises(ApiError) as caught:
            await config(registry, "teapot", bad="1")
        assert (caught.value.code, caught.value.reason) == (418, "Teapot")
        words = 'admission webhook "a.example.com" denied the request: '
        assert caught.value.message == words + "bad is bad"
        options = WriteOptions(user=ANN)
        change = functools.partial(merge_patch, patch={"data": {"bad": "1"}})
        with pytest.raises(ApiError, match="bad is bad"):
            await registry.patch(kinds.CONFIG_MAP, "fine", "default", change, options)
        with pytest.raises(ApiError, match="keep it") as caught:
            await registry.delete(kinds.CONFIG_MAP, "fine", "default", DeleteOptions(user=ANN))
        assert caught.value.code == 400
        options = WriteOptions(user=ANN)
        change = functools.partial(merge_patch, patch={"data": None})
        await registry.patch(kinds.CONFIG_MAP, "fine", "default", change, options)
        assert options.warnings == ["looked at"]
        await registry.delete(kinds.CONFIG_MAP, "fine", "default", DeleteOptions(user=ANN))
        asked = hook.asked[0]
        assert asked["userInfo"]["username"] == "ann"
        assert asked["resource"] == {"group": "", "version": "v1", "resource": "configmaps"}
        assert (asked["name"], asked["namespace"], asked["dryRun"]) == ("fine", "default", False)
        assert asked["options"]["kind"] == "CreateOptions"
        assert asked["oldObject"] is None


def staged(request: Object) -> Object:
    """Each path adds its own key where what it builds on is there."""
    data = request["object"].get("data") or {}
    wanted, made = {"/one": ("start", "one"), "/two": ("one", "two")}[request["path"]]
    if wanted not in data or made in data:
        return {"allowed": True}
    return patching({"op": "add", "path": f"/data/{made}", "value": "yes"})


@pytest.mark.parametrize(
    ("again", "found"),
    [("Never", {"start", "one"}), ("IfNeeded", {"start", "one", "two"})],
)
async def test_mutating_webhooks_see_what_the_one_before_left(
    registry: Registry, tmp_path: Path, again: str, found: set[str]
) -> None:
    async with running_webhook(tmp_path, staged) as hook:
        two = entry(hook, "two", path="/two", reinvocationPolicy=again)
        await entries(registry, MUTATING, two, entry(hook, "one", path="/one"))
        made = await config(registry, "c", start="1")
        assert set(made["data"]) == found


async def test_what_a_patch_leaves_is_defaulted_pruned_and_judged(
    registry: Registry, tmp_path: Path
) -> None:
    init = {"name": "init", "image": "i", "unheard": "of"}
    answers: list[Object] = [
        patching({"op": "add", "path": "/spec/initContainers", "value": [init]}),
        patching({"op": "replace", "path": "/spec/containers/0/name", "value": "NOT A NAME"}),
        patching({"op": "remove", "path": "/spec/nothing"}),
    ]
    async with running_webhook(tmp_path, lambda _: answers.pop(0)) as hook:
        await configured(registry, MUTATING, hook, rule("pods"))
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}]}}

        async def made() -> Object:
            options = WriteOptions(user=ANN)
            return (await registry.create(kinds.POD, pod, "default", options)).object

        (started,) = (await made())["spec"]["initContainers"]
        assert started["terminationMessagePolicy"] == "File"
        assert "unheard" not in started
        pod["metadata"] = {"name": "q"}
        with pytest.raises(ApiError, match=r"spec.containers\[0\].name: Invalid value") as caught:
            await made()
        assert caught.value.code == 422
        with pytest.raises(ApiError, match="patch of webhook") as caught:
            await made()
        assert caught.value.code == 500


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"timeoutSeconds": 1}, r"/\?timeout=1s\": context deadline exceeded"),
        ({"timeoutSeconds": 1, "failurePolicy": "Ignore"}, ""),
    ],
)
async def test_a_webhook_that_hangs(
    registry: Registry, tmp_path: Path, more: Object, words: str
) -> None:
    async def hang(_: Object) -> Object:
        await asyncio.sleep(30)
        return {"allowed": True}

    async with running_webhook(tmp_path, hang) as hook:
        await configured(registry, VALIDATING, hook, **more)
        if not words:
            await config(registry, "c")
            return
        with pytest.raises(ApiError, match=words) as caught:
            await config(registry, "c")
        assert caught.value.code == 500
        start = 'Internal error occurred: failed calling webhook "a.example.com": failed to call'
        assert caught.value.message.startswith(start)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("no JSON", "the answer is not JSON"),
        ({"allowed": True, "uid": "other"}, "expected response.uid="),
        ({"allowed": True, "patch": "e30=", "patchType": "JSONPatch"}, "may not return"),
    ],
)
async def test_an_answer_that_is_none(
    registry: Registry, tmp_path: Path, answer: Any, words: str
) -> None:
    async with running_webhook(tmp_path, lambda _: answer) as hook:
        await configured(registry, VALIDATING, hook)
        with pytest.raises(ApiError, match=words):
            await config(registry, "c")


async def test_a_certificate_that_the_bundle_does_not_name_fails(
    registry: Registry, tmp_path: Path
) -> None:
    async with running_webhook(tmp_path, refusing) as hook:
        hook.bundle = ""
        await configured(registry, VALIDATING, hook)
        with pytest.raises(ApiError, match="certificate"):
            await config(registry, "c")
        assert hook.asked == []


async def test_only_what_matches_is_asked_about(registry: Registry, tmp_path: Path) -> None:
    async with running_webhook(tmp_path, lambda _: {"allowed": False}) as hook:
        label = {"matchLabels": {"look": "yes"}}
        name = {"name": "not-me", "expression": "object.metadata.name != 'me'"}
        for index, more in enumerate(
            (
                {"objectSelector": label},
                {"namespaceSelector": label},
                {"rules": [rule("configmaps", "CONNECT")]},
                {"rules": [rule("configmaps", scope="Cluster")]},
                {"rules": [rule("configmaps/status")]},
                {"matchConditions": [name, {"name": "b", "expression": "false"}]},
            )
        ):
            await entries(registry, VALIDATING, {**entry(hook, "a"), **more}, name=f"h{index}")
        await config(registry, "c")
        assert hook.asked == []
        await entries(
            registry, VALIDATING, {**entry(hook, "a"), "matchConditions": [name]}, name="last"
        )
        await config(registry, "me")
        with pytest.raises(ApiError, match="denied the request without explanation"):
            await config(registry, "other")


async def test_a_dry_run_asks_only_webhooks_without_side_effects(
    registry: Registry, tmp_path: Path
) -> None:
    async with running_webhook(tmp_path, refusing) as hook:
        await configured(registry, VALIDATING, hook, sideEffects="NoneOnDryRun")
        await config(registry, "c", dry_run=True)
        assert hook.asked[0]["dryRun"] is True


async def test_configurations_themselves_and_the_server_are_never_refused(
    registry: Registry, tmp_path: Path
) -> None:
    async with running_webhook(tmp_path, lambda _: {"allowed": False}) as hook:
        every = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"]}
        await configured(registry, VALIDATING, hook, {**every, "resources": ["*/*"]})
        await LocalClient(registry).create(kinds.CONFIG_MAP, {"metadata": {"name": "c"}}, "default")
        await registry.delete(VALIDATING, "h", "", DeleteOptions(user=ANN))
        await config(registry, "d")


async def test_one_version_of_a_custom_kind_matches_the_others(
    registry: Registry, tmp_path: Path
) -> None:
    def touched(request: Object) -> Object:
        if request["object"]["apiVersion"] != "example.com/v1":
            return {"allowed": False}
        return patching({"op": "add", "path": "/metadata/labels", "value": {"seen": "yes"}})

    client = LocalClient(registry)
    made = crd(version(), version("v2", storage=False))
    await client.create(kinds.CUSTOM_RESOURCE_DEFINITION, made)
    two = registry.catalog.by_kind("example.com/v2", "Widget")
    assert two is not None
    async with running_webhook(tmp_path, touched) as hook:
        await configured(registry, MUTATING, hook, rule("widgets", group="example.com"))
        obj = {**widget("w"), "apiVersion": "example.com/v2"}
        done = await registry.create(two, obj, "default", WriteOptions(user=ANN))
        assert done.object["metadata"]["labels"] == {"seen": "yes"}
        asked = hook.asked[0]
        assert (asked["kind"]["version"], asked["requestKind"]["version"]) == ("v1", "v2")


async def test_a_scale_and_a_binding_are_seen_as_what_they_are(
    registry: Registry, tmp_path: Path
) -> None:
    def at_most_two(request: Object) -> Object:
        if request["kind"]["kind"] == "Binding":
            return {"allowed": request["object"]["target"]["name"] != "n"}
        if request["object"]["spec"]["replicas"] <= 2:
            return {"allowed": True}
        return patching({"op": "replace", "path": "/spec/replicas", "value": 2})

    container = {"name": "c", "image": "i"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    client = LocalClient(registry)
    await client.create(kinds.DEPLOYMENT, {"metadata": {"name": "d"}, "spec": spec}, "default")
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [container]}}
    await client.create(kinds.POD, pod, "default")
    async with running_webhook(tmp_path, at_most_two) as hook:
        below = rule("deployments/scale", group="apps"), rule("pods/binding")
        await configured(registry, MUTATING, hook, *below)
        change = functools.partial(
            json_patch, ops=[{"op": "replace", "path": "/spec/replicas", "value": 5}]
        )
        options = WriteOptions(user=ANN)
        shown = await registry.patch(kinds.DEPLOYMENT, "d", "default", change, options, "scale")
        assert shown.object["spec"] == {"replicas": 2}
        assert hook.asked[0]["kind"] == {"group": "autoscaling", "version": "v1", "kind": "Scale"}
        binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
        with pytest.raises(ApiError, match="denied the request"):
            await registry.bind(binding, "default", "p", WriteOptions(user=ANN))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "short"}, "at least three segments"),
        ({"sideEffects": "Some"}, "sideEffects: Unsupported value"),
        ({"timeoutSeconds": 31}, "must be between 1 and 30 seconds"),
        ({"admissionReviewVersions": ["v9"]}, "must include at least one of v1, v1beta1"),
        ({"clientConfig": {}}, "exactly one of url or service is required"),
        ({"clientConfig": {"url": "http://x/y?z"}}, "'https' is the only allowed URL scheme"),
        ({"rules": [rule("*", scope="World")]}, "scope: Unsupported value"),
        ({"rules": [{**rule(), "resources": ["a/*", "a/b"]}]}, "must not specify a/b"),
        ({"matchConditions": [{"name": "a", "expression": "... []"}]}, "compilation failed"),
    ],
)
async def test_a_configuration_that_makes_no_sense_is_refused(
    registry: Registry, change: Object, words: str
) -> None:
    hook = Webhook("https://localhost:1", "")
    with pytest.raises(ApiError, match=words) as caught:
        await entries(registry, VALIDATING, {**entry(hook, "a"), **change})
    assert caught.value.code == 422
