"""Streams through the API to a pod, by unmodified kubectl in both of its transports: WebSockets and
SPDY, which older versions speak."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.cluster import IMAGE, Cluster, running_cluster
from tests.lab.host import wait_for
from tests.lab.terminal import Terminal
from tests.support import kubectl as client

pytestmark = [
    pytest.mark.root,
    pytest.mark.docker,
    pytest.mark.kubectl,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("kubectl"),
]

SERVE = """
mkdir -p /w/cgi-bin /w/dir; cd /w
echo inside >index.html; head -c 8000000 /dev/urandom >big
printf '<a href="/x">' >page.html
printf '#!/bin/sh\\necho; echo $REQUEST_METHOD $REQUEST_URI $HTTP_AUTHORIZATION; cat' >cgi-bin/tell
chmod +x cgi-bin/tell
printf 'HTTP/1.1 101 Switching\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n' >upgraded
cat >upgrade <<'end'
while read -r line && [ ${#line} -gt 1 ]; do :; done
cat /w/upgraded -
end
nc -ll -p 7000 -e sh /w/upgrade &
httpd -p 127.0.0.1:8080 -h /w
httpd -p 9090 -h /w
trap exit TERM; sleep 9999 & wait
"""
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "web"},
    "spec": {
        "selector": {"app": "web"},
        "ports": [{"name": "http", "port": 80, "targetPort": 9090}],
    },
}
READY = {"tcpSocket": {"port": 9090}, "periodSeconds": 1}
PODS = "/api/v1/namespaces/default/pods"
SERVICES = "/api/v1/namespaces/default/services"


def pod(name: str, script: str, **container: object) -> dict:
    main = {"name": "main", "image": IMAGE, "command": ["sh", "-c", script], **container}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [main]},
    }


@pytest.fixture(scope="module")
def cluster(_machine: None) -> Iterator[Cluster]:
    with running_cluster() as running:
        items = [
            pod("web", SERVE, readinessProbe=READY),
            pod("cat", "cat", stdin=True, tty=True),
            SERVICE,
        ]
        file = running.host.directory / "pods.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        running.kubectl("apply", "-f", str(file))
        running.kubectl("wait", "--for=condition=Ready", "pod", "--all", "--timeout=40s")
        yield running


class Typed:
    """kubectl as a person types it, in one of its transports."""

    def __init__(self, cluster: Cluster, websockets: bool) -> None:
        self.cluster = cluster
        on = str(websockets).lower()
        self.environment = (
            "env",
            f"HOME={cluster.host.directory}",
            f"KUBECONFIG={cluster.kubeconfig}",
            "TERM=xterm",
            f"KUBECTL_REMOTE_COMMAND_WEBSOCKETS={on}",
            f"KUBECTL_PORT_FORWARD_WEBSOCKETS={on}",
        )

    def command(self, *arguments: str) -> list[str]:
        return self.cluster.host.command(*self.environment, client.path(), *arguments)

    def __call__(self, *arguments: str, input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = self.command(*arguments)
        return subprocess.run(command, input=input, capture_output=True, timeout=60, check=False)


@pytest.fixture(params=[True, False], ids=["websocket", "spdy"])
def kubectl_by(cluster: Cluster, request: pytest.FixtureRequest) -> Typed:
    return Typed(cluster, request.param)


class Forwarded:
    """A running `kubectl port-forward`; use it in `with`."""

    def __init__(self, typed: Typed, *ports: str) -> None:
        self.typed = typed
        self._log = typed.cluster.host.directory / f"forward-{time.monotonic_ns()}.log"
        self._ports = ports

    @property
    def said(self) -> str:
        return self._log.read_text()

    def __enter__(self) -> Forwarded:
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                self.typed.command("port-forward", "pod/web", *self._ports),
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
            )
        last = self._ports[-1].partition(":")[0]
        wait_for(lambda: f"127.0.0.1:{last}" in self.said, 20, "port-forward")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(10)

    def curl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.typed.cluster.host.run("curl", "-sS", "-m", "20", *arguments, check=False)


def test_ports_are_forwarded_to_what_listens_on_the_pods_localhost(kubectl_by: Typed) -> None:
    with Forwarded(kubectl_by, "18080:8080", "19090:9090") as forwarded:
        for port in (18080, 19090):
            assert forwarded.curl(f"http://127.0.0.1:{port}/").stdout == "inside\n"
        parallel = [f"http://127.0.0.1:18080/?{number}" for number in range(24)]
        done = forwarded.curl("--parallel", "--parallel-immediate", *parallel)
        assert done.stdout == "inside\n" * 24
        big = forwarded.typed.cluster.host.directory / f"big-{time.monotonic_ns()}"
        forwarded.curl("-o", str(big), "http://127.0.0.1:18080/big")
        theirs = kubectl_by("exec", "web", "--", "sha256sum", "/w/big").stdout.split()[0]
        assert hashlib.sha256(big.read_bytes()).hexdigest() == theirs.decode()


def test_a_port_where_nobody_listens_is_told(kubectl_by: Typed) -> None:
    with Forwarded(kubectl_by, "18099:99") as forwarded:
        assert forwarded.curl("http://127.0.0.1:18099/").returncode != 0
        why = "failed to connect to localhost:99 inside pod web: Connection refused"
        wait_for(lambda: why in forwarded.said, 10, "the reason")


def test_exec_tells_streams_apart_and_how_it_ended(kubectl_by: Typed) -> None:
    done = kubectl_by("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.stdout, done.returncode) == (b"out\n", 7)
    assert done.stderr == b"err\ncommand terminated with exit code 7\n"
    done = kubectl_by("exec", "-i", "web", "--", "cat", input=b"typed")
    assert (done.stdout, done.returncode) == (b"typed", 0)


def test_a_terminal_has_its_size_and_its_keys(kubectl_by: Typed) -> None:
    command = kubectl_by.command("exec", "-it", "web", "--", "sh")
    with Terminal(command, columns=91, rows=37) as terminal:
        terminal.type("stty size\r")
        terminal.wait_for("37 91")
        terminal.type("exit 3\r")
        assert terminal.exit_code() != 0


def test_attach_joins_what_runs(kubectl_by: Typed) -> None:
    word = f"word{time.monotonic_ns()}"
    with Terminal(kubectl_by.command("attach", "-it", "cat")) as terminal:
        terminal.type(f"{word}\r")
        terminal.wait_for(f"{word}\r\n{word}")


def test_files_are_copied_both_ways(kubectl_by: Typed, tmp_path: Path) -> None:
    up, down = tmp_path / "up", tmp_path / "down"
    up.write_bytes(bytes(range(256)) * 12_000)
    assert kubectl_by("cp", str(up), "web:/tmp/up").returncode == 0
    assert kubectl_by("cp", "web:/tmp/up", str(down)).returncode == 0
    assert down.read_bytes() == up.read_bytes()


def test_run_with_a_terminal_leaves_nothing(cluster: Cluster) -> None:
    typed = Typed(cluster, True)
    arguments = ("run", "once", "-it", "--rm", "--restart=Never", f"--image={IMAGE}", "--")
    with Terminal(
        typed.command(*arguments, "sh", "-c", "sleep 1; read x; echo got $x")
    ) as terminal:
        time.sleep(2.5)
        terminal.type("it\r")
        terminal.wait_for("got it")
        terminal.wait_for('pod "once" deleted')


def test_debug_looks_into_a_running_container(cluster: Cluster) -> None:
    """It sees the processes of its target, and shares the pod's network."""
    look = "ps; wget -qO- http://127.0.0.1:8080/; exit 4"
    command = ("debug", "web", "-it", f"--image={IMAGE}", "--container=look", "--target=main")
    with Terminal(
        Typed(cluster, True).command(*command, "--", "sh", "-c", f"sleep 2; {look}")
    ) as shown:
        shown.wait_for("inside")
        shown.exit_code()
    assert " httpd -p 9090 -h /w" in shown.shown

    def ended() -> int:
        statuses = cluster.get("pod", "web")["status"].get("ephemeralContainerStatuses", [])
        found = [one["state"].get("terminated") for one in statuses if one["name"] == "look"]
        return found[0]["exitCode"] if found and found[0] else -1

    wait_for(lambda: ended() == 4, 15, "the end of the ephemeral container in the status")
    assert cluster.kubectl("logs", "web", "-c", "look").stdout.endswith("inside\n")
    assert cluster.get("pod", "web")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_debug_by_a_copy_and_on_a_node(cluster: Cluster) -> None:
    quiet = ("--attach=false", f"--image={IMAGE}")
    cluster.kubectl(
        "debug", "web", "--copy-to=copy", "--share-processes", *quiet, "--", "sleep", "99"
    )
    cluster.kubectl("wait", "--for=condition=Ready", "pod/copy", "--timeout=30s")
    made = cluster.kubectl("debug", f"node/{cluster.host.name}", *quiet, "--", "sleep", "99").stdout
    name = next(word for word in made.split() if word.startswith("node-debugger-"))
    cluster.kubectl("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=30s")
    assert cluster.kubectl("exec", name, "--", "ls", "/host/etc/hostname").returncode == 0
    cluster.kubectl("delete", "pod", "copy", name, "--now")


def raw(cluster: Cluster, path: str) -> str:
    return cluster.kubectl("get", "--raw", path).stdout


def test_proxy_reaches_pods_services_and_nodes(cluster: Cluster) -> None:
    assert raw(cluster, f"{PODS}/web:9090/proxy/") == "inside\n"
    for name in ("web", "web:80", "web:http", "http:web:80"):
        assert raw(cluster, f"{SERVICES}/{name}/proxy/index.html") == "inside\n"
    assert raw(cluster, f"/api/v1/nodes/{cluster.host.name}/proxy/healthz") == "ok"
    led = raw(cluster, f"{SERVICES}/web/proxy/page.html")
    assert led == f'<a href="{SERVICES}/web/proxy/x">'
    refused = cluster.kubectl("get", "--raw", f"{PODS}/web:99/proxy/", check=False)
    assert "error trying to reach service: dial 10.42.0" in refused.stderr
    nobody = cluster.kubectl("get", "--raw", f"{SERVICES}/web:81/proxy/", check=False)
    assert 'no service port 81 found for service "web"' in nobody.stderr


def test_kubectl_proxy_works_through_to_a_pod(cluster: Cluster) -> None:
    typed = Typed(cluster, True)
    process = subprocess.Popen(typed.command("proxy", "--port=8009"), stdout=subprocess.DEVNULL)
    base = "http://127.0.0.1:8009"

    def curl(*arguments: str) -> str:
        command = ("curl", "-sS", "-m", "20", *arguments)
        return cluster.host.run(*command, check=False).stdout

    try:
        wait_for(lambda: curl(f"{base}/healthz") == "ok", 10, "kubectl proxy")
        assert "301 Moved" in curl("-i", f"{base}{SERVICES}/web/proxy")
        assert f"{SERVICES}/web/proxy/dir/" in curl("-i", f"{base}{SERVICES}/web/proxy/dir")
        told = curl("-d", "body", f"{base}{PODS}/web:9090/proxy/cgi-bin/tell?a=%2F")
        assert told == "POST /cgi-bin/tell?a=%2F\nbody"
        upgraded = curl(
            "-i", "-N", "-H", "Connection: Upgrade", "-H", "Upgrade: echo", "--max-time", "1",
            f"{base}{PODS}/web:7000/proxy/",
        )  # fmt: skip
        assert "101 Switching" in upgraded
    finally:
        process.terminate()
        process.wait()


def test_proxy_wants_its_own_right(cluster: Cluster) -> None:
    cluster.kubectl("create", "role", "reader", "--verb=get", "--resource=pods,services")
    cluster.kubectl("create", "rolebinding", "reader", "--role=reader", "--user=eve")
    command = ("get", "--raw", f"{PODS}/web:9090/proxy/", "--as=eve")
    done = cluster.kubectl(*command, check=False)
    assert 'cannot get resource "pods/proxy"' in done.stderr
    cluster.kubectl("create", "role", "proxy", "--verb=get", "--resource=pods/proxy")
    cluster.kubectl("create", "rolebinding", "proxy", "--role=proxy", "--user=eve")
    assert cluster.kubectl(*command).stdout == "inside\n"
