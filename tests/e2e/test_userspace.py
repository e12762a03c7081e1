"""The whole daemon as a user without any right: no kernel rule, no low port, a Docker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
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
    assert "pods of other nodes are out of reach" in told()[0]


def test_a_cluster_address_answers_processes_of_the_host(cluster: PlainUser) -> None:
    address = cluster.get("service", "user", "-n", "shop")["spec"]["clusterIP"]
    assert served_by(cluster.fetch(f"http://{address}/user")) == "user"


def test_names_are_answered_to_the_host_by_udp_and_tcp(cluster: PlainUser) -> None:
    address = cluster.get("service", "user", "-n", "shop")["spec"]["clusterIP"]
    for transport in ("+notcp", "+tcp"):
        answer = cluster.host.run(
            "dig", "+short", transport, "@10.43.0.10", "user.shop.svc.cluster.local"
        )
        assert answer.stdout.strip() == address


def in_a_pod(cluster: PlainUser, *command: str) -> subprocess.CompletedProcess[str]:
    (container, *_) = cluster.containers("name=mk_products")
    return cluster.host.docker("exec", container, *command, check=False)


def test_a_pod_reaches_services_by_name_and_by_environment(cluster: PlainUser) -> None:
    for place in ("user", "user.shop", "user.shop.svc.cluster.local"):
        answer = in_a_pod(cluster, "wget", "-q", "-O", "-", f"http://{place}/user")
        assert served_by(answer) == "user"
    shown = in_a_pod(cluster, "env").stdout.splitlines()
    told = dict(line.split("=", 1) for line in shown)
    assert (told["KUBERNETES_SERVICE_HOST"], told["KUBERNETES_SERVICE_PORT"]) == (
        "10.43.0.1",
        "443",
    )
    url = f"http://{told['USER_SERVICE_HOST']}:{told['USER_SERVICE_PORT']}/user"
    assert served_by(in_a_pod(cluster, "wget", "-q", "-O", "-", url)) == "user"


SAID = "192.0.2.9"
NAMESERVER = f"""
import socket, sys, dns.message, dns.rrset
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 5300))
while True:
    packet, asker = sock.recvfrom(512)
    answer = dns.message.make_response(dns.message.from_wire(packet))
    answer.answer = [dns.rrset.from_text(answer.question[0].name, 5, "IN", "A", "{SAID}")]
    sock.sendto(answer.to_wire(), asker)
"""


def udp_service(address: str) -> list[object]:
    """Names of another server as the Service `names`, without a selector."""
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "names", "namespace": "shop"},
            "spec": {"ports": [{"name": "dns", "protocol": "UDP", "port": 53}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": "names-1",
                "namespace": "shop",
                "labels": {"kubernetes.io/service-name": "names"},
            },
            "addressType": "IPv4",
            "ports": [{"name": "dns", "protocol": "UDP", "port": 5300}],
            "endpoints": [{"addresses": [address]}],
        },
    ]


def test_a_pod_reaches_a_udp_service_and_is_refused_other_ports(cluster: PlainUser) -> None:
    host = cluster.host
    host.start(sys.executable, "-c", NAMESERVER, host.address)
    file = host.directory / "names.json"
    made = {"apiVersion": "v1", "kind": "List", "items": udp_service(host.address)}
    file.write_text(json.dumps(made))
    cluster.meshkube("apply", "-f", str(file))
    address = cluster.get("service", "names", "-n", "shop")["spec"]["clusterIP"]

    def told() -> bool:
        return SAID in in_a_pod(cluster, "nslookup", "some.example", address).stdout

    wait_for(told, 30, "an answer by UDP")
    answer = in_a_pod(cluster, "wget", "-q", "-O", "-", "http://user:81/")
    assert "refused" in answer.stderr


def reaches(cluster: PlainUser) -> bool:
    return in_a_pod(cluster, "wget", "-q", "-O", "-", "http://user/user").returncode == 0


def test_services_are_back_after_the_gateways_end_and_the_daemons(cluster: PlainUser) -> None:
    gateways = cluster.containers("name=mk_gateway")
    cluster.host.docker("kill", "mk_gateway")
    wait_for(lambda: cluster.containers("name=mk_gateway") not in ([], gateways), 30, "another")
    wait_for(lambda: reaches(cluster), 30, "Services by another gateway")
    cluster.stop()
    wait_for(lambda: "mk_gateway" not in cluster.host.docker("ps", "-a").stdout, 10, "its removal")
    # The network that is left behind is no obstacle to the next start.
    at = cluster.command.index("server")
    doctor = (*cluster.command[:at], "doctor", f"--docker={cluster.host.docker_socket}")
    assert "overlaps" not in cluster.host.run(*doctor, check=False).stdout
    Cluster.start(cluster)
    wait_for(lambda: reaches(cluster), 10, "Services after a restart")


def test_nothing_was_done_to_the_kernel(cluster: PlainUser) -> None:
    assert "meshkube" not in cluster.host.run("nft", "list", "tables").stdout
    assert "10.43." not in cluster.host.run("ip", "route").stdout
