"""The FlowSchemas and priority levels that a new cluster has, and apply on `scale`."""

from __future__ import annotations

from meshkube.api import flow_defaults
from tests.support.asking import Asker

FLOWS = "/apis/flowcontrol.apiserver.k8s.io/v1"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"
APPLY = {"Content-Type": "application/apply-patch+yaml"}


async def test_they_are_all_there_and_fit_together(ask: Asker) -> None:
    schemas = (await ask.json("GET", f"{FLOWS}/flowschemas"))["items"]
    levels = (await ask.json("GET", f"{FLOWS}/prioritylevelconfigurations"))["items"]
    names = {level["metadata"]["name"] for level in levels}
    assert names == {"exempt", *flow_defaults.LEVELS}
    assert {one["spec"]["priorityLevelConfiguration"]["name"] for one in schemas} == names
    assert len(schemas) == len(flow_defaults.SCHEMAS)


async def test_an_applied_scale_owns_the_replicas(ask: Asker) -> None:
    container = {"name": "c", "image": "i"}
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [container]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    await ask.make(DEPLOYMENTS, {"metadata": {"name": "web"}, "spec": spec})
    scale = {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"replicas": 4},
    }
    path = f"{DEPLOYMENTS}/web/scale?fieldManager=scaler"
    refused = await ask.json("PATCH", path, 409, body=scale, headers=APPLY)
    assert refused["details"]["causes"][0]["field"] == ".spec.replicas"
    done = await ask.json("PATCH", f"{path}&force=true", body=scale, headers=APPLY)
    assert (done["kind"], done["spec"]["replicas"]) == ("Scale", 4)
    web = await ask.json("GET", f"{DEPLOYMENTS}/web")
    (owner,) = [e for e in web["metadata"]["managedFields"] if e.get("subresource") == "scale"]
    assert (owner["manager"], owner["operation"]) == ("scaler", "Apply")
    assert owner["fieldsV1"] == {"f:spec": {"f:replicas": {}}}
    wrong = {**scale, "kind": "Deployment"}
    await ask.json("PATCH", path, 400, body=wrong, headers=APPLY)
    below = {**scale, "spec": {"replicas": -1}}
    await ask.json("PATCH", path, 422, body=below, headers=APPLY)
