"""The real kubectl against the real API: what this room computes, as its users see it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import kubectl as tool
from tests.support.api import Served, serving_api

pytestmark = [
    pytest.mark.kubectl,
    pytest.mark.skipif(bool(tool.why_not()), reason=tool.why_not()),
]

WEB = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "x:1", env: [{name: A, value: "1"}], ports: [{containerPort: 80}]}
"""


class Kubectl:
    def __init__(self, served: Served) -> None:
        self._kubeconfig = served.kubeconfig

    async def run(self, *args: str, stdin: str = "") -> tuple[int, str, str]:
        folder = self._kubeconfig.parent
        process = await asyncio.create_subprocess_exec(
            tool.path(),
            f"--kubeconfig={self._kubeconfig}",
            f"--cache-dir={folder / 'cache'}",
            *args,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def ok(self, *args: str, stdin: str = "") -> str:
        code, out, err = await self.run(*args, stdin=stdin)
        assert code == 0, err
        assert err == ""
        return out

    async def fails(self, *args: str, stdin: str = "") -> str:
        code, _, err = await self.run(*args, stdin=stdin)
        assert code != 0
        return err

    async def web(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.ok("get", "deploy", "web", "-ojson"))
        return found


@pytest.fixture
async def kubectl(tmp_path: Path) -> AsyncIterator[Kubectl]:
    async with serving_api(tmp_path) as served:
        yield Kubectl(served)


async def test_apply_creates_leaves_changes_and_removes(kubectl: Kubectl) -> None:
    apply = ("apply", "-f", "-")
    assert "created" in await kubectl.ok(*apply, stdin=WEB)
    assert "unchanged" in await kubectl.ok(*apply, stdin=WEB)
    await kubectl.ok("scale", "deploy", "web", "--replicas=5")
    bare = WEB.replace(' env: [{name: A, value: "1"}],', "").replace("  replicas: 2\n", "")
    assert "configured" in await kubectl.ok(*apply, stdin=bare.replace("x:1", "x:2"))
    container = (await kubectl.web())["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == "x:2"
    assert "env" not in container
    assert container["imagePullPolicy"] == "IfNotPresent"


async def test_server_side_apply_conflicts_shares_and_gives_up(kubectl: Kubectl) -> None:
    apply = ("apply", "--server-side", "-f", "-")
    await kubectl.ok(*apply, stdin=WEB)
    await kubectl.ok("scale", "deploy", "web", "--replicas=5")
    said = await kubectl.fails(*apply, stdin=WEB)
    assert "Apply failed with 1 conflict: conflict with" in said
    assert ".spec.replicas" in said
    await kubectl.ok(*apply, stdin=WEB.replace("  replicas: 2\n", ""))
    assert (await kubectl.web())["spec"]["replicas"] == 5
    await kubectl.ok(*apply, "--force-conflicts", stdin=WEB)
    assert (await kubectl.web())["spec"]["replicas"] == 2


async def test_from_client_side_to_server_side_apply_without_a_conflict(kubectl: Kubectl) -> None:
    await kubectl.ok("apply", "-f", "-", stdin=WEB)
    await kubectl.ok("apply", "--server-side", "-f", "-", stdin=WEB.replace("x:1", "x:2"))
    containers = (await kubectl.web())["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "x:2"
    await kubectl.ok("apply", "-f", "-", stdin=WEB)
    containers = (await kubectl.web())["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "x:1"


async def test_each_type_of_patch_and_its_errors(kubectl: Kubectl) -> None:
    await kubectl.ok("create", "-f", "-", stdin=WEB)
    patch = ("patch", "deploy", "web")
    sidecar = {"spec": {"template": {"spec": {"containers": [{"name": "d", "image": "y"}]}}}}
    await kubectl.ok(*patch, "-p", json.dumps(sidecar))
    await kubectl.ok(*patch, "--type=merge", "-p", '{"spec": {"replicas": 1, "paused": true}}')
    await kubectl.ok(*patch, "--type=json", "-p", '[{"op": "remove", "path": "/spec/paused"}]')
    spec = (await kubectl.web())["spec"]
    assert [one["name"] for one in spec["template"]["spec"]["containers"]] == ["d", "c"]
    assert spec["replicas"] == 1
    assert not spec.get("paused")
    test = '[{"op": "test", "path": "/spec/replicas", "value": 9}]'
    assert "testing value /spec/replicas failed" in await kubectl.fails(
        *patch, "--type=json", "-p", test
    )
    assert "missing path: /spec/nope" in await kubectl.fails(
        *patch, "--type=json", "-p", '[{"op": "remove", "path": "/spec/nope"}]'
    )


async def test_tables_and_selectors(kubectl: Kubectl) -> None:
    await kubectl.ok("create", "-f", "-", stdin=WEB)
    table = await kubectl.ok("get", "deploy", "-o", "wide", "-l", "app in (web,api),!x")
    assert table.splitlines()[0].split() == [
        "NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE", "CONTAINERS", "IMAGES", "SELECTOR",
    ]  # fmt: skip
    assert table.splitlines()[1].split()[:2] == ["web", "0/2"]
    assert table.splitlines()[1].split()[-3:] == ["c", "x:1", "app=web"]
    assert "in, notin, =, ==, !=, gt, lt" in await kubectl.fails("get", "deploy", "-l", "a b")
    assert "field label not supported: spec.color" in await kubectl.fails(
        "get", "pods", "--field-selector", "spec.color=red"
    )
