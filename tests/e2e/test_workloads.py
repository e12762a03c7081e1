"""examples/workloads with real Docker, by unmodified kubectl."""

from __future__ import annotations

import json
from collections.abc import Iterator

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


def ready(cluster: Cluster, selector: str) -> list[str]:
    """The pods that are ready, by name."""
    return sorted(
        item["metadata"]["name"]
        for item in listed(cluster, "pods", selector)
        if ("Ready", "True")
        in ((c["type"], c["status"]) for c in item["status"].get("conditions", ()))
    )


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def test_a_replication_controller_is_scaled_and_described(cluster: Cluster) -> None:
    apply(cluster, "replicationcontroller")
    wait_for(lambda: row(cluster, "rc")["READY"] == "2", 30, "two pods")
    assert list(row(cluster, "rc")) == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    shown(cluster, "scale", "rc/greeter", "--replicas=3")
    wait_for(lambda: row(cluster, "rc")["READY"] == "3", 30, "three pods")
    text = described(cluster, "rc", "greeter")
    assert "Replicas: 3 current / 3 desired" in text
    assert "Pods Status: 3 Running / 0 Waiting / 0 Succeeded / 0 Failed" in text
    assert "replication-controller Created pod: greeter-" in text
    shown(cluster, "delete", "rc", "greeter")
    wait_for(lambda: not names(cluster, "pods", "app=greeter"), 30, "the pods to go")


def test_a_daemon_set_rolls_out_and_back(cluster: Cluster) -> None:
    apply(cluster, "daemonset")
    assert "successfully rolled out" in shown(cluster, "rollout", "status", "ds/log-reader")
    assert row(cluster, "ds") | {"AGE": ""} == {
        "NAME": "log-reader", "DESIRED": "1", "CURRENT": "1", "READY": "1", "UP-TO-DATE": "1",
        "AVAILABLE": "1", "NODE SELECTOR": "<none>", "AGE": "",
    }  # fmt: skip
    first = names(cluster, "pods", "app=log-reader")
    shown(cluster, "set", "env", "ds/log-reader", "ROUND=2")
    assert "successfully rolled out" in shown(cluster, "rollout", "status", "ds/log-reader")
    assert names(cluster, "pods", "app=log-reader") != first
    history = shown(cluster, "rollout", "history", "ds/log-reader")
    assert [line.split()[0] for line in history.splitlines()[2:] if line] == ["1", "2"]
    assert "first" in history
    assert "ROUND:" in shown(cluster, "rollout", "history", "ds/log-reader", "--revision=2")
    shown(cluster, "rollout", "undo", "ds/log-reader")
    shown(cluster, "rollout", "status", "ds/log-reader")
    (pod,) = listed(cluster, "pods", "app=log-reader")
    assert not any(e["name"] == "ROUND" for e in pod["spec"]["containers"][0]["env"])
    shown(cluster, "rollout", "restart", "ds/log-reader")
    shown(cluster, "rollout", "status", "ds/log-reader")
    text = described(cluster, "ds", "log-reader")
    assert "Desired Number of Nodes Scheduled: 1" in text
    assert "Number of Nodes Scheduled with Available Pods: 1" in text
    assert "daemonset-controller Created pod: log-reader-" in text
    shown(cluster, "delete", "-f", str(WORKLOADS / "daemonset.yaml"))


def test_a_stateful_set_keeps_its_names_and_rolls_from_the_end(cluster: Cluster) -> None:
    apply(cluster, "statefulset")
    shown(cluster, "rollout", "status", "sts/ring")
    assert names(cluster, "pods", "app=ring") == ["ring-0", "ring-1", "ring-2"]
    assert row(cluster, "sts") | {"AGE": ""} == {"NAME": "ring", "READY": "3/3", "AGE": ""}
    assert shown(cluster, "logs", "ring-1").strip() == "ring-1"
    uid = {p["metadata"]["name"]: p["metadata"]["uid"] for p in listed(cluster, "pods", "app=ring")}
    patch = '{"spec":{"updateStrategy":{"rollingUpdate":{"partition":2}}}}'
    shown(cluster, "patch", "sts", "ring", "-p", patch)
    shown(cluster, "set", "env", "sts/ring", "ROUND=2")
    status = shown(cluster, "rollout", "status", "sts/ring")
    assert "partitioned roll out complete: 1 new pods have been updated" in status
    now = {p["metadata"]["name"]: p["metadata"]["uid"] for p in listed(cluster, "pods", "app=ring")}
    assert [name for name in uid if now[name] == uid[name]] == ["ring-0", "ring-1"]
    shown(cluster, "rollout", "undo", "sts/ring")
    shown(cluster, "rollout", "status", "sts/ring")
    shown(cluster, "scale", "sts/ring", "--replicas=1")
    wait_for(lambda: names(cluster, "pods", "app=ring") == ["ring-0"], 30, "one pod")
    text = described(cluster, "sts", "ring")
    assert "Replicas: 1 desired | 1 total" in text
    assert "create Pod ring-2 in StatefulSet ring successful" in text
    assert "delete Pod ring-2 in StatefulSet ring successful" in text
    shown(cluster, "delete", "-f", str(WORKLOADS / "statefulset.yaml"))


