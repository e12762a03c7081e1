"""A group that a program of the user's answers for, through unmodified kubectl."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from meshkube import pki
from tests.lab.cluster import Cluster, running_cluster
from tests.lab.host import wait_for
from tests.support.extension_server import GROUP, ROOT, VERSION

pytestmark = [
    pytest.mark.root,
    pytest.mark.kubectl,
    pytest.mark.timeout(120),
    pytest.mark.usefixtures("kubectl"),
]
NAME = f"{VERSION}.{GROUP}"
PORT = 7443
ECHO = ("get", "--raw", f"{ROOT}/namespaces/default/echoes/e1")


@dataclass
class Extended:
    """A cluster, and the extension server beside it."""

    cluster: Cluster
    program: subprocess.Popen[bytes]

    def apply(self, *manifests: Any) -> None:
        file = self.cluster.host.directory / "manifest.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": manifests}))
        self.cluster.kubectl("apply", "-f", str(file))

    def condition(self, name: str = NAME) -> tuple[str, str]:
        (found,) = self.cluster.get("apiservice", name)["status"]["conditions"]
        return found["status"], found["reason"]

    def says(self, *wanted: str) -> bool:
        return self.condition() == wanted


@pytest.fixture(scope="module")
def extended(_machine: None) -> Iterator[Extended]:
    with running_cluster("--disable=ingress", docker=False) as cluster:
        host = cluster.host
        authority = pki.new_authority("extension")
        pki.save(pki.issue(authority, "echo", names=["echo.default.svc"]), host.directory / "echo")
        proxies = cluster.get(
            "configmap", "-n", "kube-system", "extension-apiserver-authentication"
        )
        file = host.directory / "proxies.crt"
        file.write_text(proxies["data"]["requestheader-client-ca-file"])
        stem = str(host.directory / "echo")
        arguments = (str(PORT), f"{stem}.crt", f"{stem}.key", str(file))
        program = host.start(
            sys.executable, "-m", "tests.support.extension_server", *arguments, log="echo.log"
        )
        found = Extended(cluster, program)
        found.apply(*_manifests(host.address, authority.certificate))
        wait_for(lambda: found.says("True", "Passed"), 20, "the extension server")
        yield found


def _manifests(address: str, authority: bytes) -> list[Any]:
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "echo", "namespace": "default"},
            "spec": {"ports": [{"port": 443, "targetPort": PORT}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "echo-1",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": "echo"},
            },
            "addressType": "IPv4",
            "ports": [{"port": PORT}],
            "endpoints": [{"addresses": [address]}],
        },
        {
            "apiVersion": "apiregistration.k8s.io/v1",
            "kind": "APIService",
            "metadata": {"name": NAME},
            "spec": {
                "group": GROUP,
                "version": VERSION,
                "groupPriorityMinimum": 1000,
                "versionPriority": 10,
                "service": {"name": "echo", "namespace": "default"},
                "caBundle": base64.b64encode(authority).decode(),
            },
        },
    ]


def test_kubectl_finds_and_reads_what_the_extension_serves(extended: Extended) -> None:
    kubectl = extended.cluster.kubectl
    assert "echoes   ec" in kubectl("api-resources", f"--api-group={GROUP}").stdout
    assert f"{GROUP}/{VERSION}" in kubectl("api-versions").stdout
    found = json.loads(kubectl("get", "ec", "e1", "-o", "json").stdout)
    assert found["spec"]["path"].startswith(f"{ROOT}/namespaces/default/echoes/e1")
    assert "front-proxy-client" in found["status"]["certificate"]
    assert json.loads(kubectl("get", "--raw", f"/apis/{GROUP}").stdout)["name"] == GROUP
    index = json.loads(kubectl("get", "--raw", "/openapi/v3").stdout)
    assert f"apis/{GROUP}/{VERSION}" in index["paths"]


def test_the_extension_is_told_who_asks_and_nothing_that_a_client_claims(
    extended: Extended,
) -> None:
    kubectl = extended.cluster.kubectl
    rule = ("--verb=get", f"--resource=echoes.{GROUP}")
    kubectl("create", "clusterrole", "echoing", *rule)
    kubectl("create", "clusterrolebinding", "echoing", "--clusterrole=echoing", "--user=ann")
    told = json.loads(kubectl(*ECHO, "--as=ann", "--as-group=a", "--as-group=b").stdout)
    headers = {name.lower(): value for name, value in told["spec"]["headers"].items()}
    assert headers["x-remote-user"] == ["ann"]
    assert set(headers["x-remote-group"]) >= {"a", "b", "system:authenticated"}
    assert not {name for name in headers if name.startswith("impersonate")}
    token = kubectl("create", "token", "default").stdout.strip()
    kubectl("create", "clusterrolebinding", "e2", "--clusterrole=echoing",
            "--serviceaccount=default:default")  # fmt: skip
    curl = ("curl", "-ks", "-H", f"Authorization: Bearer {token}", "-H", "X-Remote-User: admin",
            "-H", "X-Remote-Group: system:masters", "-H", "X-Remote-Extra-A: b",
            f"https://127.0.0.1:6443{ECHO[2]}")  # fmt: skip
    told = json.loads(extended.cluster.host.run(*curl).stdout)
    headers = {name.lower(): value for name, value in told["spec"]["headers"].items()}
    assert headers["x-remote-user"] == ["system:serviceaccount:default:default"]
    assert "system:masters" not in headers["x-remote-group"]
    assert "x-remote-extra-a" not in headers
    assert "authorization" not in headers


def test_who_has_no_right_is_refused_before_the_extension_is_asked(extended: Extended) -> None:
    refused = extended.cluster.kubectl(*ECHO, "--as=bob", check=False)
    assert "Forbidden" in refused.stderr
    assert 'cannot get resource "echoes" in API group "echo.example.com"' in refused.stderr


def test_writes_and_watches_pass_through(extended: Extended) -> None:
    cluster = extended.cluster
    file = cluster.host.directory / "echo.json"
    new = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "Echo", "metadata": {"name": "made"}}
    file.write_text(json.dumps(new))
    made = cluster.kubectl("create", "-f", str(file), "-o", "json")
    assert json.loads(made.stdout)["spec"]["method"] == "POST"
    log = "watched.log"
    url = f"{ROOT}/namespaces/default/echoes?watch=1"
    watching = cluster.host.start(
        "kubectl", f"--kubeconfig={cluster.kubeconfig}", "get", "--raw", url, log=log
    )
    path = cluster.host.directory / log
    wait_for(lambda: "MODIFIED" in path.read_text(), 10, "two events, while the watch goes on")
    cluster.host.stop(watching)


def test_own_groups_are_told_as_local_and_come_back(extended: Extended) -> None:
    kubectl = extended.cluster.kubectl
    assert extended.condition("v1.apps") == ("True", "Local")
    assert extended.condition("v1.") == ("True", "Local")
    kubectl("delete", "apiservice", "v1.batch")

    def back() -> bool:
        found = kubectl("get", "apiservice", "v1.batch", "-o", "name", check=False)
        return found.returncode == 0 and extended.condition("v1.batch") == ("True", "Local")

    wait_for(back, 10, "v1.batch")


def test_an_extension_that_is_gone_is_said_so_and_harms_nobody_else(extended: Extended) -> None:
    cluster = extended.cluster
    cluster.host.stop(extended.program)
    refused = cluster.kubectl(*ECHO, check=False)
    assert "error trying to reach service" in refused.stderr
    wait_for(lambda: extended.says("False", "FailedDiscoveryCheck"), 20, "the condition")
    assert freshness(cluster) == {"v1": "Stale"}
    assert cluster.kubectl("get", "deployments").stderr.startswith("No resources")
    cluster.kubectl("delete", "service", "echo")
    wait_for(lambda: extended.says("False", "ServiceNotFound"), 20, "the condition")
    cluster.kubectl("delete", "apiservice", NAME)

    def gone() -> bool:
        return GROUP not in cluster.kubectl("api-versions").stdout

    wait_for(gone, 10, "the group to go")
    assert freshness(cluster) == {}


def freshness(cluster: Cluster) -> dict[str, str]:
    """What discovery says of each version of the group, to clients that ask for all at once."""
    asked = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    stem = cluster.data_dir / "pki/admin"
    answer = cluster.host.run(
        "curl", "-ks", "--cert", f"{stem}.crt", "--key", f"{stem}.key", "-H", f"Accept: {asked}",
        "https://127.0.0.1:6443/apis",
    )  # fmt: skip
    (versions,) = [
        one["versions"]
        for one in json.loads(answer.stdout)["items"]
        if one["metadata"].get("name") == GROUP
    ] or [[]]
    return {one["version"]: one["freshness"] for one in versions}
