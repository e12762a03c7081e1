"""Well-known manifests, acted out with a real database: examples/guestbook and examples/blog."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.cluster import ROOT, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.shown import names, shown

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(240),
    pytest.mark.usefixtures("kubectl"),
]
EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    for command in ("redis-server", "redis-cli"):
        if shutil.which(command) is None:
            pytest.skip(f"needs {command}")
    with running_cluster() as running:
        subprocess.run(
            [EXAMPLES / "guestbook/image/build"],
            env={"DOCKER_HOST": running.host.docker_socket, "PATH": "/usr/bin:/bin"},
            check=True,
            capture_output=True,
        )
        yield running


def apply(cluster: Cluster, name: str) -> None:
    assert cluster.kubectl("apply", "-f", str(EXAMPLES / name)).stderr == ""


def entries(cluster: Cluster, service: str, add: str = "") -> list[str]:
    """What the page of a Service shows, asked at its cluster address; nothing while it has no
    endpoint, which it gets a moment after its Deployment counts as rolled out."""
    address = shown(cluster, "get", "svc", service, "-o", "jsonpath={.spec.clusterIP}")
    url = f"http://{address}/cgi-bin/entries" + (f"?add={add}" if add else "")
    return cluster.host.run("curl", "-sS", "--max-time", "10", url, check=bool(add)).stdout.split()


def test_a_guestbook_keeps_its_entries_in_redis(cluster: Cluster) -> None:
    apply(cluster, "guestbook/guestbook.yaml")
    for name in ("redis-leader", "redis-follower", "frontend"):
        shown(cluster, "rollout", "status", f"deploy/{name}", "--timeout=90s")
    entries(cluster, "frontend", "hello")
    # Written to the leader, read from either of its followers.
    for _ in range(6):
        wait_for(lambda: entries(cluster, "frontend") == ["hello"], 15, "the entry")
    shown(cluster, "scale", "deploy/frontend", "--replicas=1")
    shown(cluster, "delete", "pod", "-l", "app=redis,role=follower")
    shown(cluster, "rollout", "status", "deploy/redis-follower", "--timeout=60s")
    wait_for(lambda: entries(cluster, "frontend") == ["hello"], 30, "the copies of new followers")
    shown(cluster, "delete", "-f", str(EXAMPLES / "guestbook/guestbook.yaml"))


def test_a_blog_keeps_its_data_on_claims(cluster: Cluster) -> None:
    apply(cluster, "blog/blog.yaml")
    shown(cluster, "rollout", "status", "deploy/blog-database", "--timeout=90s")
    shown(cluster, "rollout", "status", "deploy/blog", "--timeout=90s")
    assert names(cluster, "pvc", "app=blog") == ["blog-files", "database-data"]
    entries(cluster, "blog", "first-post")
    assert entries(cluster, "blog") == ["first-post"]
    before = names(cluster, "pods", "app=blog")
    shown(cluster, "rollout", "restart", "deploy", "-l", "app=blog")
    for name in ("blog-database", "blog"):
        shown(cluster, "rollout", "status", f"deploy/{name}", "--timeout=90s")
    assert not set(before) & set(names(cluster, "pods", "app=blog"))
    wait_for(lambda: entries(cluster, "blog") == ["first-post"], 30, "the post of before")
    shown(cluster, "delete", "-f", str(EXAMPLES / "blog/blog.yaml"))


def test_a_database_of_three_finds_its_leader_by_name(cluster: Cluster) -> None:
    apply(cluster, "blog/statefulset.yaml")
    shown(cluster, "rollout", "status", "sts/store", "--timeout=90s")

    def redis(member: int, *command: str) -> str:
        return shown(cluster, "exec", f"store-{member}", "--", "redis-cli", *command).strip()

    assert redis(0, "SET", "key", "value") == "OK"
    for member in (1, 2):
        wait_for(lambda member=member: redis(member, "GET", "key") == "value", 30, "the copy")
        assert "role:slave" in redis(member, "INFO", "replication")
    # The leader comes back with another address, under its name, with its data.
    shown(cluster, "delete", "pod", "store-0")
    shown(cluster, "rollout", "status", "sts/store", "--timeout=60s")
    assert redis(0, "GET", "key") == "value"
    assert redis(0, "SET", "key", "later") == "OK"
    wait_for(lambda: redis(2, "GET", "key") == "later", 40, "the follower finds it again")
    shown(cluster, "delete", "-f", str(EXAMPLES / "blog/statefulset.yaml"))
