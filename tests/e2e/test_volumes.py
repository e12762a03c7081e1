"""examples/volumes with real Docker, by unmodified kubectl; then the bad days."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cluster import ROOT, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.shown import described, listed, names, row, shown

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]
EXAMPLES = ROOT / "examples/volumes"
PLACE = "/tmp/meshkube-examples"


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    with running_cluster() as running:
        yield running


def place(cluster: Cluster) -> Path:
    """Where the examples find this node's files."""
    return cluster.host.directory / "examples"


def written(cluster: Cluster, name: str, *changes: tuple[str, str]) -> str:
    """A file with the example, its paths on this test's own ground."""
    text = (EXAMPLES / f"{name}.yaml").read_text()
    for old, new in ((PLACE, str(place(cluster))), *changes):
        text = text.replace(old, new)
    file = cluster.host.directory / f"{name}.yaml"
    file.write_text(text)
    return str(file)


def apply(cluster: Cluster, name: str, *changes: tuple[str, str]) -> str:
    file = written(cluster, name, *changes)
    shown(cluster, "apply", "-f", file)
    return file


def delete(cluster: Cluster, file: str) -> None:
    shown(cluster, "delete", "-f", file)


def logs(cluster: Cluster, pod: str, *more: str) -> str:
    return cluster.kubectl("logs", pod, *more, check=False).stdout


def says(cluster: Cluster, pod: str, text: str, *more: str) -> None:
    try:
        wait_for(lambda: text in logs(cluster, pod, *more), 30, text)
    except TimeoutError as error:
        about = cluster.kubectl("describe", "pod", pod, check=False).stdout
        raise TimeoutError(f"{error}\n{logs(cluster, pod, *more)}\n{about}") from None


def directories(cluster: Cluster) -> list[str]:
    """What the built-in provisioner has on this node."""
    root = cluster.data_dir / "node/volumes"
    return sorted(entry.name for entry in root.iterdir()) if root.exists() else []


def make(cluster: Cluster, manifest: str) -> str:
    file = cluster.host.directory / "manifest.yaml"
    file.write_text(manifest)
    shown(cluster, "apply", "-f", str(file))
    return str(file)


def pod(name: str, command: str, mount: str, volume: str, **fields: object) -> str:
    """A pod with one volume, as text that kubectl reads."""
    spec = {
        "terminationGracePeriodSeconds": 1,
        "containers": [
            {
                "name": "main",
                "image": "meshkube/quickstart:1",
                "command": ["sh", "-c", command],
                "volumeMounts": [json.loads(mount)],
            }
        ],
        "volumes": [json.loads(volume)],
        **fields,
    }
    return json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})


DATA = '{"name": "v", "mountPath": "/v"}'


def claimed(claim: str) -> str:
    return f'{{"name": "v", "persistentVolumeClaim": {{"claimName": "{claim}"}}}}'


def test_an_empty_directory_is_shared_on_disk_and_in_memory(cluster: Cluster) -> None:
    file = apply(cluster, "emptydir")
    says(cluster, "scratch", "from-the-writer\nin-memory\n", "-c", "reader")
    says(cluster, "scratch", "tmpfs /memory tmpfs ro,", "-c", "reader")
    assert "size=4096k" in logs(cluster, "scratch", "-c", "reader")
    uid = listed(cluster, "pods")[0]["metadata"]["uid"]
    mine = cluster.data_dir / "node/pods" / uid
    assert (mine / "volumes/disk/note").exists()
    full = cluster.kubectl(
        "exec", "scratch", "-c", "writer", "--",
        "sh", "-c", "dd if=/dev/zero of=/memory/big bs=1M count=8", check=False,
    )  # fmt: skip
    assert "No space left on device" in full.stderr
    delete(cluster, file)
    assert not mine.exists()


def test_a_pod_that_overfills_its_empty_directory_is_evicted(cluster: Cluster) -> None:
    command = "dd if=/dev/zero of=/v/big bs=1M count=9; exec sleep 3600"
    volume = '{"name": "v", "emptyDir": {"sizeLimit": "5Mi"}}'
    file = make(cluster, pod("glutton", command, DATA, volume))
    wait_for(lambda: row(cluster, "pod", "glutton")["STATUS"] == "Evicted", 40, "eviction")
    text = described(cluster, "pod", "glutton")
    assert "Status: Failed\nReason: Evicted" in text
    message = 'Usage of EmptyDir volume "v" exceeds the limit "5Mi".'
    assert f"Message: {message}" in text
    assert f"kubelet {message}" in text
    delete(cluster, file)


