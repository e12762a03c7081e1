"""Certificates that end while they are used: renewed, shown, and no connection notices."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from meshkube import pki
from tests.lab.agent import Agent
from tests.lab.cluster import Cluster
from tests.lab.host import lab, wait_for

pytestmark = [pytest.mark.root]
LIFE = 20


def served(host: object, address: str, port: int, directory: Path) -> bytes:
    """The certificate that a listener shows now."""
    done = host.run(  # type: ignore[attr-defined]
        "openssl", "s_client", "-connect", f"{address}:{port}", "-showcerts", check=False
    )
    text = done.stdout
    assert "BEGIN CERTIFICATE" in text, done.stderr
    return text[text.index("-----BEGIN") : text.index("-----END CERTIFICATE") + 25].encode() + b"\n"


def test_every_certificate_is_renewed_while_everything_goes_on():
    with lab(2) as (first, second):
        cluster = Cluster(first, "--runtime=hollow", f"--certificate-lifetime={LIFE}s")
        cluster.start()
        agent = Agent(second, first.address, "--runtime=hollow")
        agent.start(cluster.meshkube("token", "create").stdout.strip())
        names = ("node-client", "node-server")
        files = [agent.pki / f"{name}.crt" for name in names]
        wait_for(lambda: all(file.exists() for file in files), 20, "the agent's certificates")
        started = time.monotonic()
        before = [file.read_bytes() for file in files]
        api, node = (served(second, first.address, port, agent.pki) for port in (6443, 10250))
        own = served(second, second.address, 10250, agent.pki)
        kubeconfig = Path(cluster.kubeconfig).read_bytes()
        watch = second.start(
            "curl", "-sN", "--cacert", str(agent.pki / "ca.crt"), "--cert", str(files[0]),
            "--key", str(agent.pki / "node.key"),
            f"https://{first.address}:6443/api/v1/services?watch=true", log="watch.log",
        )  # fmt: skip
        # Longer than any of them lived: what works now works on new ones.
        time.sleep(max(0.0, LIFE * 1.5 - (time.monotonic() - started)))
        for file, old in zip(files, before, strict=True):
            assert file.read_bytes() != old
            assert pki.remaining(file.read_bytes()).total_seconds() > 0
        assert served(second, first.address, 6443, agent.pki) != api
        assert served(second, first.address, 10250, agent.pki) != node
        assert served(second, second.address, 10250, agent.pki) != own
        assert Path(cluster.kubeconfig).read_bytes() != kubeconfig
        pages = cluster.meshkube("get", "nodes").stdout
        assert pages.count(" Ready") == 2
        # A connection that began before goes on: nobody was cut off, nothing started again.
        assert watch.poll() is None
        cluster.meshkube("apply", "-f", str(_service(first.directory)))
        log = second.directory / "watch.log"
        wait_for(lambda: "rotated" in log.read_text(), 5, "an event on the old connection")
        for text in (cluster.log, agent.log_since_start):
            assert "part failed" not in text
        # What a node shows must still be good: an ended certificate opens nothing.
        ended = second.directory / "ended.crt"
        ended.write_bytes(before[0])
        refused = second.run(
            "curl", "-s", "--cacert", str(agent.pki / "ca.crt"), "--cert", str(ended),
            "--key", str(agent.pki / "node.key"),
            f"https://{first.address}:6443/api/v1/services", check=False,
        )  # fmt: skip
        assert refused.returncode != 0


def _service(directory: Path) -> Path:
    file = directory / "service.yaml"
    file.write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: rotated}\nspec: {ports: [{port: 80}]}\n"
    )
    return file
