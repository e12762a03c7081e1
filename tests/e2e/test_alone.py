"""The ingress and cluster DNS as processes of their own, given the API only by a kubeconfig: the
same things are asked of them as of the daemon that holds them all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.e2e.test_quickstart import (
    test_a_path_without_a_rule_says_so,
    test_a_pod_reaches_a_service_by_its_short_name,
    test_both_replicas_answer_by_url_path,
    test_names_are_answered_by_cluster_dns,
    test_the_dns_specification_is_kept,
    test_the_ingress_shows_its_address,
)
from tests.lab.cluster import CLUSTER_DNS, MESHKUBE, Cluster, running_cluster
from tests.lab.host import wait_for

__all__ = [
    "test_a_path_without_a_rule_says_so",
    "test_a_pod_reaches_a_service_by_its_short_name",
    "test_both_replicas_answer_by_url_path",
    "test_names_are_answered_by_cluster_dns",
    "test_the_dns_specification_is_kept",
    "test_the_ingress_shows_its_address",
]

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(180)]


def resolves(cluster: Cluster) -> bool:
    """Whether DNS answers; while nobody listens yet, dig ends with an error."""
    with contextlib.suppress(RuntimeError):
        return bool(cluster.dig("kubernetes.default.svc.cluster.local"))
    return False


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    """A cluster whose ingress and DNS run beside the daemon, with the quickstart on it."""
    with running_cluster("--disable=ingress,dns") as running:
        for part in ("ingress", "dns"):
            running.host.start(
                MESHKUBE, part, f"--kubeconfig={running.kubeconfig}", log=f"{part}.log"
            )
        running.apply_quickstart()
        wait_for(lambda: resolves(running), 30, "DNS")
        status = ("-o", "/dev/null", "-w", "%{http_code}")
        wait_for(
            lambda: running.curl("http://shop.example/user", *status, check=False).stdout == "200",
            30,
            "the ingress",
        )
        yield running


def test_they_go_on_while_the_api_is_away(cluster: Cluster) -> None:
    cluster.kill()
    try:
        assert cluster.curl("http://shop.example/user").returncode == 0
        assert cluster.dig("user.shop.svc.cluster.local")
    finally:
        cluster.start()


def test_a_url_is_explained(cluster: Cluster) -> None:
    done = cluster.meshkube("route", "explain", "https://shop.example/user/7")
    assert "rule:         shop.example/user (Prefix) of Ingress shop/shop" in done.stdout
    assert "certificate:  Secret shop/shop-tls (for shop.example)" in done.stdout
    assert done.stdout.count("(pod shop/user-") == 2
    done = cluster.meshkube("route", "explain", "http://nobody.example/", check=False)
    assert done.returncode == 1
    assert "no Ingress has a rule for host nobody.example" in done.stdout


def test_an_answer_of_dns_is_explained(cluster: Cluster) -> None:
    done = cluster.meshkube("dns", "query", "user.shop")
    assert "user.shop.default.svc.cluster.local A: NXDOMAIN: there is no Service" in done.stdout
    address = cluster.dig("user.shop.svc.cluster.local")
    assert f"user.shop.svc.cluster.local. 5 IN A {address}" in done.stdout


@pytest.mark.parametrize("part", ["ingress", "dns"])
def test_a_missing_kubeconfig_is_one_clear_line(cluster: Cluster, part: str) -> None:
    done = cluster.host.run(MESHKUBE, part, "--kubeconfig=/nowhere", check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "/nowhere" in line


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ("dns", f"port 53 of {CLUSTER_DNS} is taken by another program"),
        ("ingress", "port 80 for http is taken by another process: stop it, or set --ingress-http"),
    ],
)
def test_a_taken_port_is_said_and_tried_again(cluster: Cluster, part: str, sentence: str) -> None:
    second = cluster.host.start(
        MESHKUBE, part, f"--kubeconfig={cluster.kubeconfig}", log=f"second-{part}.log"
    )
    log = cluster.host.directory / f"second-{part}.log"
    wait_for(lambda: "part restarts" in log.read_text(), 30, "the refusal")
    assert sentence in log.read_text()
    cluster.host.stop(second)
