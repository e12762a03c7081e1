"""Kinds of our own on a whole cluster: unmodified kubectl, the official Python client, kopf."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import Cluster, running_cluster
from tests.lab.host import wait_for
from tests.support.custom import crd, version, widget

pytestmark = [
    pytest.mark.root,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]

OPERATOR = Path(__file__).parent / "operators/greeter.py"
KOPF = str(Path(sys.executable).parent / "kopf")
GREETING = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "spec": {
            "type": "object",
            "required": ["who"],
            "properties": {"who": {"type": "string", "minLength": 1}},
            "x-kubernetes-validations": [
                {"rule": "self.who != 'nobody'", "message": "greet somebody"}
            ],
        },
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    """No containers are needed for any of this."""
    with running_cluster(docker=False) as running:
        apply(running, crd())
        greeting = version(schema=GREETING, subresources={"status": {}})
        apply(running, crd(greeting, plural="greetings", kind="Greeting"))
        running.kubectl("wait", "--for=condition=Established", "crd", "--all")
        yield running


def apply(cluster: Cluster, content: Any, check: bool = True) -> subprocess.CompletedProcess[str]:
    file = cluster.host.directory / "manifest.json"
    file.write_text(json.dumps(content))
    return cluster.kubectl("apply", "-f", str(file), check=check)


def shown(cluster: Cluster, *arguments: str) -> Any:
    return json.loads(cluster.kubectl("get", *arguments, "-o", "json").stdout)


def greeting(name: str, who: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "default"}
    return {
        "apiVersion": "example.com/v1",
        "kind": "Greeting",
        "metadata": metadata,
        "spec": {"who": who},
    }


@contextlib.contextmanager
def operator(cluster: Cluster) -> Iterator[None]:
    """kopf with our operator on the cluster's host."""
    home = cluster.host.directory
    command = ("env", f"KUBECONFIG={cluster.kubeconfig}", f"HOME={home}", KOPF, "run", "-A")
    process = cluster.host.start(*command, str(OPERATOR), log="kopf.log")
    try:
        yield
    finally:
        cluster.host.stop(process)


def test_an_operator_creates_handles_and_finalizes(cluster: Cluster) -> None:
    apply(cluster, greeting("early", "ann"))
    with operator(cluster):
        apply(cluster, greeting("late", "bob"))

        def status(name: str) -> dict[str, Any]:
            found: dict[str, Any] = shown(cluster, "greeting", name).get("status") or {}
            return found

        for name in ("early", "late"):
            wait_for(lambda name=name: "create" in status(name), 40, f"the handler of {name}")
        made = shown(cluster, "configmap", "late-text")
        assert made["data"] == {"text": "hello bob"}
        assert made["metadata"]["ownerReferences"][0]["kind"] == "Greeting"
        assert shown(cluster, "greeting", "late")["metadata"]["finalizers"]
        apply(cluster, greeting("late", "cid"))
        wait_for(lambda: status("late").get("greeted") == "cid", 30, "the update")
        wait_for(lambda: (status("late").get("ticks") or 0) >= 2, 30, "the timer")
        assert shown(cluster, "configmap", "late-daemon")["data"] == {"is": "running"}
        assert shown(cluster, "configmap", "late-text")["data"] == {"text": "hello cid"}
        cluster.kubectl("delete", "greeting", "late", "--timeout=40s")
        assert shown(cluster, "configmap", "late-farewell")["data"] == {"text": "bye"}
        assert shown(cluster, "configmap", "late-daemon")["data"] == {"is": "stopped"}
    gone = cluster.kubectl("get", "configmap", "late-text", check=False)
    wait_for(
        lambda: cluster.kubectl("get", "configmap", "late-text", check=False).returncode != 0,
        20,
        f"the garbage collector: {gone.stdout}",
    )


def test_a_rule_of_our_own_is_told_by_kubectl(cluster: Cluster) -> None:
    refused = apply(cluster, greeting("odd", "nobody"), check=False)
    assert refused.returncode == 1
    assert 'spec: Invalid value: "object": greet somebody' in refused.stderr


def test_the_official_client_handles_custom_objects(cluster: Cluster) -> None:
    script = Path(__file__).parent / "operators/custom_objects.py"
    done = cluster.host.run(
        "env", f"KUBECONFIG={cluster.kubeconfig}", sys.executable, "-W", "ignore", str(script)
    )
    assert done.stdout == "done\n"


def test_everything_is_there_after_a_restart(cluster: Cluster) -> None:
    apply(cluster, widget("kept", color="green"))
    cluster.stop()
    cluster.start()
    assert shown(cluster, "widget", "kept")["spec"]["color"] == "green"
    out = cluster.kubectl("get", "widgets.v1.example.com", "-o", "name").stdout
    assert "widget.example.com/kept" in out
    assert "widgets" in cluster.kubectl("api-resources", "--api-group=example.com").stdout


def test_rights_are_those_of_roles(cluster: Cluster) -> None:
    make = ("create", "role", "viewer", "--verb=get,list", "--resource=widgets.example.com")
    cluster.kubectl(*make)
    cluster.kubectl("create", "rolebinding", "viewer", "--role=viewer", "--user=ann")
    may = cluster.kubectl("auth", "can-i", "list", "widgets.example.com", "--as=ann").stdout
    assert may == "yes\n"
    cluster.kubectl("get", "widgets", "--as=ann")
    refused = cluster.kubectl("delete", "widgets", "--all", "--as=ann", check=False)
    assert "is forbidden" in refused.stderr


def test_a_namespace_and_a_definition_go_with_all_they_hold(cluster: Cluster) -> None:
    cluster.kubectl("create", "namespace", "toys")
    apply(cluster, widget("w", "toys"))
    cluster.kubectl("delete", "namespace", "toys", "--timeout=40s")
    cluster.kubectl("delete", "crd", "widgets.example.com", "--timeout=40s")
    gone = cluster.kubectl("get", "widgets.v1.example.com", check=False)
    assert gone.returncode == 1
