"""Images without a registry, on two hosts with a Docker each; and streams to a pod on a host that
has no API server."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.agent import Agent
from tests.lab.cluster import Cluster
from tests.lab.host import Host, lab, wait_for
from tests.node.world import busybox_filesystem
from tests.support import kubectl as client

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]
PODS = "/api/v1/namespaces/default/pods"
SERVE = """
mkdir -p /w; echo inside >/w/index.html; httpd -p 8080 -h /w
trap exit TERM; sleep 9999 & wait
"""


def import_image(host: Host, name: str) -> str:
    """Makes an image in one host's Docker alone; its id."""
    done = subprocess.run(
        ["docker", "--host", host.docker_socket, "import", "-m", name, "-", name],
        input=busybox_filesystem(),
        check=True,
        capture_output=True,
    )
    return done.stdout.decode().strip()


def image_id(host: Host, name: str) -> str:
    return host.docker("image", "inspect", "-f", "{{.Id}}", name, check=False).stdout.strip()


@dataclass
class Pair:
    """A server with a node on one host, and a node on the other; `run` makes pods on either."""

    cluster: Cluster
    other: Agent

    @property
    def host(self) -> Host:
        return self.other.host

    def run(self, name: str, image: str, node: str, policy: str = "", script: str = SERVE) -> None:
        container = {"name": "main", "image": image, "command": ["sh", "-c", script]}
        if policy:
            container["imagePullPolicy"] = policy
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 1,
                "containers": [container],
            },
        }
        file = self.cluster.host.directory / f"{name}.json"
        file.write_text(json.dumps(pod))
        self.cluster.kubectl("apply", "-f", str(file))

    def ready(self, name: str) -> None:
        self.cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")

    def events(self, name: str) -> str:
        fields = f"involvedObject.name={name}"
        shown = "jsonpath={range .items[*]}{.reason}: {.message}\n{end}"
        return self.cluster.kubectl("get", "events", "--field-selector", fields, "-o", shown).stdout


@pytest.fixture(scope="module")
def pair(_machine: None) -> Iterator[Pair]:
    with lab(2, docker=True) as (first, second):
        cluster = Cluster(first, f"--docker={first.docker_socket}")
        cluster.start()
        agent = Agent(second, first.address, f"--docker={second.docker_socket}")
        agent.start(cluster.meshkube("token", "create").stdout.strip())
        ready = ("wait", "--for=condition=Ready", "--timeout=1s", f"node/{agent.name}")
        wait_for(
            lambda: cluster.kubectl(*ready, check=False).returncode == 0, 30, "the agent's node"
        )
        yield Pair(cluster, agent)


def test_an_image_is_put_on_every_node(pair: Pair, tmp_path: Path) -> None:
    cluster = pair.cluster
    made = import_image(cluster.host, "lab/one:1")
    done = cluster.meshkube("image", "load", "lab/one:1", f"--docker={cluster.host.docker_socket}")
    assert sorted(line.partition(" (")[0] for line in done.stdout.splitlines()) == [
        f"{cluster.host.name}: loaded lab/one:1",
        f"{pair.other.name}: loaded lab/one:1",
    ]
    assert image_id(pair.host, "lab/one:1") == made
    listed = cluster.meshkube("image", "list").stdout
    [row] = [line.split() for line in listed.splitlines() if line.startswith("lab/one:1")]
    assert row[-1] == ",".join(sorted([cluster.host.name, pair.other.name]))
    wait_for(
        lambda: "lab/one:1" in str(cluster.get("node", pair.other.name)["status"]["images"]),
        10,
        "the image in the node's status",
    )


def test_an_archive_goes_to_the_nodes_named(pair: Pair, tmp_path: Path) -> None:
    import_image(pair.host, "lab/two:1")
    archive = pair.host.directory / "two.tar"
    pair.host.docker("save", "-o", str(archive), "lab/two:1")
    pair.host.docker("rmi", "lab/two:1")
    pair.cluster.meshkube("image", "load", str(archive), f"--nodes={pair.cluster.host.name}")
    assert image_id(pair.cluster.host, "lab/two:1")
    assert not image_id(pair.host, "lab/two:1")


