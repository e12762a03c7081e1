"""The main job: two applications, reached by URL path and by name."""

from __future__ import annotations

import json
import sys

import pytest

from tests.dns.specification import ALL, objects
from tests.lab.cluster import CLUSTER_DNS, ROOT
from tests.lab.host import wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(180)]


@pytest.mark.parametrize("path", ["/user", "/products"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_both_replicas_answer_by_url_path(cluster, scheme, path):
    trust = ("--cacert", str(cluster.host.directory / "tls.crt")) if scheme == "https" else ()
    pods, asked = set(), 0
    # The second pod's endpoint may come a moment after the first one's.
    while len(pods) < 2 or asked < 20:
        asked += 1
        assert asked < 200, pods
        answer = json.loads(cluster.curl(f"{scheme}://shop.example{path}/7?a=b", *trust).stdout)
        assert answer["service"] == path.strip("/"), answer
        assert answer["path"] == f"{path}/7?a=b"
        assert answer["scheme"] == scheme
        assert answer["client"] == cluster.host.address
        pods.add(answer["pod"])


def test_a_path_without_a_rule_says_so(cluster):
    answer = cluster.curl("http://shop.example/nothing", "-w", "%{http_code}")
    assert answer.stdout.endswith("404")
    assert "shop.example" in answer.stdout


def test_the_dns_specification_is_kept(cluster):
    file = cluster.host.directory / "dns-specification.json"
    file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [*objects()]}))
    cluster.meshkube("apply", "-f", str(file))
    wait_for(lambda: cluster.dig(ALL), 10, "the last Service's name")
    asked = (sys.executable, "-m", "tests.dns.specification", CLUSTER_DNS)
    done = cluster.host.run(*asked, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_names_are_answered_by_cluster_dns(cluster):
    service = cluster.get("service", "user", "-n", "shop")
    name = "user.shop.svc.cluster.local"
    assert cluster.dig(name) == service["spec"]["clusterIP"]
    assert cluster.dig(f"_http._tcp.{name}", "SRV") == f"0 100 80 {name}."
    assert cluster.dig("nobody.shop.svc.cluster.local") == ""


def test_a_pod_reaches_a_service_by_its_short_name(cluster):
    (container, *_) = cluster.containers("name=mk_products")
    asked = ("exec", container, "wget", "-q", "-O", "-", "http://user/user")
    answer = json.loads(cluster.host.docker(*asked).stdout)
    assert answer["service"] == "user"


def test_a_service_answers_the_host_on_its_cluster_address(cluster):
    service = cluster.get("service", "user", "-n", "shop")
    url = f"http://{service['spec']['clusterIP']}/user"
    answer = cluster.host.run("curl", "-sS", "--max-time", "5", "--noproxy", "*", url)
    assert json.loads(answer.stdout)["service"] == "user"


def test_the_ingress_shows_its_address(cluster):
    ingress = cluster.get("ingress", "shop", "-n", "shop")
    assert ingress["status"]["loadBalancer"]["ingress"] == [{"ip": cluster.host.address}]


def test_applying_again_changes_nothing(cluster):
    from tests.lab.cluster import QUICKSTART

    lines = cluster.meshkube("apply", "-f", str(QUICKSTART)).stdout.splitlines()
    assert lines
    assert all(line.endswith(" unchanged") for line in lines)


def test_logs_are_shown(cluster):
    cluster.curl("http://shop.example/user/logged")
    pods = cluster.get("pods", "-n", "shop", "-l", "app.kubernetes.io/name=user")["items"]
    logs = [cluster.meshkube("logs", pod["metadata"]["name"], "-n", "shop").stdout for pod in pods]
    assert any("GET /user/logged" in log for log in logs)
    assert all(log.startswith("serving on port 8080") for log in logs)
    one = cluster.meshkube("logs", "deploy/user", "-n", "shop", "--tail=1")
    assert one.stdout
    assert one.stderr in {f"Found 2 pods, using pod/{pod['metadata']['name']}\n" for pod in pods}
    log = cluster.meshkube("logs", "svc/user", "-n", "shop").stdout
    assert log.startswith("serving on port 8080")
