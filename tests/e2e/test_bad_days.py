"""What goes wrong, with the reasons and in the words of Kubernetes: real Docker, real kubectl."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.cluster import Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.shown import described, listed, row, shown

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("kubectl"),
]
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    """With every bad pod and every bad workload in it, applied at once."""
    with running_cluster() as running:
        for file in ("bad_pods.yaml", "bad_workloads.yaml"):
            assert running.kubectl("apply", "-f", str(HERE / file)).stderr == ""
        yield running


def waits_for(cluster: Cluster, name: str, *texts: str, kind: str = "pod") -> str:
    """What `describe` says once all of `texts` are in it. Dots of three stand for anything."""

    def missing() -> list[str]:
        found = described(cluster, kind, *name.split())
        return [text for text in texts if not _within(text, found)]

    wait_for(lambda: not missing(), 90, f"{kind} {name}: {texts}")
    return described(cluster, kind, *name.split())


def _within(text: str, found: str) -> bool:
    """Whether a line has all parts of `text`, in order."""
    parts = text.split("...")
    return any(_in_order(parts, line) for line in found.splitlines())


def _in_order(parts: list[str], line: str) -> bool:
    place = 0
    for part in parts:
        place = line.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def status(cluster: Cluster, name: str) -> Any:
    return cluster.get("pod", name)["status"]


def shows(cluster: Cluster, name: str, word: str) -> None:
    """Waits for the STATUS column of `kubectl get`."""
    seen: list[str] = []

    def check() -> bool:
        seen[:] = [row(cluster, "pod", name)["STATUS"]]
        return seen == [word]

    wait_for(check, 60, f"{name} is {word}, not {seen}")


@pytest.mark.parametrize(
    ("name", "column", "texts"),
    [
        (
            "crash",
            "CrashLoopBackOff",
            (
                "Reason: CrashLoopBackOff",
                "Exit Code: 3",
                "Warning BackOff ... kubelet Back-off restarting failed container app in pod"
                " crash_default(",
            ),
        ),
        (
            "no-image",
            "ImagePullBackOff",
            (
                'Normal Pulling ... kubelet Pulling image "127.0.0.1:1/nowhere:1"',
                'Warning Failed ... kubelet Failed to pull image "127.0.0.1:1/nowhere:1": ...'
                "connection refused",
                "Warning Failed ... kubelet Error: ErrImagePull",
                'Normal BackOff ... kubelet Back-off pulling image "127.0.0.1:1/nowhere:1"',
                "Warning Failed ... kubelet Error: ImagePullBackOff",
            ),
        ),
        (
            "never-image",
            "ErrImageNeverPull",
            (
                'Warning ErrImageNeverPull ... Container image "absent:1" is not present with pull'
                " policy of Never",
                "Warning Failed ... kubelet Error: ErrImageNeverPull",
            ),
        ),
        (
            "no-command",
            "CrashLoopBackOff",
            (
                "Reason: ContainerCannotRun",
                "Exit Code: 127",
                'Message: ... exec: "/bin/missing": stat /bin/missing: no such file or directory',
                'Warning Failed ... kubelet Error: ... exec: "/bin/missing": stat /bin/missing',
            ),
        ),
        (
            "not-executable",
            "CrashLoopBackOff",
            (
                "Reason: ContainerCannotRun",
                "Exit Code: 126",
                'Warning Failed ... kubelet Error: ... exec: "/etc/passwd": permission denied',
            ),
        ),
        ("no-command-in-shell", "Error", ("Status: Failed", "Exit Code: 127")),
        (
            "no-key",
            "CreateContainerConfigError",
            (
                'Normal Pulled ... Container image "meshkube/quickstart:1" already present',
                "Warning Failed ... kubelet Error: couldn't find key gone in ConfigMap"
                " default/settings",
            ),
        ),
        (
            "no-secret",
            "CreateContainerConfigError",
            ('Warning Failed ... kubelet Error: secret "absent" not found',),
        ),
        (
            "no-volume",
            "ContainerCreating",
            (
                'Warning FailedMount ... kubelet MountVolume.SetUp failed for volume "v" :'
                ' configmap "absent" not found',
            ),
        ),
        (
            "no-host-path",
            "ContainerCreating",
            (
                'Warning FailedMount ... MountVolume.SetUp failed for volume "v" : hostPath type'
                " check failed: /nowhere/at/all is not a directory",
            ),
        ),
        (
            "no-claim",
            "Pending",
            (
                "Warning FailedScheduling ... default-scheduler 0/1 nodes are available:"
                ' persistentvolumeclaim "absent" not found.',
            ),
        ),
        (
            "hangs",
            "CrashLoopBackOff",
            (
                "Warning Unhealthy ... kubelet Liveness probe failed: command timed out:"
                ' "sleep 1000" timed out after 1s',
                "Normal Killing ... kubelet Container app failed liveness probe, will be restarted",
                "Exit Code: 137",
            ),
        ),
        ("hungry", "OOMKilled", ("Reason: OOMKilled", "Exit Code: 137", "Status: Failed")),
        (
            "bad-init",
            "Init:CrashLoopBackOff",
            (
                "Initialized False",
                "Warning BackOff ... Back-off restarting failed container first in pod bad-init_",
            ),
        ),
        (
            "root-refused",
            "CreateContainerConfigError",
            (
                "Warning Failed ... Error: container has runAsNonRoot and image will run as root"
                ' (pod: "root-refused", container: app)',
            ),
        ),
        (
            "bad-hook",
            "CrashLoopBackOff",
            (
                "Warning FailedPostStartHook ... kubelet PostStartHook failed",
                "Normal Killing ... kubelet FailedPostStartHook",
            ),
        ),
        (
            "unready",
            "Running",
            (
                'Warning Unhealthy ... kubelet Readiness probe failed: Get "http://...:8080/": dial'
                " tcp ...:8080: connect: connection refused",
                "Ready False",
                "ContainersReady False",
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and "-" in value else "",
)
def test_a_pod_says_what_is_wrong(
    cluster: Cluster, name: str, column: str, texts: tuple[str, ...]
) -> None:
    waits_for(cluster, name, *texts)
    shows(cluster, name, column)


def test_back_off_doubles(cluster: Cluster) -> None:
    """10 s after the second end, then 20 s: as the message says, and as it is done."""
    state: dict[str, Any] = {}

    def waits(seconds: str) -> bool:
        (state["app"],) = status(cluster, "crash")["containerStatuses"]
        waiting = state["app"]["state"].get("waiting") or {}
        return f"back-off {seconds} restarting failed container=app" in waiting.get("message", "")

    wait_for(lambda: waits("20s"), 60, "the second back-off")
    assert state["app"]["state"]["waiting"]["message"].endswith(
        f"pod=crash_default({cluster.get('pod', 'crash')['metadata']['uid']})"
    )
    assert state["app"]["lastState"]["terminated"]["exitCode"] == 3
    wait_for(lambda: waits("40s"), 60, "the third back-off")


def test_a_container_that_ignores_the_signal_is_killed_after_its_grace(cluster: Cluster) -> None:
    shown(cluster, "wait", "--for=condition=Ready", "pod/deaf", "--timeout=60s")
    (container,) = cluster.containers("name=mk_app_deaf")
    began = time.monotonic()
    shown(cluster, "delete", "pod", "deaf")
    took = time.monotonic() - began
    assert took >= 3
    assert container not in cluster.containers()
    events = shown(cluster, "events", "--for=pod/deaf")
    assert "Stopping container app" in events


@pytest.mark.parametrize(
    ("kind", "name", "texts"),
    [
        (
            "deploy",
            "stuck",
            (
                "Replicas: 2 desired | 2 updated | 2 total | 0 available | 2 unavailable",
                "Available False MinimumReplicasUnavailable",
                "Progressing False ProgressDeadlineExceeded",
                "OldReplicaSets: <none>",
                "NewReplicaSet: stuck-... (2/2 replicas created)",
                "ScalingReplicaSet ... deployment-controller Scaled up replica set stuck-"
                "... from 0 to 2",
            ),
        ),
        (
            "sts",
            "waits",
            (
                "Replicas: 2 desired | 1 total",
                "Pods Status: 0 Running / 1 Waiting / 0 Succeeded / 0 Failed",
                "StorageClass: nowhere",
                "create Claim data-waits-0 Pod waits-0 in StatefulSet waits success",
                "create Pod waits-0 in StatefulSet waits successful",
            ),
        ),
        (
            "ds",
            "everywhere",
            (
                "Desired Number of Nodes Scheduled: 1",
                "Number of Nodes Scheduled with Available Pods: 0",
                "Pods Status: 0 Running / 1 Waiting / 0 Succeeded / 0 Failed",
            ),
        ),
        (
            "job",
            "fails",
            (
                "Pods Statuses: 0 Active (0 Ready) / 0 Succeeded / 1 Failed",
                "Warning BackoffLimitExceeded ... job-controller Job has reached the specified"
                " backoff limit",
            ),
        ),
        (
            "job",
            "late",
            (
                "Active Deadline Seconds: 2s",
                "Warning DeadlineExceeded ... job-controller Job was active longer than specified"
                " deadline",
            ),
        ),
        (
            "cj",
            "never",
            ("Suspend: True", "Last Schedule Time: <unset>", "Active Jobs: <none>"),
        ),
        (
            "pvc",
            "pending",
            (
                "Status: Pending",
                "Warning ProvisioningFailed ... persistentvolume-controller"
                ' storageclass.storage.k8s.io "nowhere" not found',
            ),
        ),
        (
            "pvc",
            "unused",
            (
                "StorageClass: local-path",
                "Normal WaitForFirstConsumer ... persistentvolume-controller waiting for first"
                " consumer to be created before binding",
            ),
        ),
        (
            "rs",
            "over-quota -n small",
            (
                "Replicas: 0 current / 2 desired",
                "ReplicaFailure True FailedCreate",
                "Warning FailedCreate ... replicaset-controller Error creating: pods"
                ' "over-quota-..." is forbidden: exceeded quota: none, requested: pods=1, used:'
                " pods=0, limited: pods=0",
            ),
        ),
    ],
)
def test_a_workload_says_what_is_wrong(
    cluster: Cluster, kind: str, name: str, texts: tuple[str, ...]
) -> None:
    waits_for(cluster, name, *texts, kind=kind)


def test_a_rollout_that_is_stuck_says_so(cluster: Cluster) -> None:
    waits_for(cluster, "stuck", "Progressing False ProgressDeadlineExceeded", kind="deploy")
    done = cluster.kubectl("rollout", "status", "deploy/stuck", check=False)
    assert done.returncode == 1
    assert done.stderr == 'error: deployment "stuck" exceeded its progress deadline\n'


def test_what_was_missing_may_come(cluster: Cluster) -> None:
    """Nothing has to be deleted: the pods go on as soon as they can."""
    shown(cluster, "create", "secret", "generic", "absent", "--from-literal=a=b")
    shown(cluster, "create", "configmap", "absent", "--from-literal=a=b")
    for name in ("no-secret", "no-volume"):
        shown(cluster, "wait", "--for=condition=Ready", f"pod/{name}", "--timeout=60s")
    assert not [p for p in listed(cluster, "pods") if p["status"]["phase"] == "Unknown"]