def test_files_of_the_node_are_made_and_checked(cluster: Cluster) -> None:
    file = apply(cluster, "hostpath")
    says(cluster, "on-the-node", "was-here\n0\na-device\n")
    delete(cluster, file)
    assert (place(cluster) / "data/note").read_text() == "was-here\n"


@pytest.mark.parametrize(
    ("path", "type", "what"),
    [
        ("kept", "Directory", "a directory"),
        ("data", "File", "a file"),
        ("data", "Socket", "a socket file"),
        ("kept", "CharDevice", "a character device"),
        ("kept", "BlockDevice", "a block device"),
        ("nowhere", "Directory", "a directory"),
    ],
)
def test_a_file_of_another_type_keeps_the_pod_waiting(
    cluster: Cluster, path: str, type: str, what: str
) -> None:
    (place(cluster) / "data").mkdir(parents=True, exist_ok=True)
    (place(cluster) / "kept").touch()
    full = place(cluster) / path
    volume = json.dumps({"name": "v", "hostPath": {"path": str(full), "type": type}})
    file = make(cluster, pod("picky", "true", DATA, volume))
    message = (
        f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: {full} is not'
        f" {what}"
    )
    wait_for(lambda: message in described(cluster, "pod", "picky"), 15, message)
    assert "Warning FailedMount" in described(cluster, "pod", "picky")
    wait_for(lambda: row(cluster, "pod", "picky")["STATUS"] == "ContainerCreating", 10, "its state")
    delete(cluster, file)


def test_configuration_follows_its_changes(cluster: Cluster) -> None:
    file = apply(cluster, "configmap")
    says(cluster, "configured", "green green green\n0\n")
    shown(cluster, "patch", "configmap", "settings", "-p", '{"data":{"colour":"blue"}}')
    says(cluster, "configured", "blue blue green\n0\n")
    assert "green blue" not in logs(cluster, "configured")
    delete(cluster, file)


def test_a_secret_is_for_its_owner_only(cluster: Cluster) -> None:
    file = apply(cluster, "secret")
    # In whatever order: Docker reads the two streams apart.
    for text in ("ada\n", "-r--------\n", "Read-only file system"):
        says(cluster, "keeper", text)
    delete(cluster, file)


def test_a_pod_knows_itself(cluster: Cluster) -> None:
    file = apply(cluster, "downwardapi")
    says(cluster, "self-aware", 'self-aware 64 colour="green"\n')
    shown(cluster, "label", "pod", "self-aware", "colour=blue", "--overwrite")
    says(cluster, "self-aware", 'self-aware 64 colour="blue"\n')
    delete(cluster, file)


def test_sources_are_projected_together(cluster: Cluster) -> None:
    file = apply(cluster, "projected")
    says(cluster, "all-in-one", "hello please all-in-one\ney\n-r--r-----\n")
    delete(cluster, file)


def git(repository: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments],
        cwd=repository,
        env={"PATH": os.environ["PATH"], "HOME": str(repository)},
        check=True,
        capture_output=True,
    )


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not on this machine")
def test_a_working_tree_is_cloned_and_its_hooks_never_run(cluster: Cluster) -> None:
    repository = place(cluster) / "site"
    repository.mkdir(parents=True)
    git(repository, "init", "-q")
    (repository / "index.html").write_text("<h1>v1</h1>\n")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "v1")
    git(repository, "tag", "v1")
    (repository / "index.html").write_text("<h1>v2</h1>\n")
    git(repository, "commit", "-qam", "v2")
    hook = repository / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {place(cluster)}/it-ran\n")
    hook.chmod(0o755)
    file = apply(cluster, "gitrepo")
    says(cluster, "site", "<h1>v1</h1>\n")
    assert not (place(cluster) / "it-ran").exists()
    delete(cluster, file)
    # One that is not there: the pod waits, says why, and starts once it is.
    file = apply(cluster, "gitrepo", ("examples/site", "examples/late"))
    why = 'MountVolume.SetUp failed for volume "site" : failed to exec'
    wait_for(lambda: why in described(cluster, "pod", "site"), 15, why)
    repository.rename(place(cluster) / "late")
    says(cluster, "site", "<h1>v1</h1>\n")
    delete(cluster, file)