def test_pods_of_a_stateful_set_are_found_by_name(cluster: Cluster) -> None:
    apply(cluster, "statefulset")
    shown(cluster, "rollout", "status", "sts/ring")
    address = listed(cluster, "pods", "app=ring")[0]["status"]["podIP"]
    name = listed(cluster, "pods", "app=ring")[0]["metadata"]["name"]
    full = f"{name}.ring.default.svc.cluster.local"
    wait_for(lambda: cluster.dig(full) == address, 15, full)
    shown(cluster, "delete", "-f", str(WORKLOADS / "statefulset.yaml"))


def test_a_stateful_set_makes_its_claims(cluster: Cluster) -> None:
    apply(cluster, "statefulset-claims")
    wanted = ["data-store-0", "data-store-1"]
    wait_for(lambda: names(cluster, "pvc") == wanted, 30, "claims")
    shown(cluster, "scale", "sts/store", "--replicas=1")
    wait_for(lambda: names(cluster, "pvc") == wanted[:1], 30, "the second claim to go")
    shown(cluster, "delete", "-f", str(WORKLOADS / "statefulset-claims.yaml"))
    assert names(cluster, "pvc") == wanted[:1]
    shown(cluster, "delete", "pvc", "--all")


def test_a_job_counts_what_it_has_done(cluster: Cluster) -> None:
    apply(cluster, "job")
    shown(cluster, "wait", "--for=condition=Complete", "job/four", "--timeout=60s")
    cells = row(cluster, "job", "four")
    assert list(cells) == ["NAME", "STATUS", "COMPLETIONS", "DURATION", "AGE"]
    assert (cells["STATUS"], cells["COMPLETIONS"]) == ("Complete", "4/4")
    pods = names(cluster, "pods", "job-name=four")
    assert len(pods) == 4
    text = described(cluster, "job", "four")
    assert "Pods Statuses: 0 Active (0 Ready) / 4 Succeeded / 0 Failed" in text
    assert "job-controller Job completed" in text
    assert cluster.kubectl("logs", "job/four").stdout == "done\n"
    shown(cluster, "delete", "job", "four")
    wait_for(lambda: not names(cluster, "pods", "job-name=four"), 30, "the pods to go")


def test_each_index_of_a_job_does_its_piece(cluster: Cluster) -> None:
    apply(cluster, "job-indexed")
    shown(cluster, "wait", "--for=condition=Complete", "job/pieces", "--timeout=60s")
    said = sorted(shown(cluster, "logs", "-l", "job-name=pieces").splitlines())
    assert said == [f"piece {i} on pieces-{i}" for i in range(3)]
    assert "Completed Indexes: 0-2" in described(cluster, "job", "pieces")
    shown(cluster, "delete", "job", "pieces")


def test_a_hopeless_job_fails_at_once(cluster: Cluster) -> None:
    apply(cluster, "job-policy")
    shown(cluster, "wait", "--for=condition=Failed", "job/hopeless", "--timeout=60s")
    text = described(cluster, "job", "hopeless")
    assert "failed with exit code 42 matching FailJob rule at index 0" in text
    assert "Pods Statuses: 0 Active (0 Ready) / 0 Succeeded / 1 Failed" in text
    shown(cluster, "delete", "job", "hopeless")


def test_a_pod_of_a_job_that_never_started_goes_when_it_is_deleted(cluster: Cluster) -> None:
    container = {"name": "c", "image": "nobody/has-this:1", "imagePullPolicy": "Never"}
    template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "unfound"}}
    file = cluster.host.directory / "unfound.json"
    file.write_text(json.dumps({**job, "spec": {"template": template}}))
    cluster.kubectl("apply", "-f", str(file))
    said = "-ojsonpath={.items[*].status.containerStatuses[*].state.waiting.reason}"
    unfound = ("get", "pods", "-ljob-name=unfound")
    wait_for(lambda: "Image" in shown(cluster, *unfound, said), 60, "a word on its image")
    made = shown(cluster, *unfound, "-oname").split()
    # Its Job counts how it ended before it lets go of it.
    cluster.kubectl("delete", *made, "--timeout=40s")
    wait_for(
        lambda: shown(cluster, "get", "job/unfound", "-ojsonpath={.status.failed}") == "1",
        20, "the count",
    )  # fmt: skip
    cluster.kubectl("delete", "job/unfound", "--timeout=40s")