def test_what_cannot_be_loaded_is_told_for_each_node(pair: Pair, tmp_path: Path) -> None:
    archive = pair.host.directory / "bad.tar"
    archive.write_bytes(b"no archive" * 100_000)
    done = pair.cluster.meshkube("image", "load", str(archive), check=False)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert sorted(line.partition(":")[0] for line in lines) == sorted(
        [pair.cluster.host.name, pair.other.name]
    )
    assert all(": failed: " in line for line in lines)
    for arguments, why in (
        (["nope:1", f"--docker={pair.host.docker_socket}"], "no such file, and Docker at"),
        ([str(archive), "--nodes=nobody"], 'nodes "nobody" not found'),
    ):
        done = pair.cluster.meshkube("image", "load", *arguments, check=False)
        assert done.returncode != 0
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_pod_gets_its_image_from_the_node_that_has_it(pair: Pair) -> None:
    """In both directions: the agent from the server's node, and the other way round."""
    for holder, taker, node in (
        (pair.cluster.host, pair.host, pair.other.name),
        (pair.host, pair.cluster.host, pair.cluster.host.name),
    ):
        image = f"lab/of-{holder.name}:1"
        made = import_image(holder, image)
        pair.run(f"on-{node}", image, node)
        pair.ready(f"on-{node}")
        assert image_id(taker, image) == made
        came = f'Successfully fetched image "{image}" from node {holder.name}'
        assert came in pair.events(f"on-{node}")


def test_always_asks_the_registry_and_never_asks_nobody(pair: Pair) -> None:
    import_image(pair.cluster.host, "127.0.0.1:9/lab/three:1")
    for policy, reason in (("Always", "ErrImagePull"), ("Never", "ErrImageNeverPull")):
        name = policy.lower()
        pair.run(name, "127.0.0.1:9/lab/three:1", pair.other.name, policy)
        wait_for(lambda name=name, reason=reason: reason in pair.events(name), 20, reason)
    assert not image_id(pair.host, "127.0.0.1:9/lab/three:1")
    # It is loaded: who waited for it starts at once.
    pair.cluster.meshkube(
        "image", "load", "127.0.0.1:9/lab/three:1", f"--docker={pair.cluster.host.docker_socket}"
    )
    pair.ready("never")


def test_streams_reach_a_pod_on_a_host_without_an_api_server(pair: Pair) -> None:
    import_image(pair.host, "lab/four:1")
    pair.run("far", "lab/four:1", pair.other.name)
    pair.ready("far")
    kubectl = pair.cluster.kubectl
    assert kubectl("exec", "far", "--", "hostname").stdout == "far\n"
    assert kubectl("get", "--raw", f"{PODS}/far:8080/proxy/").stdout == "inside\n"
    assert kubectl("get", "--raw", f"/api/v1/nodes/{pair.other.name}/proxy/healthz").stdout == "ok"
    up = pair.host.directory / "up"
    up.write_bytes(bytes(range(256)) * 4000)
    kubectl("cp", str(up), "far:/tmp/up")
    kubectl("cp", "far:/tmp/up", f"{up}.down")
    assert Path(f"{up}.down").read_bytes() == up.read_bytes()
    command = ("env", f"KUBECONFIG={pair.cluster.kubeconfig}", client.path())
    forward = pair.cluster.host.start(*command, "port-forward", "pod/far", "18080:8080")
    curl = ("curl", "-sS", "-m", "5", "http://127.0.0.1:18080/")
    try:
        wait_for(
            lambda: pair.cluster.host.run(*curl, check=False).stdout == "inside\n", 15, "the port"
        )
    finally:
        pair.cluster.host.stop(forward)
