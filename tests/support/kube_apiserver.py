"""Kubernetes' own API server over one etcd: a part that has a kubeconfig alone may meet it."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.harness import free_port
from meshkube import credentials
from tests.support import etcd

ROOT = Path(__file__).parents[2]


def why_no_kube_apiserver() -> str:
    """Why it cannot run here; empty where it can. It is not built for this: that takes minutes."""
    if etcd.ETCD is None:
        return "no etcd on this machine"
    return "" if _binary().exists() else f"no kube-apiserver: {ROOT}/scripts/need-kube-apiserver"


def _binary() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = (ROOT / "scripts/need-kube-apiserver").read_text().partition("/meshkube/")[2]
    return cache / "meshkube" / name.split()[0]


@contextlib.contextmanager
def kube_apiserver(directory: Path, service_cidr: str) -> Iterator[Path]:
    """The kubeconfig of its admin. No controller runs beside it."""
    directory.mkdir()
    pki = directory / "pki"
    keys = credentials.ensure(pki, node_name="kube", addresses=[], domain="cluster.local")
    port = free_port()
    with etcd.etcd() as cluster, (directory / "log").open("wb") as log:
        command = [
            str(_binary()),
            f"--etcd-servers={cluster.url.replace('etcd://', 'http://')}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            f"--tls-cert-file={pki / 'api-server.crt'}",
            f"--tls-private-key-file={pki / 'api-server.key'}",
            f"--client-ca-file={pki / 'ca.crt'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={pki / 'admin.crt'}",
            f"--service-account-signing-key-file={pki / 'admin.key'}",
            f"--service-cluster-ip-range={service_cidr}",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ]
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            url = f"https://127.0.0.1:{port}"
            _wait(url, keys.client_context("admin"))
            kubeconfig = directory / "kubeconfig.yaml"
            credentials.write_kubeconfig(kubeconfig, keys, url)
            yield kubeconfig
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str, tls: ssl.SSLContext) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{url}/readyz", context=tls, timeout=5) as answer,
        ):
            if answer.status == 200:
                return
        time.sleep(0.2)
    raise TimeoutError("kube-apiserver is not ready")
