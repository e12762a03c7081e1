"""What pods use, and what becomes of it, with real Docker and unmodified kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.lab.cluster import ROOT, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.shown import described, row, shown
from tests.support.custom import crd, widget

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("kubectl"),
]
EXAMPLE = str(ROOT / "examples/workloads/hpa.yaml")
QUICK = ("--hpa-sync-period=2", "--metrics-resolution=2", "--hpa-cpu-initialization-period=2")


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    with running_cluster(*QUICK) as running:
        shown(running, "apply", "-f", EXAMPLE)
        shown(running, "rollout", "status", "deploy/cruncher")
        yield running


def rows(cluster: Cluster, *arguments: str) -> list[list[str]]:
    return [line.split() for line in shown(cluster, *arguments).splitlines() if line.strip()]


def pod_of(cluster: Cluster) -> str:
    return shown(cluster, "get", "pods", "-l", "app=cruncher", "-o", "name").split()[0][4:]


def test_top_shows_nodes_and_pods(cluster: Cluster) -> None:
    node, pod = cluster.host.name, pod_of(cluster)
    [[name, cpu, _, memory, percent]] = rows(cluster, "top", "nodes", "--no-headers")
    assert name == node
    assert int(cpu.removesuffix("m")) > 0
    assert int(memory.removesuffix("Mi")) > 100
    assert 0 < int(percent.removesuffix("%")) <= 100
    # A container has a rate once it ran for ten seconds.
    wait_for(lambda: pod in cluster.kubectl("top", "pods", check=False).stdout, 30, "metrics")
    head, first = rows(cluster, "top", "pods", "-A")
    assert head == ["NAMESPACE", "NAME", "CPU(cores)", "MEMORY(bytes)"]
    assert first[:2] == ["default", pod]
    assert rows(cluster, "top", "pods", "--containers", "--no-headers")[0][:2] == [pod, "main"]
    summed = rows(cluster, "top", "pods", "-l", "app=cruncher", "--sum", "--sort-by=cpu")
    assert summed[-1] == summed[1][1:]
    assert cluster.kubectl("top", "pods", "-l", "app=none").stderr.startswith("No resources found")
    assert "not found" in cluster.kubectl("top", "pod", "none", check=False).stderr
    assert list(row(cluster, "podmetrics", pod)) == ["NAME", "CPU", "MEMORY", "WINDOW"]


def test_a_nodes_statistics_are_reached_through_the_api(cluster: Cluster) -> None:
    base = f"/api/v1/nodes/{cluster.host.name}/proxy"
    summary = json.loads(shown(cluster, "get", "--raw", f"{base}/stats/summary"))
    [pod] = summary["pods"]
    assert pod["podRef"]["name"] == pod_of(cluster)
    assert {"cpu", "memory", "network", "ephemeral-storage", "process_stats"} <= pod.keys()
    found = shown(cluster, "get", "--raw", f"{base}/metrics/cadvisor")
    for name in (
        'container_cpu_usage_seconds_total{container="main",namespace="default"',
        'container_network_receive_bytes_total{container="POD",namespace="default"',
        "container_cpu_cfs_throttled_periods_total{",
        "container_fs_usage_bytes{",
        "machine_memory_bytes ",
    ):
        assert name in found, name


def test_load_brings_pods_and_quiet_takes_them_away(cluster: Cluster) -> None:
    wait_for(lambda: "unknown" not in row(cluster, "hpa")["TARGETS"], 30, "metrics")
    pod = pod_of(cluster)
    shown(cluster, "exec", pod, "--", "touch", "/tmp/load")
    wait_for(lambda: row(cluster, "hpa")["REPLICAS"] == "3", 60, "the greatest number of pods")
    wait_for(lambda: "TooManyReplicas" in described(cluster, "hpa", "cruncher"), 30, "the limit")
    text = described(cluster, "hpa", "cruncher")
    for line in (
        "Reference: Deployment/cruncher",
        "Min replicas: 1",
        "Max replicas: 3",
        "Deployment pods: 3 current / 3 desired",
        "AbleToScale True ReadyForNewScale recommended size matches current size",
        "ScalingActive True ValidMetricFound the HPA was able to successfully calculate a replica"
        " count from cpu resource utilization (percentage of request)",
        "ScalingLimited True TooManyReplicas the desired replica count is more than the maximum"
        " replica count",
        "horizontal-pod-autoscaler New size: 3; reason: cpu resource utilization (percentage of"
        " request) above target",
    ):
        assert line in text, text
    assert "resource cpu on pods (as a percentage of request):" in text
    assert 'resource memory of container "main" on pods:' in text
    old = shown(cluster, "get", "horizontalpodautoscalers.v1.autoscaling", "cruncher", "-o", "json")
    status = json.loads(old)["status"]
    assert status["currentReplicas"] == 3
    assert status["currentCPUUtilizationPercentage"] > 0
    shown(cluster, "exec", pod, "--", "rm", "/tmp/load")
    wait_for(lambda: row(cluster, "hpa")["REPLICAS"] == "1", 60, "the least number of pods")
    assert "New size: 1; reason: All metrics below target" in described(cluster, "hpa", "cruncher")


def test_autoscale_says_what_is_missing(cluster: Cluster) -> None:
    shown(cluster, "create", "deployment", "bare", "--image=meshkube/quickstart:1")
    shown(cluster, "rollout", "status", "deploy/bare")
    shown(cluster, "autoscale", "deploy", "bare", "--min=1", "--max=2", "--cpu-percent=50")
    wanted = "missing request for cpu in container quickstart of Pod bare-"
    wait_for(lambda: wanted in described(cluster, "hpa", "bare"), 30, "the reason")
    text = described(cluster, "hpa", "bare")
    assert "ScalingActive False FailedGetResourceMetric the HPA was unable to compute" in text
    assert "FailedComputeMetricsReplicas" in text
    assert row(cluster, "hpa", "bare")["TARGETS"] == "cpu: <unknown>/50%"


def test_whatever_has_a_scale_can_be_scaled(cluster: Cluster) -> None:
    def apply(name: str, obj: object) -> None:
        file = cluster.host.directory / f"{name}.json"
        file.write_text(json.dumps(obj))
        shown(cluster, "apply", "-f", str(file))

    apply("crd", crd())
    shown(cluster, "wait", "--for=condition=Established", "crd/widgets.example.com")
    apply("widget", widget("w", replicas=1))
    reference = {"apiVersion": "example.com/v1", "kind": "Widget", "name": "w"}
    spec = {"scaleTargetRef": reference, "minReplicas": 4, "maxReplicas": 5}
    head = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"}
    apply("scaler", {**head, "metadata": {"name": "w"}, "spec": spec})
    path = "jsonpath={.spec.replicas}"
    wait_for(lambda: shown(cluster, "get", "widget", "w", "-o", path) == "4", 20, "four")
    said = "New size: 4; reason: Current number of replicas below Spec.MinReplicas"
    wait_for(lambda: said in described(cluster, "hpa", "w"), 20, "the Event")
    wait_for(lambda: "InvalidSelector" in described(cluster, "hpa", "w"), 20, "no selector")
