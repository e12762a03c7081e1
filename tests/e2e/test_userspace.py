"""The whole daemon as a user without any right: no kernel rule, no low port, a Docker."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import pytest

from tests.lab.cluster import MESHKUBE, Cluster
from tests.lab.host import lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(180)]
NOBODY = 65534
# What was installed for root may be unreadable for others: nothing else is lent to this user.
READS = "+dac_read_search"


class PlainUser(Cluster):
    """A daemon of `nobody`, who is of the group that may use Docker."""

    def start(self, timeout: float = 60) -> None:
        host = self.host
        os.chmod(host.directory, 0o755)
        home = host.directory / "home"
        home.mkdir()
        os.chown(home, NOBODY, NOBODY)
        group = os.stat(host.directory / "docker.sock").st_gid
        self.data_dir = home / ".local/share/meshkube"
        self.command = (
            "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", f"--groups={group}",
            f"--inh-caps=-all,{READS}", f"--ambient-caps=-all,{READS}",
            f"--bounding-set=-all,{READS}", "--no-new-privs",
            "env", "-u", "XDG_DATA_HOME", f"HOME={home}",
            MESHKUBE, "server", f"--node-name={host.name}", f"--docker={host.docker_socket}",
        )  # fmt: skip
        super().start(timeout)

    def fetch(self, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.host.run(
            "curl", "-sS", "--max-time", "5", "--noproxy", "*", *arguments, url, check=False
        )


@pytest.fixture(scope="module")
def cluster() -> Iterator[PlainUser]:
    with lab(1, docker=True) as (host,):
        made = PlainUser(host)
        made.build_image()
        made.start()
        made.apply_quickstart()
        service = {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "user-port", "namespace": "shop"},
            "spec": {
                "type": "LoadBalancer",
                "selector": {"app.kubernetes.io/name": "user"},
                "ports": [{"port": 8080, "targetPort": 8080, "nodePort": 30080}],
            },
        }
        selector = made.get("service", "user", "-n", "shop")["spec"]["selector"]
        service["spec"]["selector"] = selector
        file = host.directory / "port.json"
        file.write_text(json.dumps(service))
        made.meshkube("apply", "-f", str(file))
        yield made


def served_by(answer: subprocess.CompletedProcess[str]) -> str:
    assert answer.returncode == 0, answer.stderr
    return str(json.loads(answer.stdout)["service"])


def test_the_ingress_answers_by_url_path(cluster: PlainUser) -> None:
    for path in ("user", "products"):
        url = f"http://{cluster.host.address}:9080/{path}/7"
        assert served_by(cluster.fetch(url, "-H", "Host: shop.example")) == path
    name = "shop.example:9443"
    place = f"{name}:{cluster.host.address}"
    trust = ("--cacert", str(cluster.host.directory / "tls.crt"), "--resolve", place)
    assert served_by(cluster.fetch(f"https://{name}/user", *trust)) == "user"


def test_a_node_port_leads_to_both_pods(cluster: PlainUser) -> None:
    def pods() -> set[str]:
        answers = [cluster.fetch(f"http://{cluster.host.address}:30080/user") for _ in range(6)]
        return {json.loads(a.stdout)["pod"] for a in answers if a.returncode == 0}

    wait_for(lambda: len(pods()) == 2, 10, "both pods behind the node port")


def test_a_balancer_answers_at_the_nodes_address_pods_too(cluster: PlainUser) -> None:
    def ingress() -> object:
        status = cluster.get("service", "user-port", "-n", "shop")["status"]
        return status["loadBalancer"].get("ingress")

    address = cluster.host.address
    wait_for(lambda: ingress() == [{"ip": address, "ipMode": "VIP"}], 20, "the address")
    url = f"http://{address}:8080/user"
    wait_for(lambda: cluster.fetch(url).returncode == 0, 10, "an answer")
    assert served_by(cluster.fetch(url)) == "user"
    (container, *_) = cluster.containers("name=mk_products")
    answer = cluster.host.docker("exec", container, "wget", "-q", "-O", "-", url)
    assert json.loads(answer.stdout)["service"] == "user"


def test_the_node_says_what_its_pods_go_without(cluster: PlainUser) -> None:
    def told() -> list[str]:
        events = cluster.get("events")["items"]
        return [e["message"] for e in events if e["reason"] == "ServicesInUserspace"]

    wait_for(told, 10, "the Event")
    assert "resolve no cluster names" in told()[0]


def test_a_cluster_address_answers_processes_of_the_host(cluster: PlainUser) -> None:
    address = cluster.get("service", "user-port", "-n", "shop")["spec"]["clusterIP"]
    assert address.startswith("127.43.")
    assert served_by(cluster.fetch(f"http://{address}:8080/user")) == "user"
    # Port 80 is too low for this user: another answers, and the log says which, and why.
    address = cluster.get("service", "user", "-n", "shop")["spec"]["clusterIP"]
    assert served_by(cluster.fetch(f"http://{address}:10080/user")) == "user"
    assert f"{address}:80: this user may not listen on ports so low" in cluster.log


def test_names_are_answered(cluster: PlainUser) -> None:
    address = cluster.get("service", "user", "-n", "shop")["spec"]["clusterIP"]
    name = "user.shop.svc.cluster.local"
    answer = cluster.host.run("dig", "+short", "-p", "10053", "@127.43.0.10", name)
    assert answer.stdout.strip() == address


def test_a_pod_is_told_what_it_can_reach(cluster: PlainUser) -> None:
    (container, *_) = cluster.containers("name=mk_products")
    shown = cluster.host.docker("exec", container, "env").stdout.splitlines()
    told = dict(line.split("=", 1) for line in shown)
    place = (told["KUBERNETES_SERVICE_HOST"], told["KUBERNETES_SERVICE_PORT"])
    assert place == (cluster.host.address, "6443")
    url = f"http://{cluster.host.address}:30080/user"
    answer = cluster.host.docker("exec", container, "wget", "-q", "-O", "-", url)
    assert json.loads(answer.stdout)["service"] == "user"


def test_nothing_was_done_to_the_kernel(cluster: PlainUser) -> None:
    assert "meshkube" not in cluster.host.run("nft", "list", "tables").stdout
    assert "10.43." not in cluster.host.run("ip", "route").stdout
