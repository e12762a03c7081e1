"""lightkube, sync and async."""

from __future__ import annotations

import pytest
from lightkube import ApiError, AsyncClient, Client, KubeConfig
from lightkube.codecs import from_dict
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment
from lightkube.resources.core_v1 import ConfigMap, Pod
from lightkube.types import CascadeType, PatchType

from tests.support import manifests

SCRIPT = "echo hello; trap exit TERM; sleep 9999 & wait"
PATCHES = {
    PatchType.JSON: [{"op": "add", "path": "/data/b", "value": "2"}],
    PatchType.MERGE: {"data": {"b": "2"}},
    PatchType.STRATEGIC: {"data": {"b": "2"}},
}


def config_map(name: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name), data=data)


@pytest.fixture
def client(here, namespace):
    config = KubeConfig.from_file(here.kubeconfig)
    with Client(config=config, namespace=namespace, field_manager="row") as made:
        yield made


@pytest.fixture
async def async_client(here, namespace):
    config = KubeConfig.from_file(here.kubeconfig)
    async with AsyncClient(config=config, namespace=namespace, field_manager="row") as made:
        yield made


def test_sync_create_list_replace_delete(client):
    client.create(config_map("one", a="1"))
    found = client.get(ConfigMap, "one")
    found.data["a"] = "2"
    client.replace(found)
    with pytest.raises(ApiError) as raised:
        client.replace(found)
    assert raised.value.status.code == 409
    names = [item.metadata.name for item in client.list(ConfigMap, chunk_size=1)]
    assert sorted(names) == ["kube-root-ca.crt", "one"]
    client.delete(ConfigMap, "one")
    with pytest.raises(ApiError):
        client.get(ConfigMap, "one")


@pytest.mark.parametrize("type", PATCHES, ids=lambda type: type.name.lower())
def test_sync_patch(client, type):
    client.create(config_map("one", a="1"))
    done = client.patch(ConfigMap, "one", PATCHES[type], patch_type=type)
    assert done.data == {"a": "1", "b": "2"}


def test_sync_apply_conflicts_and_force(client):
    body = from_dict(manifests.config_map("applied", a="1"))
    assert client.apply(body).data == {"a": "1"}
    body.data["a"] = "2"
    with pytest.raises(ApiError) as raised:
        client.apply(body, field_manager="other")
    assert raised.value.status.details.causes[0].field == ".data.a"
    assert client.apply(body, field_manager="other", force=True).data == {"a": "2"}


def test_sync_watch(client):
    client.create(config_map("watched", a="1"))
    for type, seen in client.watch(ConfigMap, fields={"metadata.name": "watched"}):
        if type == "ADDED":
            client.patch(ConfigMap, "watched", {"data": {"a": "2"}})
        else:
            assert (type, seen.data) == ("MODIFIED", {"a": "2"})
            break


def test_sync_pod_wait_logs_exec(client):
    client.create(from_dict(manifests.pod("runs", SCRIPT)))
    client.wait(Pod, "runs", for_conditions=["Ready"])
    assert list(client.log("runs", newlines=False)) == ["hello"]
    said = client.exec("runs", command=["sh", "-c", "cat; exit 3"], stdin="hi", stdout=True)
    assert (said.stdout, said.exit_code) == ("hi", 3)
    client.delete(Pod, "runs", grace_period=0)


def test_sync_scale_status_and_collections(client):
    client.create(from_dict(manifests.deployment("web")))
    scale = Deployment.Scale(metadata=ObjectMeta(name="web"), spec=ScaleSpec(replicas=2))
    assert client.replace(scale, "web").spec.replicas == 2
    assert client.patch(Deployment.Scale, "web", {"spec": {"replicas": 1}}).spec.replicas == 1
    scale.spec.replicas = 2
    with pytest.raises(ApiError, match="conflict"):
        client.apply(scale, "web", field_manager="scaler")
    assert client.apply(scale, "web", field_manager="scaler", force=True).spec.replicas == 2
    client.wait(Deployment, "web", for_conditions=["Available"])
    client.delete(Deployment, "web", cascade=CascadeType.FOREGROUND)
    client.deletecollection(ConfigMap)


async def test_async_create_list_patch_apply_delete(async_client):
    client = async_client
    await client.create(config_map("one", a="1"))
    for type, patch in PATCHES.items():
        done = await client.patch(ConfigMap, "one", patch, patch_type=type)
        assert done.data["b"] == "2"
    body = from_dict(manifests.config_map("applied", a="1"))
    assert (await client.apply(body)).data == {"a": "1"}
    names = [item.metadata.name async for item in client.list(ConfigMap, chunk_size=1)]
    assert {"one", "applied"} <= set(names)
    await client.delete(ConfigMap, "one")


async def test_async_watch(async_client):
    await async_client.create(config_map("watched", a="1"))
    async for type, seen in async_client.watch(ConfigMap, fields={"metadata.name": "watched"}):
        if type == "ADDED":
            await async_client.patch(ConfigMap, "watched", {"data": {"a": "2"}})
        else:
            assert (type, seen.data) == ("MODIFIED", {"a": "2"})
            break


async def test_async_pod_wait_logs_exec_scale(async_client):
    client = async_client
    await client.create(from_dict(manifests.pod("runs", SCRIPT)))
    await client.wait(Pod, "runs", for_conditions=["Ready"])
    assert [line async for line in client.log("runs", newlines=False)] == ["hello"]
    said = await client.exec("runs", command=["echo", "hi"], stdout=True)
    assert said.stdout == "hi\n"
    await client.create(from_dict(manifests.deployment("web")))
    done = await client.patch(Deployment.Scale, "web", {"spec": {"replicas": 2}})
    assert done.spec.replicas == 2
