"""Unmodified kubectl against the API server alone: no node, no controllers."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from meshkube.api.kinds import DEPLOYMENT
from tests.support import kubectl as tool
from tests.support.api import Served
from tests.support.kubectl import Kubectl

MANIFEST = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {tier: front}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: web, image: "shop/web:1", ports: [{containerPort: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80}]}
"""


pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(bool(tool.why_not()), reason=tool.why_not()),
]


@pytest.fixture
def kubectl(served: Served, tmp_path: Path) -> Kubectl:
    return Kubectl(served.kubeconfig, tmp_path)


@pytest.fixture
async def web(kubectl: Kubectl) -> Kubectl:
    """With the manifest applied."""
    out = await kubectl("apply", "-f", "-", stdin=MANIFEST)
    assert out == "deployment.apps/web created\nservice/web created\n"
    return kubectl


async def test_apply_knows_what_changed(web: Kubectl) -> None:
    again = await web("apply", "-f", "-", stdin=MANIFEST)
    assert again == "deployment.apps/web unchanged\nservice/web unchanged\n"
    changed = await web("apply", "-f", "-", stdin=MANIFEST.replace("web:1", "web:2"))
    assert changed == "deployment.apps/web configured\nservice/web unchanged\n"


async def test_server_side_apply(web: Kubectl) -> None:
    again = await web("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=MANIFEST)
    assert again == "deployment.apps/web serverside-applied\nservice/web serverside-applied\n"


async def test_diff_shows_only_what_would_change(web: Kubectl) -> None:
    assert await web("diff", "-f", "-", stdin=MANIFEST) == ""
    file = web.home / "changed.yaml"
    file.write_text(MANIFEST.replace("web:1", "web:2"))
    process = await asyncio.create_subprocess_exec(
        tool.path(),
        "diff",
        "-f",
        str(file),
        stdout=asyncio.subprocess.PIPE,
        env=web.environment,
    )
    out, _ = await process.communicate()
    lines = [line for line in out.decode().splitlines() if re.match(r"[-+] ", line)]
    assert process.returncode == 1
    assert [" ".join(line.split()) for line in lines] == [
        "- generation: 1",
        "+ generation: 2",
        "- - image: shop/web:1",
        "+ - image: shop/web:2",
    ]


async def test_forms_of_get(web: Kubectl) -> None:
    assert (await web("get", "deploy")).splitlines()[0].split() == [
        "NAME",
        "READY",
        "UP-TO-DATE",
        "AVAILABLE",
        "AGE",
    ]
    wide = (await web("get", "deploy", "-o", "wide")).splitlines()
    assert wide[0].split()[-3:] == ["CONTAINERS", "IMAGES", "SELECTOR"]
    assert await web("get", "deploy,svc", "-o", "name") == (
        "deployment.apps/web\nservice/kubernetes\nservice/web\n"
    )
    assert await web("get", "deploy", "web", "-o", "jsonpath={.spec.replicas}") == "2"
    assert "replicas: 2" in await web("get", "deploy", "web", "-o", "yaml")
    assert '"replicas": 2' in await web("get", "deploy", "web", "-o", "json")
    assert (await web("get", "ns", "-l", "kubernetes.io/metadata.name=default")).count("\n") == 2
    assert "kube-dns" in await web("get", "svc", "-A", "--field-selector", "metadata.name=kube-dns")
    assert "service/kube-dns" in await web("get", "all", "-A")
    assert "shop/web:1" in await web(
        "get", "deploy", "-o", "custom-columns=I:.spec.template.spec.containers[0].image"
    )
    assert "web" in await web("get", "deploy", "--sort-by=.metadata.name", "--show-labels")
    assert "web" in await web("get", "--raw", "/apis/apps/v1/namespaces/default/deployments")


async def test_a_watch_follows(web: Kubectl) -> None:
    process = await asyncio.create_subprocess_exec(
        tool.path(),
        "get",
        "deploy",
        "-w",
        stdout=asyncio.subprocess.PIPE,
        env=web.environment,
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.readline()
        assert b"0/2" in await process.stdout.readline()
        await web("scale", "deploy", "web", "--replicas=5")
        assert b"0/5" in await process.stdout.readline()
    process.terminate()
    await process.wait()


async def test_changes_of_one_field(web: Kubectl) -> None:
    for arguments in (
        ("scale", "deploy/web", "--replicas=4"),
        ("set", "image", "deploy/web", "web=shop/web:3"),
        ("set", "env", "deploy/web", "A=b"),
        ("label", "deploy/web", "a=b"),
        ("annotate", "deploy/web", "a=b"),
        ("rollout", "restart", "deploy/web"),
        ("rollout", "pause", "deploy/web"),
        ("rollout", "resume", "deploy/web"),
        ("patch", "deploy", "web", "-p", '{"spec":{"minReadySeconds":3}}'),
        ("patch", "deploy", "web", "--type=merge", "-p", '{"spec":{"minReadySeconds":4}}'),
        (
            "patch",
            "deploy",
            "web",
            "--type=json",
            "-p",
            '[{"op":"replace","path":"/spec/minReadySeconds","value":5}]',
        ),
        ("patch", "deploy", "web", "--subresource=scale", "--type=merge", "-p",
         '{"spec":{"replicas":6}}'),
    ):  # fmt: skip
        await web(*arguments)
    shown = await web(
        "get",
        "deploy",
        "web",
        "-o",
        "jsonpath={.spec.replicas} {.spec.minReadySeconds} {.metadata.labels.a} "
        "{.spec.template.spec.containers[0].image} "
        "{.spec.template.spec.containers[0].env[0].value}",
    )
    assert shown == "6 5 b shop/web:3 b"


async def test_edit_and_replace(web: Kubectl) -> None:
    assert await web("edit", "deploy/web", EDITOR="sed -i s/web:1/web:9/") == (
        "deployment.apps/web edited\n"
    )
    assert "web:9" in await web("get", "deploy", "-o", "wide")
    assert "replaced" in await web("replace", "-f", "-", stdin=MANIFEST)
    assert "web:1" in await web("get", "deploy", "-o", "wide")


async def test_create_run_and_expose(kubectl: Kubectl) -> None:
    for arguments in (
        ("create", "configmap", "c", "--from-literal=a=b"),
        ("create", "secret", "generic", "s", "--from-literal=a=b"),
        ("create", "namespace", "shop"),
        ("create", "serviceaccount", "robot"),
        ("create", "deployment", "d", "--image=x", "--replicas=3", "--port=80"),
        ("create", "service", "nodeport", "n", "--tcp=80:8080"),
        ("create", "ingress", "i", "--rule=example.com/x*=d:80"),
        ("run", "p", "--image=x", "--labels=a=b"),
        ("expose", "pod", "p", "--port=80"),
        ("expose", "deploy", "d", "--port=80", "--type=NodePort"),
    ):
        assert re.search(r"(created|exposed)$", (await kubectl(*arguments)).strip())
    assert await kubectl("get", "deploy", "d", "-o", "jsonpath={.spec.replicas}") == "3"
    secret = await kubectl("get", "secret", "s", "-o", "jsonpath={.data.a} {.type}")
    assert secret == "Yg== Opaque"
    assert await kubectl("run", "q", "--image=x", "--dry-run=server", "-o", "name") == "pod/q\n"
    assert "NotFound" in await kubectl("get", "pod", "q", code=1)
    assert "AlreadyExists" in await kubectl("create", "namespace", "shop", code=1)


async def test_delete_and_wait(web: Kubectl, served: Served) -> None:
    assert await web("wait", "--for=jsonpath={.spec.replicas}=2", "deploy/web") == (
        "deployment.apps/web condition met\n"
    )
    waiting = asyncio.create_task(web("wait", "--for=delete", "deploy/web", "--timeout=30s"))
    cache = served.registry.feed.cache(DEPLOYMENT)
    async with asyncio.timeout(30):
        while not cache.watching:
            await asyncio.sleep(0.02)
    await web("delete", "deploy,svc", "web", "--cascade=background")
    assert "condition met" in await waiting
    await web("create", "configmap", "a")
    await web("create", "configmap", "b")
    assert (await web("delete", "cm", "--all")).count("deleted") == 2


async def test_describe_and_events(web: Kubectl) -> None:
    out = await web("describe", "deploy", "web")
    assert "Replicas:               2 desired | 0 updated" in out
    assert "Image:         shop/web:1" in out
    out = await web("describe", "svc", "web")
    assert "NodePort:" in out
    assert "Labels:" in await web("describe", "ns", "default")
    event = """
apiVersion: v1
kind: Event
metadata: {name: e}
involvedObject: {kind: Deployment, name: web, namespace: default}
message: hello there
reason: Said
type: Normal
"""
    await web("create", "-f", "-", stdin=event)
    assert "hello there" in await web("events")
    assert "hello there" in await web("get", "events")


async def test_about_the_server(kubectl: Kubectl) -> None:
    assert "Server Version: v1.33.0+meshkube" in await kubectl("version")
    assert "deployments" in await kubectl("api-resources", "--verbs=list", "-o", "name")
    assert "networking.k8s.io/v1\n" in await kubectl("api-versions")
    assert "Kubernetes control plane" in await kubectl("cluster-info")
    assert "FIELD: image <string>" in await kubectl("explain", "pod.spec.containers.image")
    assert "progressDeadlineSeconds" in await kubectl("explain", "deploy.spec", "--recursive")
    assert await kubectl("auth", "can-i", "delete", "pods") == "yes\n"
    assert "meshkube-admin" in await kubectl("auth", "whoami")


async def test_mistakes_are_told_as_by_any_server(kubectl: Kubectl) -> None:
    wrong = MANIFEST.replace("replicas: 2", "replicas: two")
    assert "cannot unmarshal string into Go struct field" in await kubectl(
        "apply", "-f", "-", stdin=wrong, code=1
    )
    wrong = MANIFEST.replace("replicas", "replicsa")
    assert 'unknown field "spec.replicsa"' in await kubectl("apply", "-f", "-", stdin=wrong, code=1)
    wrong = MANIFEST.replace("matchLabels: {app: web}", "matchLabels: {app: other}")
    out = await kubectl("apply", "-f", "-", stdin=wrong, code=1)
    assert 'The Deployment "web" is invalid: spec.template.metadata.labels' in out
    assert "NotFound" in await kubectl("get", "pod", "none", code=1)
    assert 'namespaces "none" not found' in await kubectl(
        "create", "configmap", "x", "-n", "none", code=1
    )
