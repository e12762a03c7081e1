"""Pods of examples/workloads, good days and bad ones, with real Docker, by unmodified kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import IMAGE, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.shown import WORKLOADS, described, listed, names, row, shown
from tests.lab.shown import apply_workload as apply

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def pod(cluster: Cluster, name: str) -> Any:
    return cluster.get("pod", name)


def resize(cluster: Cluster, name: str, **resources: Any) -> Any:
    patch = {"spec": {"containers": [{"name": "app", "resources": resources}]}}
    return cluster.kubectl(
        "patch", "pod", name, "--subresource=resize", "-p", json.dumps(patch), check=False
    )


def given(cluster: Cluster, obj: Any) -> None:
    file = cluster.host.directory / "given.json"
    file.write_text(json.dumps(obj))
    shown(cluster, "apply", "-f", str(file))


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


def asking(name: str, milli: int, **spec: Any) -> Any:
    """A pod that asks for thousandths of a core, and ends as soon as it is told."""
    container = {
        "name": "app",
        "image": IMAGE,
        "command": ["sleep", "3600"],
        "resources": {"requests": {"cpu": f"{milli}m"}},
    }
    spec |= {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_resize_waits_for_room_that_a_preemption_makes(cluster: Cluster) -> None:
    cores = int(cluster.get("node", cluster.host.name)["status"]["allocatable"]["cpu"])
    given(cluster, asking("hog", cores * 1000 - 500))
    shown(cluster, "wait", "--for=condition=Ready", "pod/hog", "--timeout=60s")
    before = limits(cluster, pod(cluster, "elastic"))

    assert resize(cluster, "elastic", requests={"cpu": "900m"}, limits={"cpu": "900m"}).stderr == ""
    wait_for(lambda: "PodResizePending" in conditions(pod(cluster, "elastic")), 20, "an answer")
    pending = conditions(pod(cluster, "elastic"))["PodResizePending"]
    assert pending["reason"] == "Deferred"
    assert pending["message"].startswith("Node didn't have enough resource: cpu, requested: 900,")
    assert limits(cluster, pod(cluster, "elastic")) == before

    kind = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass"}
    given(cluster, {**kind, "metadata": {"name": "vital"}, "value": 1000})
    given(cluster, asking("vip", 600, priorityClassName="vital"))
    shown(cluster, "wait", "--for=condition=Ready", "pod/vip", "--timeout=60s")
    assert cluster.kubectl("get", "pod", "hog", check=False).returncode != 0
    events = shown(cluster, "get", "events", "--field-selector=reason=Preempted")
    assert f"Preempted by pod {pod(cluster, 'vip')['metadata']['uid']} on node" in events

    wait_for(lambda: limits(cluster, pod(cluster, "elastic")) != before, 30, "more for elastic")
    assert limits(cluster, pod(cluster, "elastic"))[:2] == [921, 90_000]
    shown(cluster, "delete", "pod/vip", "priorityclass/vital")
    assert resize(cluster, "elastic", requests={"cpu": "200m"}, limits={"cpu": "400m"}).stderr == ""
    wait_for(lambda: limits(cluster, pod(cluster, "elastic")) == before, 30, "elastic as before")


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


def test_a_pod_with_all_that_one_container_may_have(cluster: Cluster) -> None:
    for name in ("pod", "security", "sidecar", "logs", "deployment", "replicaset"):
        apply(cluster, name)
    shown(cluster, "wait", "--for=condition=Ready", "pod/alone", "--timeout=60s")
    address = pod(cluster, "alone")["status"]["podIP"]
    said = cluster.host.run("curl", "-sS", f"http://{address}:8080/").stdout
    assert said == f"alone on {cluster.host.name} with 100\n"
    text = described(cluster, "pod", "alone")
    for line in (
        "QoS Class: Burstable",
        "Liveness: tcp-socket :http delay=0s timeout=1s period=5s #success=1 #failure=3",
        "Readiness: http-get http://:http/ delay=0s timeout=1s period=1s #success=1 #failure=3",
        "Startup: exec [test -e /tmp/started] delay=0s timeout=1s period=1s #success=1 #failure=3",
        "cpu: 100m",
        "POD: alone (v1:metadata.name)",
        "CPU: 100 (limits.cpu)",
    ):
        assert line in text
    shown(cluster, "delete", "pod", "alone")


def test_a_modest_process_has_what_it_was_given(cluster: Cluster) -> None:
    shown(cluster, "wait", "--for=condition=Ready", "pod/modest", "--timeout=60s")
    expected = (
        "1000\n3000\n3000 2000 4000\nCapEff: 0000000000000000\nNoNewPrivs: 1\nSeccomp: 2\n"
        "root is read-only\n2000\n80\n"
    )

    def said() -> str:
        text = shown(cluster, "logs", "modest")
        lines = text.splitlines()
        if len(lines) > 2:
            # The order of groups is the runtime's own.
            lines[2] = " ".join(sorted(lines[2].split(), key="3000 2000 4000".index))
        return "\n".join(lines) + "\n"

    wait_for(lambda: said() == expected, 20, expected)
    shown(cluster, "delete", "pod", "modest")


def test_a_sidecar_is_there_before_and_after(cluster: Cluster) -> None:
    shown(cluster, "wait", "--for=condition=Complete", "job/with-sidecar", "--timeout=60s")
    (found,) = listed(cluster, "pods", "job-name=with-sidecar")
    states = {
        each["name"]: each["state"]["terminated"]
        for field in ("initContainerStatuses", "containerStatuses")
        for each in found["status"][field]
    }
    prepare, shipper, work = (states[name] for name in ("prepare", "shipper", "work"))
    assert prepare["finishedAt"] <= shipper["startedAt"] <= work["startedAt"]
    assert work["finishedAt"] <= shipper["finishedAt"]
    said = shown(cluster, "logs", "job/with-sidecar", "-c", "shipper").split("\n")
    assert said == ["prepared", "working", "shipper ends", ""]
    shown(cluster, "delete", "job", "with-sidecar")


def test_logs_are_read_across_rotation(cluster: Cluster) -> None:
    shown(cluster, "wait", "--for=condition=Ready", "pod/talkers", "--timeout=60s")
    last = ("logs", "talkers", "-c", "much", "--tail=1")
    wait_for(lambda: shown(cluster, *last) == "all said\n", 60, "the last line")
    (entry,) = (
        each
        for each in pod(cluster, "talkers")["status"]["containerStatuses"]
        if each["name"] == "much"
    )
    id = entry["containerID"].removeprefix("docker://")
    (inspected,) = json.loads(cluster.host.docker("inspect", id).stdout)
    assert Path(inspected["LogPath"] + ".1").exists()
    lines = shown(cluster, "logs", "talkers", "-c", "much").splitlines()
    assert len(lines) == 100_001
    numbers = [int(line.split()[1]) for line in lines[:-1]]
    assert numbers == list(range(1, 100_001))
    assert shown(cluster, "logs", "talkers", "-c", "much", "--tail=90000").count("\n") == 90_000
    assert shown(cluster, "logs", "talkers", "-c", "much", "--limit-bytes=11") == "line 000001"


def test_log_shippers_find_the_files(cluster: Cluster) -> None:
    found = pod(cluster, "talkers")
    (entry,) = (e for e in found["status"]["containerStatuses"] if e["name"] == "little")
    id = entry["containerID"].removeprefix("docker://")
    root = cluster.data_dir / "node/logs"
    link = root / f"containers/talkers_default_little-{id}.log"
    log = root / f"pods/default_talkers_{found['metadata']['uid']}/little/0.log"
    assert link.readlink() == log
    wait_for(lambda: link.read_text().count("\n") == 2, 10, "both lines")
    assert [json.loads(line)["log"] for line in link.read_text().splitlines()] == [
        "once\n",
        "trouble\n",
    ]


def test_logs_of_several_containers(cluster: Cluster) -> None:
    every = ("logs", "talkers", "--all-containers", "--prefix", "--tail=1")
    assert sorted(shown(cluster, *every).splitlines()) == [
        "[pod/talkers/little] trouble",
        "[pod/talkers/much] all said",
    ]
    chosen = ("logs", "-l", "app=talkers", "-c", "little", "--prefix")
    assert shown(cluster, *chosen) == "[pod/talkers/little] once\n[pod/talkers/little] trouble\n"
    assert shown(cluster, "logs", "talkers", "-c", "little", "--since=1s") == ""
    stamped = shown(cluster, "logs", "talkers", "-c", "little", "--timestamps").splitlines()
    first = stamped[0].split()[0]
    since = ("logs", "talkers", "-c", "little", f"--since-time={first}")
    assert "once" in shown(cluster, *since)
    nobody = cluster.kubectl("logs", "talkers", "-c", "nobody", check=False)
    assert nobody.stderr == "error: container nobody is not valid for pod talkers\n"
    before = cluster.kubectl("logs", "talkers", "-c", "little", "--previous", check=False)
    assert 'previous terminated container "little" in pod "talkers" not found' in before.stderr
    shown(cluster, "delete", "pod", "talkers")
    wait_for(lambda: not list((cluster.data_dir / "node/logs/pods").glob("*talkers*")), 10, "links")


def test_a_deployment_is_rolled_out_paused_and_undone(cluster: Cluster) -> None:
    shown(cluster, "rollout", "status", "deploy/shop", "--timeout=60s")
    budget = row(cluster, "pdb")
    assert (budget["MIN AVAILABLE"], budget["ALLOWED DISRUPTIONS"]) == ("2", "1")
    shown(cluster, "rollout", "pause", "deploy/shop")
    shown(cluster, "set", "env", "deploy/shop", "ROUND=2")
    shown(cluster, "annotate", "deploy/shop", "kubernetes.io/change-cause=second", "--overwrite")
    text = described(cluster, "deploy", "shop")
    assert "Progressing Unknown DeploymentPaused" in text
    shown(cluster, "rollout", "resume", "deploy/shop")
    shown(cluster, "rollout", "status", "deploy/shop", "--timeout=60s")
    history = shown(cluster, "rollout", "history", "deploy/shop").splitlines()[2:]
    assert [line.split() for line in history if line] == [["1", "first"], ["2", "second"]]
    shown(cluster, "rollout", "undo", "deploy/shop", "--to-revision=1")
    shown(cluster, "rollout", "status", "deploy/shop", "--timeout=60s")
    history = shown(cluster, "rollout", "history", "deploy/shop").splitlines()[2:]
    assert [line.split() for line in history if line] == [["2", "second"], ["3", "first"]]
    text = described(cluster, "deploy", "shop")
    for line in (
        "Replicas: 3 desired | 3 updated | 3 total | 3 available | 0 unavailable",
        "RollingUpdateStrategy: 0 max unavailable, 1 max surge",
        "Available True MinimumReplicasAvailable",
        "Progressing True NewReplicaSetAvailable",
    ):
        assert line in text
    shown(cluster, "delete", "-f", str(WORKLOADS / "deployment.yaml"))


def test_a_replica_set_takes_pods_in_and_lets_them_go(cluster: Cluster) -> None:
    wait_for(lambda: row(cluster, "rs", "either")["READY"] == "2", 60, "two pods")
    first, _ = names(cluster, "pods", "app=either")
    shown(cluster, "label", "pod", first, "release=other", "--overwrite")
    ours = "app=either,release in (stable,canary)"
    wait_for(lambda: len(names(cluster, "pods", ours)) == 2, 30, "another one in its place")
    assert not pod(cluster, first)["metadata"].get("ownerReferences")
    shown(cluster, "label", "pod", first, "release=canary", "--overwrite")

    def two_with_an_owner() -> bool:
        found = listed(cluster, "pods", ours)
        return len(found) == 2 and all(each["metadata"].get("ownerReferences") for each in found)

    wait_for(two_with_an_owner, 30, "two pods of its own")
    shown(cluster, "delete", "rs", "either")
