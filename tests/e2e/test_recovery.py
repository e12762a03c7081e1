"""Bad days: whatever is killed comes back by itself, and the other replica keeps answering."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster
from tests.lab.host import wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(240)]

# How long a request may meet the replica that was just killed before it is taken out.
INTERVAL = 0.05


class Asking:
    """A steady, slow stream of requests through the ingress, each by a client of its own."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.answers: list[str] = []
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            done = self.cluster.curl(
                "http://shop.example/user", "-w", "\n%{http_code}", check=False
            )
            body, _, code = done.stdout.rpartition("\n")
            if code == "200":
                self.answers.append(json.loads(body)["pod"])
            else:
                self.failures.append(f"{time.time():.2f} {code} {body} {done.stderr}")
            time.sleep(INTERVAL)


@pytest.fixture(autouse=True)
def _settled(cluster: Cluster) -> Iterator[None]:
    settle(cluster)
    yield
    settle(cluster)


def settle(cluster: Cluster) -> None:
    wanted = {"user": 2, "products": 2}
    wait_for(lambda: cluster.ready() and cluster.available("shop") == wanted, 60, "recovery")
    # One that is being replaced has its grace period to end.
    wait_for(lambda: len(cluster.get("pods", "-n", "shop")["items"]) == 4, 60, "four pods")
    # One sandbox and one container for each pod, and nothing else.
    wait_for(lambda: len(cluster.containers()) == 8, 30, "exactly one set of containers")


def restarts(cluster: Cluster) -> int:
    pods = cluster.get("pods", "-n", "shop")["items"]
    return sum(c["restartCount"] for pod in pods for c in pod["status"]["containerStatuses"])


def test_a_killed_container_comes_back(cluster: Cluster):
    before = restarts(cluster)
    with Asking(cluster) as asking:
        time.sleep(0.5)
        (container, *_) = cluster.containers("name=mk_user_")
        cluster.host.docker("kill", container)
        wait_for(lambda: restarts(cluster) == before + 1, 30, "the restart")
        wait_for(lambda: cluster.available("shop")["user"] == 2, 30, "both replicas")
        time.sleep(0.5)
    assert asking.failures == []
    assert asking.answers


def test_a_killed_process_in_a_pod_comes_back(cluster: Cluster):
    before = restarts(cluster)
    with Asking(cluster) as asking:
        (container, *_) = cluster.containers("name=mk_user_")
        pid = cluster.host.docker("inspect", "-f", "{{.State.Pid}}", container).stdout.strip()
        subprocess.run(["kill", "-KILL", pid], check=True)
        wait_for(lambda: restarts(cluster) == before + 1, 30, "the restart")
        wait_for(lambda: cluster.available("shop")["user"] == 2, 30, "both replicas")
    assert asking.failures == []


def test_a_killed_sandbox_is_made_anew(cluster: Cluster):
    with Asking(cluster) as asking:
        sandboxes = cluster.containers("name=mk_POD_user-")
        cluster.host.docker("kill", sandboxes[0])
        wait_for(
            lambda: (
                sandboxes[0] not in (found := cluster.containers("name=mk_POD_user-"))
                and len(found) == 2
            ),
            30,
            "a new sandbox",
        )
        wait_for(lambda: cluster.available("shop")["user"] == 2, 30, "both replicas")
    assert asking.failures == []


def test_a_killed_daemon_starts_again_and_restarts_no_container(cluster: Cluster):
    containers, before = cluster.containers(), restarts(cluster)
    rules = cluster.host.run("nft", "list", "table", "inet", "meshkube").stdout
    cluster.kill()
    # The kernel's rules serve on without it.
    service = "user.shop.svc.cluster.local"
    assert cluster.host.run("nft", "list", "table", "inet", "meshkube").stdout == rules
    cluster.start()
    assert cluster.dig(service)
    assert cluster.curl("http://shop.example/user").stdout
    assert sorted(cluster.containers()) == sorted(containers)
    assert restarts(cluster) == before


def test_a_stopped_daemon_leaves_workloads_running(cluster: Cluster):
    containers = cluster.containers()
    service = cluster.get("service", "user", "-n", "shop")
    cluster.stop()
    assert sorted(cluster.containers()) == sorted(containers)
    url = f"http://{service['spec']['clusterIP']}/user"
    answer = cluster.host.run("curl", "-sS", "--max-time", "5", "--noproxy", "*", url)
    assert json.loads(answer.stdout)["service"] == "user"
    cluster.start()


def kill_engine(cluster: Cluster) -> None:
    (engine,) = [p for p in cluster.host.processes if "dockerd" in str(p.args)]
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    cluster.host.processes.remove(engine)


def test_a_killed_engine_is_waited_for_and_pods_run_again(cluster: Cluster):
    kill_engine(cluster)
    time.sleep(1)
    cluster.host.start_docker()
    wait_for(lambda: cluster.available("shop") == {"user": 2, "products": 2}, 90, "recovery")
    wait_for(
        lambda: cluster.curl("http://shop.example/user", "-f", check=False).returncode == 0,
        30,
        "an answer",
    )


def test_with_live_restore_a_killed_engine_stops_no_container_and_no_answer(cluster: Cluster):
    kill_engine(cluster)
    cluster.host.start_docker("--live-restore")
    settle(cluster)
    containers = cluster.containers()
    with Asking(cluster) as asking:
        kill_engine(cluster)
        time.sleep(3)
        cluster.host.start_docker("--live-restore")
        time.sleep(2)
    assert asking.failures == []
    assert asking.answers
    assert sorted(cluster.containers()) == sorted(containers)


def test_requests_survive_a_rolling_restart(cluster: Cluster):
    file = cluster.host.directory / "again.json"
    deployment = cluster.get("deployment", "user", "-n", "shop")
    template = deployment["spec"]["template"]
    template["metadata"]["annotations"] = {"restarted-at": str(time.time())}
    again = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "user", "namespace": "shop"},
        "spec": deployment["spec"],
    }
    file.write_text(json.dumps(again))
    with Asking(cluster) as asking:
        cluster.meshkube("apply", "--force-conflicts", "-f", str(file))
        wait_for(lambda: cluster.available("shop")["user"] == 2, 60, "the rollout")
        time.sleep(1)
    assert asking.failures == []
    assert len(set(asking.answers)) >= 3