def test_the_files_of_an_image_are_mounted(cluster: Cluster) -> None:
    file = apply(cluster, "image")
    says(cluster, "reader", "bin\n")
    says(cluster, "reader", "Read-only file system")
    delete(cluster, file)
    assert cluster.host.docker("ps", "-aq", "--filter=name=mk_files").stdout == ""
    file = apply(cluster, "image", ("reference: meshkube/quickstart:1", "reference: nil:1"))
    why = 'MountVolume.SetUp failed for volume "image" : image "nil:1": Container image "nil:1" is'
    wait_for(lambda: why in described(cluster, "pod", "reader"), 15, why)
    delete(cluster, file)


def test_a_claim_keeps_its_data_through_pods_and_restarts(cluster: Cluster) -> None:
    file = apply(cluster, "claim")
    shown(cluster, "rollout", "status", "deploy/counter")
    says(cluster, "deploy/counter", "1\n")
    cells = row(cluster, "pvc", "data")
    assert (cells["STATUS"], cells["CAPACITY"], cells["ACCESS MODES"]) == ("Bound", "1Gi", "RWO")
    assert cells["STORAGECLASS"] == "local-path"
    volume = row(cluster, "pv")
    assert volume["NAME"] == cells["VOLUME"]
    assert (volume["RECLAIM POLICY"], volume["STATUS"]) == ("Delete", "Bound")
    assert volume["CLAIM"] == "default/data"
    text = described(cluster, "pvc", "data")
    assert "Finalizers: [kubernetes.io/pvc-protection]" in text
    assert "Used By: counter-" in text
    for line in (
        "WaitForFirstConsumer",
        "ExternalProvisioning",
        f"Successfully provisioned volume {cells['VOLUME']}",
    ):
        assert line in text
    text = described(cluster, "pv", cells["VOLUME"])
    assert "Type: LocalVolume (a persistent volume backed by local storage on a node)" in text
    assert f"Term 0: kubernetes.io/hostname in [{cluster.host.name}]" in text
    # Grown, given to the next pod, and there after the daemon's restart.
    shown(cluster, "patch", "pvc", "data", "-p",
          '{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}')  # fmt: skip
    wait_for(lambda: row(cluster, "pvc", "data")["CAPACITY"] == "2Gi", 10, "growth")
    shown(cluster, "rollout", "restart", "deploy/counter")
    shown(cluster, "rollout", "status", "deploy/counter")
    says(cluster, "deploy/counter", "2\n")
    before = cluster.containers("name=mk_main_counter")
    cluster.stop()
    cluster.start()
    assert cluster.containers("name=mk_main_counter") == before
    shown(cluster, "delete", "pod", "-l", "app=counter")
    shown(cluster, "rollout", "status", "deploy/counter")
    says(cluster, "deploy/counter", "3\n")
    # In use it is held; then it goes with its files.
    shown(cluster, "delete", "pvc", "data", "--wait=false")
    assert row(cluster, "pvc", "data")["STATUS"] == "Terminating"
    assert len(directories(cluster)) == 1
    shown(cluster, "delete", "deploy", "counter")
    wait_for(lambda: not names(cluster, "pvc") and not names(cluster, "pv"), 20, "the end")
    assert directories(cluster) == []
    cluster.kubectl("delete", "-f", file, "--ignore-not-found")


def test_a_volume_made_by_hand_is_kept(cluster: Cluster) -> None:
    file = apply(cluster, "static")
    says(cluster, "archivist", "kept\n")
    assert row(cluster, "pvc", "archive")["VOLUME"] == "archive"
    assert row(cluster, "pvc", "archive")["CAPACITY"] == "5Gi"
    shown(cluster, "delete", "pod", "archivist")
    shown(cluster, "delete", "pvc", "archive")
    wait_for(lambda: row(cluster, "pv", "archive")["STATUS"] == "Released", 10, "release")
    assert (place(cluster) / "archive/log").exists()
    # It is not given to the next claim with somebody's data on it, unless a person says so.
    shown(cluster, "apply", "-f", file)
    assert row(cluster, "pvc", "archive")["STATUS"] == "Pending"
    shown(cluster, "patch", "pv", "archive", "-p", '{"spec":{"claimRef":null}}')
    says(cluster, "archivist", "kept\n")
    assert len((place(cluster) / "archive/log").read_text().splitlines()) == 2
    delete(cluster, file)


