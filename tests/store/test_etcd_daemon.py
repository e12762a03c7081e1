"""The daemon on etcd: started before it, and moved from SQLite to it and back."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.harness import free_port
from tests.support import etcd

MESHKUBE = str(Path(sys.executable).parent / "meshkube")
pytestmark = pytest.mark.skipif(etcd.ETCD is None, reason="etcd is not installed")

MANIFEST = """
apiVersion: v1
kind: ConfigMap
metadata: {name: NAME, namespace: default}
data: {a: "1"}
"""


class Daemon:
    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [MESHKUBE, *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def kube(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        kubeconfig = self.data_dir / "kubeconfig.yaml"
        return self.run(*arguments, "--kubeconfig", str(kubeconfig), check=check)

    def make(self, name: str) -> None:
        manifest = self.data_dir / f"{name}.yaml"
        manifest.write_text(MANIFEST.replace("NAME", name))
        self.kube("apply", "-f", str(manifest))

    def names(self) -> set[str]:
        lines = self.kube("get", "configmaps").stdout.splitlines()[1:]
        return {line.split()[0] for line in lines}

    @contextlib.contextmanager
    def serving(self, store: str, wait: bool = True) -> Iterator[None]:
        with (self.data_dir / "log").open("ab") as log:
            process = subprocess.Popen(
                [
                    MESHKUBE,
                    "server",
                    f"--store={store}",
                    f"--data-dir={self.data_dir}",
                    f"--listen=127.0.0.1:{free_port()}",
                    "--runtime=hollow",
                    "--disable=node,dataplane,dns,ingress",
                ],
                stdout=log,
                stderr=log,
            )
        try:
            if wait:
                self.until_ready()
            yield
        finally:
            process.terminate()
            assert process.wait(20) == 0

    def until_ready(self) -> None:
        deadline = time.monotonic() + 60
        while self.kube("get", "namespaces", "default", check=False).returncode:
            assert time.monotonic() < deadline, (self.data_dir / "log").read_text()
            time.sleep(0.1)


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    return Daemon(tmp_path)


def test_a_daemon_waits_for_etcd_and_outlives_its_restart(daemon: Daemon) -> None:
    with etcd.etcd(wait=False) as cluster:
        cluster.members[0].kill()
        with daemon.serving(cluster.url, wait=False):
            time.sleep(1)
            cluster.start()
            daemon.until_ready()
            daemon.make("before")
            cluster.members[0].kill()
            cluster.start()
            daemon.until_ready()
            daemon.make("after")
            assert {"before", "after"} <= daemon.names()


def test_all_moves_from_sqlite_to_etcd_and_back(daemon: Daemon, etcd_url: str) -> None:
    here = f"--data-dir={daemon.data_dir}"
    with daemon.serving("sqlite"):
        daemon.make("one")
        busy = daemon.run("store", "copy", "--from=sqlite", f"--to={etcd_url}", here, check=False)
        assert busy.returncode == 2
        assert "in use" in busy.stderr
        daemon.run("store", "snapshot", str(daemon.data_dir / "saved"), here)
    daemon.run("store", "copy", "--from=sqlite", f"--to={etcd_url}", here)
    with daemon.serving(etcd_url):
        assert "one" in daemon.names()
        daemon.make("two")
    (daemon.data_dir / "store.db").unlink()
    daemon.run("store", "copy", f"--from={etcd_url}", "--to=sqlite", here)
    with daemon.serving("sqlite"):
        assert {"one", "two"} <= daemon.names()
    (daemon.data_dir / "store.db").unlink()
    daemon.run("store", "restore", str(daemon.data_dir / "saved"), here)
    with daemon.serving("sqlite"):
        assert "one" in daemon.names()
        assert "two" not in daemon.names()


def test_a_bad_store_is_one_line_and_no_daemon(daemon: Daemon) -> None:
    for store, says in (
        ("mysql", "--store: 'mysql' is neither sqlite nor etcd://HOST:PORT"),
        ("etcd://a:b", "--store: 'etcd://a:b': 'b' is not a port"),
    ):
        done = daemon.run(
            "server", f"--store={store}", f"--data-dir={daemon.data_dir}", check=False
        )
        assert done.returncode == 2
        assert says in done.stderr
        assert "Traceback" not in done.stderr