def test_a_cron_job_is_run_by_hand_and_by_the_clock(cluster: Cluster) -> None:
    apply(cluster, "cronjob")
    cells = row(cluster, "cj")
    assert (cells["SCHEDULE"], cells["TIMEZONE"]) == ("0 3 * * *", "Europe/Berlin")
    assert (cells["SUSPEND"], cells["ACTIVE"], cells["LAST SCHEDULE"]) == ("False", "0", "<none>")
    shown(cluster, "create", "job", "by-hand", "--from=cronjob/nightly")
    shown(cluster, "wait", "--for=condition=Complete", "job/by-hand", "--timeout=60s")
    assert "cleaned" in shown(cluster, "logs", "job/by-hand")
    text = described(cluster, "cj", "nightly")
    assert "Concurrency Policy: Forbid" in text
    shown(cluster, "create", "cronjob", "often", "--image=meshkube/quickstart:1",
          "--schedule=@every 1s", "--", "sh", "-c", "echo tick")  # fmt: skip
    wait_for(lambda: row(cluster, "cj", "often")["LAST SCHEDULE"] != "<none>", 30, "a start")
    shown(cluster, "patch", "cj", "often", "-p", '{"spec":{"suspend":true}}')
    wait_for(lambda: row(cluster, "cj", "often")["ACTIVE"] == "0", 60, "its end")
    text = described(cluster, "cj", "often")
    assert "cronjob-controller Created job often-" in text
    assert "Saw completed job: often-" in text
    shown(cluster, "delete", "cj", "--all")
    wait_for(lambda: not names(cluster, "jobs"), 30, "its jobs to go")


def test_a_stateful_set_counts_from_its_start_and_takes_its_claims_along(cluster: Cluster) -> None:
    apply(cluster, "statefulset-claims")
    retained = {"whenDeleted": "Delete", "whenScaled": "Retain"}
    spec = {"ordinals": {"start": 5}, "persistentVolumeClaimRetentionPolicy": retained}
    shown(cluster, "patch", "sts", "store", "-p", json.dumps({"spec": spec}))
    wanted = ["store-5", "store-6"]
    wait_for(lambda: ready(cluster, "app=store") == wanted, 60, "the pods from 5 on")
    shown(cluster, "scale", "sts/store", "--replicas=1")
    wait_for(lambda: names(cluster, "pods", "app=store") == wanted[:1], 30, "one pod")
    assert "data-store-6" in names(cluster, "pvc")
    shown(cluster, "delete", "sts", "store")
    wait_for(lambda: "data-store-5" not in names(cluster, "pvc"), 30, "the claims to go")
    shown(cluster, "delete", "pvc", "--all")


def test_a_daemon_set_surges(cluster: Cluster) -> None:
    apply(cluster, "daemonset")
    surge = {"updateStrategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}}
    shown(cluster, "patch", "ds", "log-reader", "-p", json.dumps({"spec": surge}))
    shown(cluster, "rollout", "status", "ds/log-reader")
    (old,) = names(cluster, "pods", "app=log-reader")
    shown(cluster, "set", "env", "ds/log-reader", "ROUND=2")
    wait_for(lambda: len(names(cluster, "pods", "app=log-reader")) == 2, 30, "two at a time")
    shown(cluster, "rollout", "status", "ds/log-reader")
    wait_for(lambda: old not in names(cluster, "pods", "app=log-reader"), 30, "the old one to go")
    shown(cluster, "delete", "-f", str(WORKLOADS / "daemonset.yaml"))


def test_a_job_succeeds_by_its_leader_and_goes_after_its_time(cluster: Cluster) -> None:
    script = "test $JOB_COMPLETION_INDEX = 0 || sleep 1000"
    work = {"name": "c", "image": IMAGE, "command": ["sh", "-c", script]}
    pod = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [work]}
    spec = {
        "completions": 3, "parallelism": 3, "completionMode": "Indexed",
        "ttlSecondsAfterFinished": 5, "successPolicy": {"rules": [{"succeededIndexes": "0"}]},
        "template": {"spec": pod},
    }  # fmt: skip
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "led"}, "spec": spec}
    file = cluster.host.directory / "led.json"
    file.write_text(json.dumps(job))
    shown(cluster, "create", "-f", str(file))
    shown(cluster, "wait", "--for=condition=SuccessCriteriaMet", "job/led", "--timeout=60s")
    shown(cluster, "wait", "--for=condition=Complete", "job/led", "--timeout=60s")
    wait_for(lambda: "led" not in names(cluster, "jobs"), 30, "the job to go")
    wait_for(lambda: not names(cluster, "pods", "job-name=led"), 30, "its pods to go")
