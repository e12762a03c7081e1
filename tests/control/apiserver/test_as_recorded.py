"""What a new object has of the server, as kube-apiserver 1.33 answers the same request."""

from __future__ import annotations

import pytest

from meshkube.api.types import Object
from tests.support.asking import Asker

APPS = "/apis/apps/v1/namespaces/default"
CORE = "/api/v1/namespaces/default"
TEMPLATE = {
    "metadata": {"labels": {"a": "b"}},
    "spec": {"containers": [{"name": "c", "image": "x:1"}]},
}
SELECTED = {"selector": {"matchLabels": {"a": "b"}}, "template": TEMPLATE}


@pytest.mark.parametrize(
    ("path", "spec", "status"),
    [
        (f"{APPS}/statefulsets", SELECTED, {"replicas": 0, "availableReplicas": 0}),
        (f"{APPS}/replicasets", SELECTED, {"replicas": 0}),
        (f"{APPS}/deployments", SELECTED, {}),
        (f"{CORE}/replicationcontrollers", {"template": TEMPLATE}, {"replicas": 0}),
        (f"{CORE}/pods", TEMPLATE["spec"], {"phase": "Pending", "qosClass": "BestEffort"}),
        (
            f"{APPS}/daemonsets",
            SELECTED,
            {
                "currentNumberScheduled": 0,
                "desiredNumberScheduled": 0,
                "numberMisscheduled": 0,
                "numberReady": 0,
            },
        ),
    ],
)
async def test_the_status_has_the_counts_that_are_always_told(
    ask: Asker, path: str, spec: Object, status: Object
) -> None:
    await _account(ask)
    made = await ask.make(path, {"metadata": {"name": "x"}, "spec": spec})
    assert made["status"] == status


async def test_a_pod_is_bound_by_the_older_path_too(ask: Asker) -> None:
    await _account(ask)
    await ask.make(f"{CORE}/pods", {"metadata": {"name": "p"}, "spec": TEMPLATE["spec"]})
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    done = await ask.make(f"{CORE}/bindings", {"metadata": {"name": "p"}, "target": target})
    assert (done["kind"], done["status"]) == ("Status", "Success")
    assert (await ask.json("GET", f"{CORE}/pods/p"))["spec"]["nodeName"] == "n1"
    assert (await ask.json("GET", f"{CORE}/bindings", 405))["reason"] == "MethodNotAllowed"
    await ask.json("POST", f"{CORE}/bindings", 404, body={**done, **_binding("none")})


def _binding(name: str) -> Object:
    target = {"apiVersion": "v1", "kind": "Node", "name": "n1"}
    return {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}


async def test_namespaces_are_not_deleted_all_at_once(ask: Asker) -> None:
    assert (await ask.json("DELETE", "/api/v1/namespaces", 405))["reason"] == "MethodNotAllowed"


async def test_api_services_are_kept(ask: Asker) -> None:
    path = "/apis/apiregistration.k8s.io/v1/apiservices"
    spec = {
        "group": "shop.example",
        "version": "v1",
        "groupPriorityMinimum": 1000,
        "versionPriority": 15,
        "insecureSkipTLSVerify": True,
        "service": {"namespace": "shop", "name": "api"},
    }
    made = await ask.make(path, {"metadata": {"name": "v1.shop.example"}, "spec": spec})
    assert made["spec"]["service"]["port"] == 443
    wrong = {"metadata": {"name": "x"}, "spec": {**spec, "versionPriority": 0}}
    refused = await ask.json("POST", path, 422, body=wrong)
    fields = [cause["field"] for cause in refused["details"]["causes"]]
    assert fields == ["metadata.name", "spec.versionPriority"]


async def test_an_apply_must_say_what_it_applies(ask: Asker) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    path = f"{CORE}/configmaps/x?fieldManager=m"
    refused = await ask.json("PATCH", path, 400, data="{}", headers=headers)
    assert refused["message"] == "invalid object type: /, Kind="


async def _account(ask: Asker) -> None:
    body = {"metadata": {"name": "default"}}
    async with ask("POST", f"{CORE}/serviceaccounts", body=body) as answer:
        assert answer.status in (201, 409)
