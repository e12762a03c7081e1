"""Service accounts end to end: a real pod reaches the API through the in-cluster configuration, and
may do exactly what its Role says."""

from __future__ import annotations

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.lab.cluster import Cluster, running_cluster
from tests.lab.host import wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.kubectl]

NAMESPACE = "robots"
IMAGE = "lab/curl:1"
FILES = "/var/run/secrets/kubernetes.io/serviceaccount"
# Nothing but the in-cluster configuration: address, CA and token where every client finds them.
ASK = (
    f"curl -sS --max-time 10 --cacert {FILES}/ca.crt"
    f' -H "Authorization: Bearer $(cat {FILES}/token)"'
    " https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT"
)
MANIFEST = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "reader"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {
                "apiGroups": [""],
                "resources": ["configmaps"],
                "resourceNames": ["kube-root-ca.crt"],
                "verbs": ["get"],
            },
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "reader"},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role",
            "name": "reader",
        },
        "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": NAMESPACE}],
    },
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "robot"},
        "spec": {
            "serviceAccountName": "robot",
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "main",
                    "image": IMAGE,
                    "imagePullPolicy": "Never",
                    "command": ["/bin/sleep", "100000"],
                }
            ],
        },
    },
]


@pytest.fixture(scope="module")
def cluster(_machine: None, kubectl: None) -> Iterator[Cluster]:
    with running_cluster() as running:
        import_curl(running)
        running.kubectl("create", "namespace", NAMESPACE)
        file = running.host.directory / "robots.json"
        items = {"apiVersion": "v1", "kind": "List", "items": MANIFEST}
        file.write_text(json.dumps(items))
        running.kubectl("apply", "-n", NAMESPACE, "-f", str(file))
        running.kubectl("wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/robot", timeout=60)
        yield running


def import_curl(cluster: Cluster) -> None:
    """An image with this machine's curl, the libraries it needs, and busybox."""
    linked = subprocess.run(["ldd", "/usr/bin/curl"], check=True, capture_output=True, text=True)
    libraries = re.findall(r"(/\S+) \(", linked.stdout)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", dereference=True) as tar:
        tar.add("/usr/bin/busybox", "bin/busybox")
        tar.add("/usr/bin/curl", "bin/curl")
        for library in libraries:
            tar.add(library, library.lstrip("/"))
        for name in ("sh", "cat", "sleep"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    subprocess.run(
        ["docker", "--host", cluster.host.docker_socket, "import", "-", IMAGE],
        input=archive.getvalue(), check=True, capture_output=True,
    )  # fmt: skip


def in_pod(cluster: Cluster, command: str) -> str:
    done = cluster.kubectl(
        "exec", "-n", NAMESPACE, "robot", "--", "/bin/sh", "-c", f"PATH=/bin; {command}",
        check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def ask(cluster: Cluster, path: str) -> str:
    return in_pod(cluster, f"{ASK}{path}")


def test_a_pod_can_do_what_its_role_says(cluster: Cluster) -> None:
    listed = json.loads(ask(cluster, f"/api/v1/namespaces/{NAMESPACE}/pods"))
    assert [one["metadata"]["name"] for one in listed["items"]] == ["robot"]
    named = f"/api/v1/namespaces/{NAMESPACE}/configmaps/kube-root-ca.crt"
    assert "BEGIN CERTIFICATE" in json.loads(ask(cluster, named))["data"]["ca.crt"]


@pytest.mark.parametrize(
    "path",
    [
        f"/api/v1/namespaces/{NAMESPACE}/secrets",
        f"/api/v1/namespaces/{NAMESPACE}/configmaps",
        f"/api/v1/namespaces/{NAMESPACE}/configmaps/other",
        "/api/v1/namespaces/default/pods",
        "/api/v1/pods",
        "/api/v1/nodes",
        "/metrics",
    ],
)
def test_and_nothing_else(cluster: Cluster, path: str) -> None:
    answer = json.loads(ask(cluster, path))
    assert (answer["code"], answer["reason"]) == (403, "Forbidden")
    assert f'User "system:serviceaccount:{NAMESPACE}:robot" cannot' in answer["message"]


def test_a_wrong_token_is_nobody(cluster: Cluster) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    wrong = ASK.replace("/token)", "/token)x")
    assert json.loads(in_pod(cluster, wrong + path))["code"] == 401


def test_the_files_are_those_of_kubernetes(cluster: Cluster) -> None:
    assert in_pod(cluster, f"cat {FILES}/namespace") == NAMESPACE
    assert "BEGIN CERTIFICATE" in in_pod(cluster, f"cat {FILES}/ca.crt")
    assert in_pod(cluster, f"cat {FILES}/token").count(".") == 2


def test_the_api_serves_a_certificate_for_its_service_address(cluster: Cluster) -> None:
    for name in ("10.43.0.1", "kubernetes.default.svc"):
        done = cluster.host.run(
            "curl", "-sS", "--cacert", str(cluster.data_dir / "pki/ca.crt"),
            "--resolve", "kubernetes.default.svc:443:10.43.0.1",
            f"https://{name}/version", check=False,
        )  # fmt: skip
        assert '"gitVersion"' in done.stdout, done.stderr


def test_kubectl_makes_tokens_that_are_users(cluster: Cluster) -> None:
    token = cluster.kubectl("create", "token", "robot", "-n", NAMESPACE).stdout.strip()
    who = whoami(cluster, token)
    assert who["username"] == f"system:serviceaccount:{NAMESPACE}:robot"
    assert f"system:serviceaccounts:{NAMESPACE}" in who["groups"]
    can = cluster.kubectl(
        "auth", "can-i", "--list", "-n", NAMESPACE, "--token", token, *anonymous(cluster)
    ).stdout
    assert any(line.split()[0] == "pods" and "[get list]" in line for line in can.splitlines())


def test_a_token_bound_to_a_pod_dies_with_it(cluster: Cluster) -> None:
    token = in_pod(cluster, f"cat {FILES}/token")
    extra = whoami(cluster, token)["extra"]
    assert extra["authentication.kubernetes.io/pod-name"] == ["robot"]
    bound = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "short"},
        "spec": MANIFEST[3]["spec"],
    }
    file = cluster.host.directory / "short.json"
    file.write_text(json.dumps(bound))
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(file))
    token = cluster.kubectl(
        "create", "token", "robot", "-n", NAMESPACE,
        "--bound-object-kind=Pod", "--bound-object-name=short",
    ).stdout.strip()  # fmt: skip
    assert whoami(cluster, token)
    cluster.kubectl("delete", "pod", "short", "-n", NAMESPACE, "--now")
    assert whoami(cluster, token) is None


