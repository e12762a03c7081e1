"""helm, with a chart of our own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHART = str(Path(__file__).parent / "chart")


@pytest.fixture(scope="session")
def binary() -> str:
    """Where helm is. Built once where there is go, which takes minutes."""
    done = subprocess.run([ROOT / "scripts/need-helm"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.strip())
    return done.stdout.strip()


@pytest.fixture
def helm(binary, cluster, namespace):
    """Runs helm in a namespace of its own; gives what it prints."""

    def run(*arguments: str, fails: bool = False) -> str:
        home = f"HOME={cluster.host.directory}"
        environment = ("env", home, f"KUBECONFIG={cluster.kubeconfig}")
        command = (*environment, binary, "-n", namespace, *arguments)
        done = cluster.host.run(*command, check=False, timeout=100)
        assert (done.returncode != 0) is fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    run.namespace = namespace
    return run


pytestmark = pytest.mark.timeout(900)


def test_install_wait_upgrade_rollback_uninstall(helm, cluster):
    def deployed(path: str) -> str:
        where = ("deployment", "shop", "-n", helm.namespace)
        return json.dumps(cluster.get(*where)["spec"][path])

    said = helm("install", "shop", CHART, "--wait", "--wait-for-jobs", "--timeout=60s")
    assert "shop says hello on Kubernetes v1.33" in said
    helm("upgrade", "shop", CHART, "--set=replicas=2", "--set=greeting=hi", "--wait")
    assert deployed("replicas") == "2"
    assert '"greeting":"hi"' in helm("get", "values", "shop", "-o", "json")
    helm("rollback", "shop", "1", "--wait")
    assert deployed("replicas") == "1"
    history = json.loads(helm("history", "shop", "-o", "json"))
    assert [entry["status"] for entry in history] == ["superseded", "superseded", "deployed"]
    assert 'release "shop" uninstalled' in helm("uninstall", "shop", "--wait")
    for kind in ("deployments", "services", "serviceaccounts", "configmaps"):
        left = cluster.get(kind, "-n", helm.namespace)["items"]
        assert {item["metadata"]["name"] for item in left} <= {"default", "kube-root-ca.crt"}


def test_hooks_run_before_and_after_and_as_a_test(helm, cluster):
    helm("install", "shop", CHART, "--set=replicas=0")
    jobs = cluster.get("jobs", "-n", helm.namespace)["items"]
    assert {job["metadata"]["name"] for job in jobs} == {"shop-pre-install", "shop-post-install"}
    assert all(job["status"]["succeeded"] == 1 for job in jobs)
    assert "Succeeded" in helm("test", "shop")


def test_a_failed_hook_fails_the_release_and_atomic_takes_it_back(helm):
    said = helm("install", "shop", CHART, "--set=fail=true", "--timeout=20s", fails=True)
    assert "pre-install" in said
    assert '"failed"' in helm("list", "--all", "-o", "json")
    helm("uninstall", "shop", "--no-hooks")
    arguments = ("install", "shop", CHART, "--set=image=no/such:1", "--atomic", "--timeout=5s")
    helm(*arguments, "--no-hooks", fails=True)
    assert json.loads(helm("list", "--all", "-o", "json")) == []


def test_template_dry_run_and_status(helm):
    assert "kind: Deployment" in helm("template", "shop", CHART)
    helm("install", "shop", CHART, "--dry-run=server", "--set=replicas=0")
    helm("upgrade", "--install", "shop", CHART, "--set=replicas=0", "--no-hooks")
    assert json.loads(helm("status", "shop", "-o", "json"))["info"]["status"] == "deployed"
    assert "greeting" in helm("get", "manifest", "shop")
