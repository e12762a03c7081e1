"""kr8s, sync and async."""

from __future__ import annotations

import asyncio
import json

import kr8s
import pytest
from kr8s.asyncio import api as async_api
from kr8s.asyncio.objects import ConfigMap as AsyncConfigMap
from kr8s.asyncio.objects import Deployment as AsyncDeployment
from kr8s.asyncio.objects import Pod as AsyncPod
from kr8s.objects import ConfigMap, Deployment, Pod

from tests.lab.host import wait_for
from tests.support import manifests

APPLY = {"Content-Type": "application/apply-patch+yaml"}
SCRIPT = "echo hello; trap exit TERM; sleep 9999 & wait"


@pytest.fixture
def api(here, namespace):
    return kr8s.api(kubeconfig=here.kubeconfig, namespace=namespace)


def applied(namespace: str, value: str, manager: str) -> dict:
    """The arguments of `call_api` for one server-side apply."""
    config = manifests.config_map("applied", a=value)
    return {
        "method": "PATCH",
        "version": "v1",
        "url": "configmaps/applied",
        "namespace": namespace,
        "params": {"fieldManager": manager},
        "content": json.dumps(config),
        "headers": APPLY,
    }


def test_sync_create_list_patch_delete(api):
    made = ConfigMap(manifests.config_map("one", a="1"), api=api)
    made.create()
    made.patch({"data": {"b": "2"}})
    made.patch([{"op": "remove", "path": "/data/a"}], type="json")
    made.label(tier="front")
    made.annotate(note="hi")
    (found,) = api.get("configmaps", label_selector={"tier": "front"})
    assert found.raw["data"] == {"b": "2"}
    assert found.annotations.note == "hi"
    made.delete()
    assert not made.exists()


def test_sync_watch(api):
    ConfigMap(manifests.config_map("watched", a="1"), api=api).create()
    for type, seen in api.watch("configmaps", field_selector={"metadata.name": "watched"}):
        if type == "ADDED":
            seen.patch({"data": {"a": "2"}})
        else:
            assert (type, seen.raw["data"]) == ("MODIFIED", {"a": "2"})
            break


def test_sync_pod_wait_logs_exec(api):
    pod = Pod(manifests.pod("runs", SCRIPT), api=api)
    pod.create()
    pod.wait("condition=Ready", timeout=30)
    wait_for(lambda: list(pod.logs()) == ["hello"], 10, "the line")
    assert pod.exec(["echo", "hi"]).stdout == b"hi\n"
    assert pod.exec(["sh", "-c", "exit 3"], check=False).returncode == 3
    pod.delete(grace_period=0)
    pod.wait("delete", timeout=20)


async def test_async_port_forward(here, namespace):
    api = await async_api(kubeconfig=here.kubeconfig, namespace=namespace)
    pod = await AsyncPod(manifests.pod("serves", SCRIPT), api=api)
    await pod.create()
    await pod.wait("condition=Ready", timeout=30)
    await pod.exec(["sh", "-c", "echo inside >/tmp/index.html; httpd -p 8080 -h /tmp"])
    async with pod.portforward(8080) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        assert (await reader.read()).endswith(b"inside\n")
        writer.close()
    await pod.delete(grace_period=0)


def test_sync_scale_and_wait(api):
    web = Deployment(manifests.deployment("web"), api=api)
    web.create()
    web.wait("condition=Available", timeout=30)
    web.scale(2)
    assert web.replicas == 2
    web.delete(propagation_policy="Foreground")


def test_sync_discovery_and_version(api):
    assert api.version()["gitVersion"].startswith("v1.33")
    assert "Deployment" in {resource["kind"] for resource in api.api_resources()}
    assert api.whoami() == "meshkube-admin"


async def test_async_create_list_patch_apply_delete(here, namespace):
    api = await async_api(kubeconfig=here.kubeconfig, namespace=namespace)
    made = await AsyncConfigMap(manifests.config_map("one", a="1"), api=api)
    await made.create()
    await made.patch({"data": {"b": "2"}})
    await made.patch([{"op": "remove", "path": "/data/a"}], type="json")
    assert [item.raw["data"] async for item in api.get("configmaps", "one")] == [{"b": "2"}]
    async with api.call_api(**applied(namespace, "1", "one")) as answer:
        assert answer.status_code == 201
    with pytest.raises(kr8s.ServerError, match="conflict with"):
        async with api.call_api(**applied(namespace, "2", "two")):
            pass
    await made.delete()
    assert not await made.exists()


async def test_async_watch(here, namespace):
    api = await async_api(kubeconfig=here.kubeconfig, namespace=namespace)
    made = await AsyncConfigMap(manifests.config_map("watched", a="1"), api=api)
    await made.create()
    async for type, seen in api.watch("configmaps", field_selector="metadata.name=watched"):
        if type == "ADDED":
            await seen.patch({"data": {"a": "2"}})
        else:
            assert (type, seen.raw["data"]) == ("MODIFIED", {"a": "2"})
            break


async def test_async_pod_wait_logs_exec_scale(here, namespace):
    api = await async_api(kubeconfig=here.kubeconfig, namespace=namespace)
    pod = await AsyncPod(manifests.pod("runs", SCRIPT), api=api)
    await pod.create()
    await pod.wait("condition=Ready", timeout=30)
    assert await anext(pod.logs(follow=True)) == "hello"
    assert (await pod.exec(["echo", "hi"])).stdout == b"hi\n"
    web = await AsyncDeployment(manifests.deployment("web"), api=api)
    await web.create()
    await web.scale(2)
    await web.wait("condition=Available", timeout=30)