def test_a_disk_of_a_node_is_found(cluster: Cluster) -> None:
    file = apply(cluster, "local")
    why = 'path "{}" does not exist'.format(place(cluster) / "disk")
    wait_for(lambda: why in described(cluster, "pod", "on-a-disk"), 15, why)
    (place(cluster) / "disk").mkdir(parents=True)
    says(cluster, "on-a-disk", "on-disk\n")
    assert row(cluster, "pvc", "disk")["VOLUME"] == "disk-1"
    delete(cluster, file)


def test_an_ephemeral_claim_goes_with_its_pod(cluster: Cluster) -> None:
    file = apply(cluster, "ephemeral")
    says(cluster, "passing", "for-now\n")
    assert names(cluster, "pvc", "of=passing") == ["passing-work"]
    text = described(cluster, "pod", "passing")
    assert "Type: EphemeralVolume (an inline specification for a volume" in text
    delete(cluster, file)
    wait_for(lambda: not names(cluster, "pvc") and not names(cluster, "pv"), 20, "the end")


def test_each_pod_of_a_set_finds_its_own_data(cluster: Cluster) -> None:
    file = apply(cluster, "statefulset")
    shown(cluster, "rollout", "status", "sts/ledger")
    shown(cluster, "delete", "pod", "ledger-0", "ledger-1")
    shown(cluster, "rollout", "status", "sts/ledger")
    for name in ("ledger-0", "ledger-1"):
        says(cluster, name, f"{name}\n")
    assert row(cluster, "pvc", "data-ledger-0")["ACCESS MODES"] == "RWOP"
    shown(cluster, "scale", "sts/ledger", "--replicas=1")
    wait_for(lambda: names(cluster, "pvc") == ["data-ledger-0"], 20, "the second claim to go")
    wait_for(lambda: len(directories(cluster)) == 1, 20, "its data to go")
    delete(cluster, file)
    wait_for(lambda: not names(cluster, "pv") and not directories(cluster), 20, "the rest")


@pytest.mark.skipif(shutil.which("mount.nfs") is not None, reason="this host has an NFS client")
def test_a_node_without_an_nfs_client_says_so(cluster: Cluster) -> None:
    file = apply(cluster, "nfs")
    why = "mount.nfs is not on this host: install its NFS client (nfs-common)"
    wait_for(lambda: why in described(cluster, "pod", "shared"), 15, why)
    delete(cluster, file)


def test_what_is_missing_is_said_and_waited_for(cluster: Cluster) -> None:
    file = make(cluster, pod("lost", "echo found; exec sleep 3600", DATA, claimed("late")))
    why = 'persistentvolumeclaim "late" not found. preemption: 0/1 nodes are available: 1 Preempt'
    wait_for(lambda: why in described(cluster, "pod", "lost"), 15, why)
    assert "Warning FailedScheduling" in described(cluster, "pod", "lost")
    assert row(cluster, "pod", "lost")["STATUS"] == "Pending"
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "late"},
        "spec": {
            "storageClassName": "",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    also = make(cluster, json.dumps(claim))
    why = "pod has unbound immediate PersistentVolumeClaims"
    wait_for(lambda: why in described(cluster, "pod", "lost"), 15, why)
    text = described(cluster, "pvc", "late")
    assert "no persistent volumes available for this claim and no storage class is set" in text
    shown(cluster, "delete", "pvc", "late")
    del claim["spec"]["storageClassName"]
    make(cluster, json.dumps(claim))
    says(cluster, "lost", "found\n")
    shown(cluster, "delete", "pod", "lost")
    shown(cluster, "delete", "pvc", "late")
    assert file == also


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        ('{"configMap": {"name": "nil"}}', 'configmap "nil" not found'),
        ('{"secret": {"secretName": "nil"}}', 'secret "nil" not found'),
        (
            '{"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "a", "path": "a"}]}}',
            "references non-existent config key: a",
        ),
        ('{"rbd": {"monitors": ["m"], "image": "i"}}', "volumes of kind rbd are not supported"),
        ('{"csi": {"driver": "x.io"}}', "driver name x.io not found in the list of registered"),
    ],
)
def test_a_volume_that_cannot_be_mounted_says_why(cluster: Cluster, volume: str, why: str) -> None:
    whole = json.dumps({"name": "v", **json.loads(volume)})
    file = make(cluster, pod("stuck", "true", DATA, whole))
    full = f'MountVolume.SetUp failed for volume "v" : {why}'
    wait_for(lambda: full in described(cluster, "pod", "stuck"), 15, full)
    wait_for(lambda: row(cluster, "pod", "stuck")["STATUS"] == "ContainerCreating", 10, "its state")
    delete(cluster, file)