def test_a_secret_gets_a_lasting_token(cluster: Cluster) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": "lasting",
            "annotations": {"kubernetes.io/service-account.name": "robot"},
        },
    }
    file = cluster.host.directory / "lasting.json"
    file.write_text(json.dumps(secret))
    cluster.kubectl("apply", "-n", NAMESPACE, "-f", str(file))

    def token() -> str:
        return cluster.kubectl(
            "get", "secret", "lasting", "-n", NAMESPACE, "-o",
            "go-template={{with .data}}{{with .token}}{{. | base64decode}}{{end}}{{end}}",
        ).stdout  # fmt: skip

    wait_for(lambda: bool(token()), 10, "a token in the Secret")
    lasting = token()
    assert whoami(cluster, lasting)["username"].endswith(":robot")
    cluster.kubectl("delete", "secret", "lasting", "-n", NAMESPACE)
    assert whoami(cluster, lasting) is None


def test_a_restarted_daemon_knows_its_tokens_and_no_part_is_refused(cluster: Cluster) -> None:
    token = in_pod(cluster, f"cat {FILES}/token")
    cluster.stop()
    cluster.start()
    assert whoami(cluster, token)
    wait_for(
        lambda: "items" in ask(cluster, f"/api/v1/namespaces/{NAMESPACE}/pods"), 20, "the pod's way"
    )
    assert "is forbidden" not in cluster.log


def anonymous(cluster: Cluster) -> tuple[str, ...]:
    """No certificate: the token alone says who asks."""
    return ("--kubeconfig", "/dev/null", "--server", "https://127.0.0.1:6443",
            "--certificate-authority", str(cluster.data_dir / "pki/ca.crt"))  # fmt: skip


def whoami(cluster: Cluster, token: str) -> Any:
    done = cluster.kubectl(
        "auth", "whoami", "-o", "json", "--token", token, *anonymous(cluster), check=False
    )
    if done.returncode:
        assert "Unauthorized" in done.stderr, done.stderr
        return None
    return json.loads(done.stdout)["status"]["userInfo"]
