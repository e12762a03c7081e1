"""Quotas, limit ranges, priorities, storage classes and evictions over the whole registry."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from meshkube import csr, pki
from meshkube.api import kinds, meta
from meshkube.api.errors import ApiError
from meshkube.api.types import Object
from meshkube.control.apiserver import strategy
from meshkube.control.apiserver.local import LocalClient
from meshkube.control.auth.users import User
from tests.support.api import running_api


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[LocalClient]:
    async with running_api(tmp_path) as made:
        yield made


def pod(name: str, resources: Object | None = None, **spec: Any) -> Object:
    container = {"name": "c", "image": "i", "resources": resources or {}}
    return {"metadata": {"name": name}, "spec": {"containers": [container], **spec}}


async def quota(client: LocalClient, **hard: str) -> None:
    named = {name.replace("__", "/").replace("_", "."): value for name, value in hard.items()}
    made = {"metadata": {"name": "q"}, "spec": {"hard": named}}
    stored = await client.create(kinds.RESOURCE_QUOTA, made, "default")
    status = {"hard": named, "used": dict.fromkeys(named, "0")}
    await client.update(kinds.RESOURCE_QUOTA, {**stored, "status": status}, subresource="status")


async def used(client: LocalClient) -> Object:
    found = await client.get(kinds.RESOURCE_QUOTA, "q", "default")
    return found["status"]["used"]  # type: ignore[no-any-return]


async def refused(client: LocalClient, kind: kinds.Kind, obj: Object) -> str:
    with pytest.raises(ApiError) as error:
        await client.create(kind, obj, "default")
    assert (error.value.code, error.value.reason) == (403, "Forbidden")
    return str(error.value)


async def test_a_full_quota_refuses_and_says_what_of(client: LocalClient) -> None:
    await quota(client, pods="1", requests_cpu="1")
    await client.create(kinds.POD, pod("a", {"requests": {"cpu": "600m"}}), "default")
    assert await used(client) == {"pods": "1", "requests.cpu": "600m"}
    assert await refused(client, kinds.POD, pod("b", {"requests": {"cpu": "500m"}})) == (
        'pods "b" is forbidden: exceeded quota: q, requested: pods=1,requests.cpu=500m, used:'
        " pods=1,requests.cpu=600m, limited: pods=1,requests.cpu=1"
    )
    assert await refused(client, kinds.POD, pod("c")) == (
        'pods "c" is forbidden: failed quota: q: must specify requests.cpu for: c'
    )


async def test_many_at_once_never_exceed_a_quota(client: LocalClient) -> None:
    await quota(client, configmaps="3", count__configmaps="5")
    made = [{"metadata": {"name": f"c{index}"}} for index in range(12)]
    results = await asyncio.gather(
        *(client.create(kinds.CONFIG_MAP, each, "default") for each in made),
        return_exceptions=True,
    )
    assert sum(isinstance(result, dict) for result in results) == 3
    assert await used(client) == {"configmaps": "3", "count/configmaps": "3"}


async def test_a_quota_nobody_has_counted_refuses(client: LocalClient) -> None:
    made = {"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "1"}}}
    await client.create(kinds.RESOURCE_QUOTA, made, "default")
    assert await refused(client, kinds.SECRET, {"metadata": {"name": "s"}}) == (
        'secrets "s" is forbidden: status unknown for quota: q, resources: secrets'
    )


async def test_a_write_waits_a_moment_for_a_new_quota_to_be_counted(client: LocalClient) -> None:
    made = {"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "1"}}}
    created = await client.create(kinds.RESOURCE_QUOTA, made, "default")
    waiting = asyncio.create_task(
        client.create(kinds.SECRET, {"metadata": {"name": "s"}}, "default")
    )
    await asyncio.sleep(0.05)
    assert not waiting.done()
    counted = {**created, "status": {"hard": {"secrets": "1"}, "used": {"secrets": "0"}}}
    await client.update(kinds.RESOURCE_QUOTA, counted, subresource="status")
    await waiting
    assert await used(client) == {"secrets": "1"}


async def test_a_service_that_becomes_more_is_charged_for_that(client: LocalClient) -> None:
    await quota(client, services_nodeports="1")
    made = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    stored = await client.create(kinds.SERVICE, made, "default")
    assert await used(client) == {"services.nodeports": "0"}
    changed = meta.copy(stored)
    changed["spec"]["type"] = "NodePort"
    await client.update(kinds.SERVICE, changed)
    assert await used(client) == {"services.nodeports": "1"}


async def test_limit_ranges_fill_in_and_bound(client: LocalClient) -> None:
    limits = [
        {
            "type": "Container",
            "default": {"cpu": "500m"},
            "defaultRequest": {"cpu": "250m"},
            "max": {"cpu": "1"},
            "min": {"cpu": "100m"},
        }
    ]
    made = {"metadata": {"name": "l"}, "spec": {"limits": limits}}
    await client.create(kinds.LIMIT_RANGE, made, "default")
    stored = await client.create(kinds.POD, pod("a"), "default")
    assert stored["spec"]["containers"][0]["resources"] == {
        "requests": {"cpu": "250m"},
        "limits": {"cpu": "500m"},
    }
    assert stored["metadata"]["annotations"]["kubernetes.io/limit-ranger"] == (
        "LimitRanger plugin set: cpu request for container c; cpu limit for container c"
    )
    # What is limited and not requested is requested: the default request has no say.
    stored = await client.create(kinds.POD, pod("b", {"limits": {"cpu": "900m"}}), "default")
    assert stored["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "900m"}
    assert await refused(client, kinds.POD, pod("c", {"limits": {"cpu": "2"}})) == (
        'pods "c" is forbidden: maximum cpu usage per Container is 1, but limit is 2'
    )
    assert await refused(client, kinds.POD, pod("d", {"requests": {"cpu": "50m"}})) == (
        'pods "d" is forbidden: minimum cpu usage per Container is 100m, but request is 50m'
    )


async def test_pods_get_the_priority_of_their_class(client: LocalClient) -> None:
    class_ = {"metadata": {"name": "high"}, "value": 1000, "preemptionPolicy": "Never"}
    await client.create(kinds.PRIORITY_CLASS, class_)
    spec = (await client.create(kinds.POD, pod("a", priorityClassName="high"), "default"))["spec"]
    assert (spec["priority"], spec["preemptionPolicy"]) == (1000, "Never")
    critical = pod("b", priorityClassName="system-node-critical")
    assert (await client.create(kinds.POD, critical, "default"))["spec"]["priority"] == 2000001000
    assert await refused(client, kinds.POD, pod("c", priorityClassName="none")) == (
        'pods "c" is forbidden: no PriorityClass with name none was found'
    )
    assert "must not be provided in pod spec" in await refused(
        client, kinds.POD, pod("d", priority=7)
    )
    default = {"metadata": {"name": "usual"}, "value": 5, "globalDefault": True}
    await client.create(kinds.PRIORITY_CLASS, default)
    spec = (await client.create(kinds.POD, pod("e"), "default"))["spec"]
    assert (spec["priorityClassName"], spec["priority"]) == ("usual", 5)
    second = {"metadata": {"name": "usual2"}, "value": 6, "globalDefault": True}
    assert "already marked as default" in await refused(client, kinds.PRIORITY_CLASS, second)


async def test_claims_get_the_default_storage_class(client: LocalClient) -> None:
    note = {"storageclass.kubernetes.io/is-default-class": "true"}
    class_ = {"metadata": {"name": "fast", "annotations": note}, "provisioner": "a/b"}
    await client.create(kinds.STORAGE_CLASS, class_)

    def claim(name: str, **spec: Any) -> Object:
        wanted = {"requests": {"storage": "1Gi"}}
        spec = {"accessModes": ["ReadWriteOnce"], "resources": wanted, **spec}
        return {"metadata": {"name": name}, "spec": spec}

    async def class_of(obj: Object) -> str:
        stored = await client.create(kinds.PERSISTENT_VOLUME_CLAIM, obj, "default")
        return stored["spec"]["storageClassName"]  # type: ignore[no-any-return]

    assert await class_of(claim("a")) == "fast"
    assert await class_of(claim("b", storageClassName="")) == ""
    assert await class_of(claim("c", storageClassName="own")) == "own"


async def test_a_status_is_checked_and_isolated(client: LocalClient) -> None:
    made = {"metadata": {"name": "b"}, "spec": {"minAvailable": 1}, "status": {"expectedPods": 9}}
    stored = await client.create(kinds.POD_DISRUPTION_BUDGET, made, "default")
    assert stored["status"]["expectedPods"] == 0
    assert meta.generation(stored) == 1
    changed = meta.copy(stored)
    changed["spec"]["minAvailable"] = 5
    changed["status"]["currentHealthy"] = 3
    stored = await client.update(kinds.POD_DISRUPTION_BUDGET, changed, subresource="status")
    assert (stored["spec"]["minAvailable"], stored["status"]["currentHealthy"]) == (1, 3)
    assert meta.generation(stored) == 1
    changed = meta.copy(stored)
    changed["status"]["currentHealthy"] = -1
    with pytest.raises(ApiError) as error:
        await client.update(kinds.POD_DISRUPTION_BUDGET, changed, subresource="status")
    assert error.value.code == 422
    changed = meta.copy(stored)
    changed["spec"]["minAvailable"] = 2
    assert meta.generation(await client.update(kinds.POD_DISRUPTION_BUDGET, changed)) == 2


async def test_both_versions_of_an_autoscaler_are_one_object(client: LocalClient) -> None:
    new, old = kinds.HORIZONTAL_POD_AUTOSCALER, kinds.HORIZONTAL_POD_AUTOSCALER_V1
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    spec = {"scaleTargetRef": target, "maxReplicas": 3, "targetCPUUtilizationPercentage": 50}
    watch = client.watch(new, "default")
    made = await client.create(old, {"metadata": {"name": "h"}, "spec": spec}, "default")
    assert made["apiVersion"] == "autoscaling/v1"
    assert made["spec"]["targetCPUUtilizationPercentage"] == 50
    event = await anext(watch)
    await watch.aclose()
    assert event.object["apiVersion"] == "autoscaling/v2"
    assert event.object["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 50
    patch = {"spec": {"maxReplicas": 9, "targetCPUUtilizationPercentage": 60}}
    await client.patch(old, "h", patch, "default")
    stored = await client.get(new, "h", "default")
    assert stored["spec"]["maxReplicas"] == 9
    assert stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    assert [meta.name(each) for each in (await client.list(old, "default")).items] == ["h"]


def request() -> str:
    """As the field `spec.request` has it."""
    return base64.b64encode(csr.new(pki.new_key(), "jane")).decode()


async def test_an_approval_changes_conditions_alone(client: LocalClient) -> None:
    kind = kinds.CERTIFICATE_SIGNING_REQUEST
    spec = {"request": request(), "signerName": "example.com/s", "usages": ["client auth"]}
    stored = await client.create(kind, {"metadata": {"name": "r"}, "spec": spec})
    changed = meta.copy(stored)
    condition = {"type": "Approved", "status": "True", "reason": "Ok"}
    changed["status"] = {"conditions": [condition], "certificate": "bm8="}
    changed["spec"]["signerName"] = "example.com/other"
    stored = await client.update(kind, changed, subresource="approval")
    assert list(stored["status"]) == ["conditions"]
    (decided,) = stored["status"]["conditions"]
    assert decided.items() >= condition.items()
    assert stored["spec"]["signerName"] == "example.com/s"
    changed = meta.copy(stored)
    changed["spec"]["signerName"] = "example.com/other"
    assert (await client.update(kind, changed))["spec"]["signerName"] == "example.com/s"


async def test_a_certificate_request_says_who_made_it(client: LocalClient) -> None:
    spec = {
        "request": request(),
        "signerName": "example.com/s",
        "usages": ["client auth"],
        "username": "admin",
    }
    made = {"metadata": {"name": "r"}, "spec": spec}
    stored = await client.create(kinds.CERTIFICATE_SIGNING_REQUEST, made)
    assert "username" not in stored["spec"], "the server itself asked: nobody else may say who"
    strategy.sign_request(made, User("jane", ("dev",), "u1"))
    assert made["spec"]["username"] == "jane"
    assert made["spec"]["groups"] == ["dev"]


async def test_ephemeral_containers_come_and_stay(client: LocalClient) -> None:
    stored = await client.create(kinds.POD, pod("a"), "default")
    debugger = {"name": "debug", "image": "busybox"}

    async def put(*containers: Object, **more: Any) -> Object:
        current = await client.get(kinds.POD, "a", "default")
        spec = {**current["spec"], "ephemeralContainers": list(containers), **more}
        return await client.update(
            kinds.POD, {**current, "spec": spec}, subresource="ephemeralcontainers"
        )

    stored = await put(debugger, hostNetwork=True)
    assert "hostNetwork" not in stored["spec"]
    assert stored["spec"]["ephemeralContainers"][0]["imagePullPolicy"] == "Always"
    for containers in ([], [{**debugger, "image": "other"}]):
        with pytest.raises(ApiError) as error:
            await put(*containers)
        assert error.value.code == 422
        assert 'existing ephemeral containers "debug" may not be' in str(error.value)
    stored = await put(debugger, {**debugger, "name": "second"})
    assert len(stored["spec"]["ephemeralContainers"]) == 2
