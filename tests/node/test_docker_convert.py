"""Names, labels and bodies for Docker Engine, and its answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from meshkube.node import docker_convert as convert
from meshkube.node import image_names
from meshkube.node.docker_stats import stats_of
from meshkube.node.runtime import (
    SANDBOX,
    ContainerSpec,
    HostPort,
    Limits,
    Mount,
    PodRef,
    Resources,
    SandboxSpec,
    Security,
)

POD = PodRef("shop", "web-1", "u-1")
SPEC = ContainerSpec(
    pod=POD,
    name="c",
    attempt=2,
    sandbox_id="sss",
    image="web:1",
    image_id="sha256:i",
    image_digest="web@sha256:d",
    env=(("A", "b=c"),),
    mounts=(Mount("/src", "/dst", True),),
    resources=Resources(limits=Limits(0, 50_000, 1024), oom_score_adj=-997),
    security=Security(user="5:6", no_new_privileges=True),
    spec_hash="h",
    backoff=20.0,
    grace_period=7,
)
BOX = SandboxSpec(pod=POD, attempt=0, hostname="web-1", grace_period=7)


def test_names() -> None:
    assert convert.container_name(POD, SANDBOX, 0) == "mk_POD_web-1_shop_u-1"
    assert convert.container_name(POD, "c", 3) == "mk_c_web-1_shop_u-1_3"


def test_of_several_digests_the_one_that_was_asked_for_counts() -> None:
    digests = ["mirror.example/web@sha256:1", "web@sha256:2", "r.example/web@sha256:3"]

    def digest(reference: str) -> str:
        return convert.digest_of(image_names.parse(reference), digests)

    assert digest("web:1") == digest("docker.io/library/web") == "web@sha256:2"
    assert digest("r.example/web:1") == "r.example/web@sha256:3"
    assert digest("unknown:1") == "mirror.example/web@sha256:1"
    assert convert.digest_of(None, []) == ""


def inspected(body: dict[str, Any], **state: Any) -> dict[str, Any]:
    """What Docker says of a container made from `body`."""
    return {
        "Id": "i" * 64,
        "Created": "2026-01-01T00:00:00.123456789Z",
        "Image": "sha256:i",
        "Config": {"Labels": body["Labels"]},
        "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:01Z",
                  "FinishedAt": "0001-01-01T00:00:00Z", **state},
        "NetworkSettings": {"Networks": {"meshkube": {"IPAddress": "10.42.0.9"}}},
    }  # fmt: skip


def test_what_an_agent_must_know_comes_back_out_of_the_labels() -> None:
    found = convert.record(inspected(convert.container_body(SPEC)))
    assert found is not None
    assert (found.pod, found.name, found.attempt) == (POD, "c", 2)
    assert (found.backoff, found.grace_period, found.spec_hash) == (20.0, 7, "h")
    assert (found.image, found.image_id, found.sandbox_id) == ("web:1", "sha256:i", "sss")
    assert found.image_digest == "web@sha256:d"
    assert found.created == datetime(2026, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert found.finished is None
    sandbox = convert.record(inspected(convert.sandbox_body(BOX, "pause")))
    assert sandbox is not None
    assert (sandbox.name, sandbox.address) == (SANDBOX, "10.42.0.9")


def test_others_containers_are_none_of_ours() -> None:
    assert convert.record(inspected({"Labels": None})) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Status": "running"}, ("running", 0)),
        ({"Status": "paused"}, ("running", 0)),
        ({"Status": "created"}, ("created", 0)),
        ({"Status": "created", "Error": "no such file", "ExitCode": 127}, ("exited", 127)),
        ({"Status": "exited", "ExitCode": 3}, ("exited", 3)),
        ({"Status": "dead", "ExitCode": 137}, ("exited", 137)),
    ],
)
def test_states(state: dict[str, Any], expected: tuple[str, int]) -> None:
    found = convert.record(inspected(convert.container_body(SPEC), **state))
    assert found is not None
    assert (found.state, found.exit_code) == expected
    assert found.state != "exited" or found.finished is not None or "Error" not in state


def test_a_container_joins_its_sandbox() -> None:
    host = convert.container_body(SPEC)["HostConfig"]
    assert host["NetworkMode"] == host["IpcMode"] == "container:sss"
    assert host["Memory"] == host["MemorySwap"] == 1024
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["Mounts"][0]["ReadOnly"] is True
    shared = replace(SPEC, share_pid=True, host_network=True)
    host = convert.container_body(shared)["HostConfig"]
    assert (host["PidMode"], host["NetworkMode"]) == ("container:sss", "host")


def test_a_command_without_arguments_drops_the_images_arguments() -> None:
    assert "Entrypoint" not in convert.container_body(SPEC)
    body = convert.container_body(replace(SPEC, command=("run",)))
    assert (body["Entrypoint"], body["Cmd"]) == (["run"], [])
    body = convert.container_body(replace(SPEC, args=("x",)))
    assert "Entrypoint" not in body
    assert body["Cmd"] == ["x"]


def test_scores_stay_above_what_the_host_allows() -> None:
    assert convert.container_body(SPEC, 0)["HostConfig"]["OomScoreAdj"] == 0
    assert convert.container_body(SPEC)["HostConfig"]["OomScoreAdj"] == -997
    assert convert.sandbox_body(BOX, "p", 0)["HostConfig"]["OomScoreAdj"] == 0


def test_a_sandbox_holds_network_name_and_host_ports() -> None:
    body = convert.sandbox_body(replace(BOX, ports=(HostPort("", 80, 8080, "TCP"),)), "p")
    assert body["Hostname"] == "web-1"
    assert body["HostConfig"]["NetworkMode"] == "meshkube"
    assert body["HostConfig"]["PortBindings"] == {"8080/tcp": [{"HostIp": "", "HostPort": "80"}]}
    body = convert.sandbox_body(replace(BOX, host_network=True), "p")
    assert body["HostConfig"]["NetworkMode"] == "host"
    assert "Hostname" not in body


def test_the_network_lets_routes_in_where_docker_would_not() -> None:
    mode = "com.docker.network.bridge.gateway_mode_ipv4"
    old = convert.network_body(["10.42.0.0/24"], (1, 41))
    assert old["Options"]["com.docker.network.bridge.name"] == "meshkube0"
    assert old["Options"]["com.docker.network.bridge.enable_ip_masquerade"] == "false"
    assert mode not in old["Options"]
    assert convert.network_body(["10.42.0.0/24"], (1, 48))["Options"][mode] == "nat-unprotected"


@pytest.mark.parametrize(("mtu", "option"), [(0, None), (1500, None), (1450, "1450")])
def test_the_networks_mtu_is_said_where_it_is_not_dockers_own(mtu: int, option: str | None) -> None:
    body = convert.network_body(["10.42.0.0/24"], (1, 41), mtu)
    assert body["Options"].get("com.docker.network.driver.mtu") == option
    assert convert.network_mtu(body) == (mtu or 1500)


@pytest.mark.parametrize(
    ("reference", "full"),
    [
        ("web", "web:latest"),
        ("web:1", "web:1"),
        ("host:5000/web", "host:5000/web:latest"),
        ("web@sha256:a", "web@sha256:a"),
    ],
)
def test_image_names(reference: str, full: str) -> None:
    assert convert.normalized(reference) == full


def test_statistics_leave_out_what_can_be_dropped() -> None:
    found = stats_of(
        {
            "cpu_stats": {"cpu_usage": {"total_usage": 7}},
            "memory_stats": {"usage": 100, "stats": {"inactive_file": 30}},
        }
    )
    assert found is not None
    assert (found.cpu_nanoseconds, found.memory) == (7, 70)
    assert stats_of({"cpu_stats": {}, "memory_stats": {}}) is None
