"""A real cluster on a test host: the daemon as a user starts it, its own Docker, real clients."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.host import Host, lab, run, wait_for
from tests.support import kubectl

ROOT = Path(__file__).resolve().parents[2]
MESHKUBE = str(Path(sys.executable).parent / "meshkube")
QUICKSTART = ROOT / "examples/quickstart"
IMAGE = "meshkube/quickstart:1"
CLUSTER_DNS = "10.43.0.10"


class Cluster:
    """One host with a `meshkube server` on it."""

    def __init__(self, host: Host, *flags: str) -> None:
        self.host = host
        self.data_dir = host.directory / "meshkube"
        self.command = (
            MESHKUBE,
            "server",
            f"--data-dir={self.data_dir}",
            f"--node-name={host.name}",
            *flags,
        )
        self.server: subprocess.Popen[bytes] | None = None

    @property
    def kubeconfig(self) -> str:
        return str(self.data_dir / "kubeconfig.yaml")

    @property
    def log(self) -> str:
        """All that the daemon has logged so far."""
        return (self.host.directory / "meshkube.log").read_text()

    def start(self, timeout: float = 30) -> None:
        """Starts the daemon and waits until every part of it serves."""
        self.server = self.host.start(*self.command, log="meshkube.log")
        try:
            wait_for(self.ready, timeout, "meshkube server")
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log[-5000:]}") from None

    def ready(self) -> bool:
        """True while `/readyz` says so."""
        if self.server is not None and self.server.poll() is not None:
            raise RuntimeError(f"the daemon ended: {self.log[-5000:]}")
        answer = self.host.run(
            "curl", "-ks", "-o", "/dev/null", "-w", "%{http_code}", "https://127.0.0.1:6443/readyz",
            check=False,
        )  # fmt: skip
        return answer.stdout == "200"

    def stop(self) -> None:
        """Ends the daemon as an operator would; pods keep running."""
        assert self.server is not None
        self.host.stop(self.server)
        self.server = None

    def kill(self) -> None:
        """Ends the daemon without a word."""
        assert self.server is not None
        self.server.kill()
        self.server.wait()
        self.host.processes.remove(self.server)
        self.server = None

    def build_image(self) -> None:
        """The quickstart's image, in this host's own Docker."""
        done = subprocess.run(
            [str(QUICKSTART / "image/build")],
            env={"DOCKER_HOST": self.host.docker_socket, "PATH": _path()},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(done.stdout + done.stderr)

    def meshkube(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The `meshkube` command against this cluster."""
        return self._command(MESHKUBE, *arguments, check=check)

    def kubectl(
        self, *arguments: str, check: bool = True, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Unmodified kubectl, with nothing but the kubeconfig."""
        return self._command(kubectl.path(), *arguments, check=check, timeout=timeout)

    def _command(
        self, *command: str, check: bool, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        home = f"HOME={self.host.directory}"
        environment = ("env", home, f"KUBECONFIG={self.kubeconfig}", "EDITOR=false")
        return self.host.run(*environment, *command, check=check, timeout=timeout)

    def get(self, *arguments: str) -> Any:
        """What `kubectl get ... -o json` shows, or our own `get` where there is no kubectl."""
        return json.loads(self.meshkube("get", *arguments, "-o", "json").stdout)

    def curl(
        self, url: str, *arguments: str, host: str = "shop.example", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """A request through the ingress of this host."""
        port = 443 if url.startswith("https:") else 80
        return self.host.run(
            "curl", "-sS", "--max-time", "5", "--noproxy", "*",
            "--resolve", f"{host}:{port}:{self.host.address}", *arguments, url, check=check,
        )  # fmt: skip

    def dig(self, name: str, type: str = "A") -> str:
        """The short answer of cluster DNS."""
        done = self.host.run("dig", "+short", "+tries=1", f"@{CLUSTER_DNS}", name, type)
        return done.stdout.strip()

    def apply_quickstart(self) -> None:
        """The objects of examples/quickstart with a TLS Secret, all rolled out."""
        self.meshkube("apply", "-f", str(QUICKSTART / "namespace.yaml"))
        self.meshkube("apply", "-f", str(QUICKSTART))
        certificate, key = self.host.directory / "tls.crt", self.host.directory / "tls.key"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=shop.example",
            "-addext", "subjectAltName=DNS:shop.example",
            "-keyout", str(key), "-out", str(certificate))  # fmt: skip
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": "kubernetes.io/tls",
            "metadata": {"name": "shop-tls", "namespace": "shop"},
            "stringData": {"tls.crt": certificate.read_text(), "tls.key": key.read_text()},
        }
        file = self.host.directory / "secret.json"
        file.write_text(json.dumps(secret))
        self.meshkube("apply", "-f", str(file))
        wait_for(lambda: self.available("shop") == {"user": 2, "products": 2}, 60, "the quickstart")

    def routes(self, path: str) -> bool:
        """Whether the ingress answers the quickstart's `path` well.

        It learns of endpoints a moment after the status of their Deployment tells of them.
        """
        url = f"http://shop.example{path}"
        return self.curl(url, "-f", "-o", "/dev/null", check=False).returncode == 0

    def available(self, namespace: str) -> dict[str, int]:
        """Available replicas of each Deployment, of its latest generation only."""
        found = {}
        for item in self.get("deployments", "-n", namespace)["items"]:
            status = item.get("status", {})
            current = status.get("observedGeneration") == item["metadata"]["generation"]
            count = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0))
            found[item["metadata"]["name"]] = count if current else 0
        return found

    def containers(self, *filters: str) -> list[str]:
        """Ids of running containers that meshkube made, such as `name=mk_user`."""
        arguments = [f"--filter={each}" for each in filters or ("name=mk_",)]
        return self.host.docker("ps", "-q", "--no-trunc", *arguments).stdout.split()


def _path() -> str:
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@contextlib.contextmanager
def running_cluster(*flags: str, docker: bool = True) -> Iterator[Cluster]:
    """A started cluster on a test host of its own; with `docker=False` on the hollow runtime."""
    with lab(1, docker=docker) as (host,):
        runtime = f"--docker={host.docker_socket}" if docker else "--runtime=hollow"
        cluster = Cluster(host, runtime, *flags)
        if docker:
            cluster.build_image()
        cluster.start()
        yield cluster
