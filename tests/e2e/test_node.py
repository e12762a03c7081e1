"""A node's good and bad days on a whole cluster, as kubectl shows them: private images, limits of
the disk, memory that runs short and is there again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cluster import IMAGE, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.registry import registry

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]
# There is never that much left.
SHORT = "--eviction-hard=memory.available<100%"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster("--eviction-hard=none") as found:
        yield found


def restart(cluster: Cluster, eviction: str) -> None:
    cluster.stop()
    cluster.command = (*cluster.command[:-1], eviction)
    cluster.start()


def apply(cluster: Cluster, *objects: Any) -> None:
    file = cluster.host.directory / "objects.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))
    cluster.kubectl("apply", "-f", str(file))


def pod(name: str, namespace: str = "default", image: str = IMAGE, **spec: Any) -> Any:
    container = {"name": "c", "image": image, "command": ["sleep", "3600"]}
    container["resources"] = spec.pop("resources", {})
    container["imagePullPolicy"] = spec.pop("policy", "IfNotPresent")
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container], **spec},
    }


def described(cluster: Cluster, *what: str) -> str:
    """With single spaces, so that columns do not matter."""
    return re.sub(r"[ \t]+", " ", cluster.kubectl("describe", *what).stdout)


def ready(cluster: Cluster, *names: str, namespace: str = "default") -> None:
    pods = [f"pod/{name}" for name in names]
    cluster.kubectl(
        "wait", "--for=condition=Ready", *pods, "-n", namespace, "--timeout=90s", timeout=100
    )


def status(cluster: Cluster, name: str) -> str:
    """The column STATUS."""
    rows = cluster.kubectl("get", "pods", "--no-headers", "-l", f"app={name}").stdout.split("\n")
    return " ".join(sorted(row.split()[2] for row in rows if row))


def test_an_account_holds_the_key_to_a_private_registry(cluster: Cluster) -> None:
    with registry(cluster.host, {"robot": "sesame"}) as private:
        digest = private.push(IMAGE, "shop/app:1", "robot", "sesame")
        image = f"{private.address}/shop/app:1"
        cluster.kubectl(
            "create", "secret", "docker-registry", "key", f"--docker-server={private.address}",
            "--docker-username=robot", "--docker-password=sesame",
        )  # fmt: skip
        cluster.kubectl("create", "serviceaccount", "robot")
        patch = json.dumps({"imagePullSecrets": [{"name": "key"}]})
        cluster.kubectl("patch", "serviceaccount", "robot", "-p", patch)
        mine = pod("mine", image=image, policy="Always", serviceAccountName="robot")
        apply(cluster, mine, pod("theirs", image=image, policy="Always"))
        ready(cluster, "mine")
        text = described(cluster, "pod", "mine")
        assert f'Successfully pulled image "{image}" in ' in text
        assert f"Image ID: docker-pullable://{private.address}/shop/app@{digest}" in text
        wait_for(
            lambda: status(cluster, "theirs") == "ImagePullBackOff", 60, "who has no key waits"
        )
        text = described(cluster, "pod", "theirs")
        assert "Reason: ImagePullBackOff" in text
        assert f'kubelet Failed to pull image "{image}"' in text
        assert f'kubelet Back-off pulling image "{image}"' in text
    cluster.kubectl("delete", "pod", "mine", "theirs")


def test_storage_is_counted_when_pods_are_placed(cluster: Cluster) -> None:
    asks = {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}}
    apply(cluster, pod("some", resources=asks),
          pod("much", resources={"requests": {"ephemeral-storage": "900Ti"}}))  # fmt: skip
    ready(cluster, "some")
    wait_for(lambda: "Insufficient ephemeral-storage" in described(cluster, "pod", "much"), 60, "")
    text = described(cluster, "node")
    assert re.search(r"\n ephemeral-storage 1Gi \(\d+%\) 2Gi \(\d+%\)\n", text)
    cluster.kubectl("delete", "pod", "some", "much")


def test_a_node_short_of_memory_and_its_recovery(cluster: Cluster) -> None:
    text = described(cluster, "node")
    for line in (
        "Taints: <none>",
        "MemoryPressure False",
        "KubeletHasSufficientMemory kubelet has sufficient memory available",
        "DiskPressure False",
        "PIDPressure False",
        "kubelet Starting kubelet.",
        f"kubelet Node {cluster.host.name} status is now: NodeHasSufficientMemory",
        f"kubelet Node {cluster.host.name} status is now: NodeReady",
    ):
        assert line in text
    cluster.kubectl("create", "deployment", "web", f"--image={IMAGE}", "--", "sleep", "3600")
    asked = {"limits": {"memory": "64Mi", "cpu": "100m"}}
    vital = {"priorityClassName": "system-node-critical"}
    apply(cluster, pod("asked", resources=asked), pod("vital", namespace="kube-system", **vital))
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    ready(cluster, "asked")
    ready(cluster, "vital", namespace="kube-system")

    restart(cluster, SHORT)
    wait_for(lambda: "Evicted" in status(cluster, "web"), 90, "the pod that asked for nothing goes")
    assert status(cluster, "asked") == "Running"
    [gone] = [p for p in cluster.get("pods")["items"] if p["status"].get("reason") == "Evicted"]
    text = described(cluster, "pod", gone["metadata"]["name"])
    assert "Status: Failed\nReason: Evicted\nMessage: The node was low on resource: memory." in text
    assert "DisruptionTarget True" in text
    wait_for(lambda: "Pending" in status(cluster, "web"), 60, "its successor waits")
    untolerated = "untolerated taint {node.kubernetes.io/memory-pressure: }"
    successor = f"{gone['metadata']['labels']['pod-template-hash']}"
    wait_for(
        lambda: untolerated in described(cluster, "pod", "-l", f"pod-template-hash={successor}"),
        60, "it says why",
    )  # fmt: skip
    text = described(cluster, "node")
    assert "Taints: node.kubernetes.io/memory-pressure:NoSchedule" in text
    assert "KubeletHasInsufficientMemory kubelet has insufficient memory available" in text
    assert f"kubelet Node {cluster.host.name} status is now: NodeHasInsufficientMemory" in text
    assert "kubelet Attempting to reclaim memory" in text
    assert "kube-system vital" in text
    assert "Ready, MemoryPressure" in cluster.meshkube("status").stdout

    restart(cluster, "--eviction-hard=none")
    cluster.kubectl("rollout", "status", "deployment/web", "--timeout=90s", timeout=100)
    assert "Taints: <none>" in described(cluster, "node")
