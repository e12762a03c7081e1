"""Pods of examples/workloads, good days and bad ones, with real Docker, by unmodified kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cluster import ROOT, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.shown import described, shown

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]
EXAMPLES = ROOT / "examples/workloads"


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def apply(cluster: Cluster, name: str) -> None:
    done = cluster.kubectl("apply", "-f", str(EXAMPLES / f"{name}.yaml"))
    assert done.stderr == ""


def pod(cluster: Cluster, name: str) -> Any:
    return cluster.get("pod", name)


def resize(cluster: Cluster, name: str, **resources: Any) -> Any:
    patch = {"spec": {"containers": [{"name": "app", "resources": resources}]}}
    return cluster.kubectl(
        "patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch), check=False
    )


def conditions(found: Any) -> dict[str, Any]:
    return {each["type"]: each for each in found["status"]["conditions"]}


def limits(cluster: Cluster, found: Any) -> list[int]:
    """Shares, quota and memory, as Docker has them."""
    id = found["status"]["containerStatuses"][0]["containerID"].removeprefix("docker://")
    (inspected,) = json.loads(cluster.host.docker("inspect", id).stdout)
    return [inspected["HostConfig"][key] for key in ("CpuShares", "CpuQuota", "Memory")]


def test_a_pod_is_resized_in_place(cluster: Cluster) -> None:
    apply(cluster, "resize")
    shown(cluster, "wait", "--for=condition=Ready", "pod/elastic", "--timeout=60s")
    before = pod(cluster, "elastic")
    assert limits(cluster, before) == [102, 20_000, 64 << 20]
    assert resize(cluster, "elastic", requests={"cpu": "200m"}, limits={"cpu": "400m"}).stderr == ""
    cpu = {
        "requests": {"cpu": "200m", "memory": "32Mi"},
        "limits": {"cpu": "400m", "memory": "64Mi"},
    }

    def resources() -> Any:
        return pod(cluster, "elastic")["status"]["containerStatuses"][0]["resources"]

    wait_for(lambda: resources() == cpu, 20, "the new limits")
    now = pod(cluster, "elastic")
    assert limits(cluster, now) == [204, 40_000, 64 << 20]
    (status,), (was,) = (p["status"]["containerStatuses"] for p in (now, before))
    assert (status["restartCount"], status["containerID"]) == (0, was["containerID"])
    assert status["allocatedResources"] == cpu["requests"]
    assert not {"PodResizePending", "PodResizeInProgress"} & conditions(now).keys()
    assert now["metadata"]["generation"] == before["metadata"]["generation"] + 1


def test_memory_is_resized_with_a_new_container(cluster: Cluster) -> None:
    assert resize(cluster, "elastic", limits={"memory": "48Mi"}).stderr == ""

    def restarted() -> bool:
        (status,) = pod(cluster, "elastic")["status"]["containerStatuses"]
        return bool(status["restartCount"] == 1 and status["ready"])

    wait_for(restarted, 30, "a new container")
    assert limits(cluster, pod(cluster, "elastic"))[2] == 48 << 20
    assert "Container app resize requires restart" in described(cluster, "pod", "elastic")


def test_a_resize_that_cannot_be_is_told_and_changes_nothing(cluster: Cluster) -> None:
    before = limits(cluster, pod(cluster, "elastic"))
    assert resize(cluster, "elastic", requests={"cpu": "1000"}, limits={"cpu": "1000"}).stderr == ""
    wait_for(lambda: "PodResizePending" in conditions(pod(cluster, "elastic")), 20, "an answer")
    pending = conditions(pod(cluster, "elastic"))["PodResizePending"]
    assert (pending["status"], pending["reason"]) == ("True", "Infeasible")
    text = "Node didn't have enough capacity: cpu, requested: 1000000, capacity: "
    assert pending["message"].startswith(text)
    assert limits(cluster, pod(cluster, "elastic")) == before
    (status,) = pod(cluster, "elastic")["status"]["containerStatuses"]
    assert status["resources"]["requests"]["cpu"] == "200m"
    assert resize(cluster, "elastic", requests={"cpu": "300m"}, limits={"cpu": "400m"}).stderr == ""
    wait_for(lambda: "PodResizePending" not in conditions(pod(cluster, "elastic")), 20, "peace")
    refused = resize(cluster, "elastic", requests={"cpu": "400m", "memory": "48Mi"})
    assert "Pod QOS Class may not change as a result of resizing" in refused.stderr
    shown(cluster, "delete", "pod", "elastic")
