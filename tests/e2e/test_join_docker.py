"""A pod in the Docker of a host that has joined: its logs and a shell in it, through the server."""

from __future__ import annotations

import pytest

from tests.lab.agent import Agent
from tests.lab.cluster import IMAGE, Cluster
from tests.lab.host import lab, wait_for

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.kubectl]


def test_logs_and_exec_reach_a_pod_on_the_agent():
    with lab(2) as (first, second):
        second.start_docker()
        server = Cluster(first, "--runtime=hollow")
        server.start()
        # The image is built as the quickstart's is, in the Docker of the other host.
        Cluster(second).build_image()
        agent = Agent(second, first.address, f"--docker={second.docker_socket}")
        agent.start(server.meshkube("token", "create").stdout.strip())
        wait_for(lambda: server.meshkube("get", "nodes").stdout.count(" Ready") == 2, 30, "nodes")
        place = f'{{"spec":{{"nodeName":"{agent.name}"}}}}'
        server.kubectl("run", "far", f"--image={IMAGE}", f"--overrides={place}", "--command", "--",
                       "sh", "-c", "echo it runs; exec sleep 600")  # fmt: skip
        server.kubectl("wait", "pod/far", "--for=condition=Ready", "--timeout=60s", timeout=70)
        assert server.kubectl("logs", "far").stdout == "it runs\n"
        said = server.kubectl("exec", "far", "--", "sh", "-c", "echo $HOSTNAME; id -u").stdout
        assert said.split() == ["far", "0"]
        refused = second.run(
            "curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}",
            f"https://{second.address}:10250/containerLogs/default/far/far",
        )  # fmt: skip
        assert refused.stdout == "401", "somebody without a name read a log"
        server.kubectl("delete", "pod", "far", "--now")
