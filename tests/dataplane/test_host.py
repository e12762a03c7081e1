"""What Services need of a host, in a host of the test's own."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from meshkube.dataplane import host as steps
from meshkube.dataplane import teardown
from meshkube.dataplane.services import Settings
from tests.lab.host import Host, lab
from tests.lab.pods import inside

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SETTINGS = Settings(node_name="h1", pod_cidrs=("10.42.0.0/16",), service_cidrs=("10.43.0.0/16",))


@pytest.fixture
def host() -> Iterator[Host]:
    with lab(1) as (made,), inside(made.name):
        yield made


def route(host: Host) -> str:
    return host.run("ip", "route", "show", "10.43.0.0/16").stdout


def test_a_prepared_host_stays_as_it_is(host: Host) -> None:
    assert steps.prepare(SETTINGS, host.address)
    before = route(host)
    assert f"src {host.address}" in before
    assert steps.prepare(SETTINGS, host.address) == []
    assert route(host) == before
    assert host.run("sysctl", "-n", "net.ipv4.ip_forward").stdout.strip() == "1"


def test_a_new_address_of_the_node_moves_the_route(host: Host) -> None:
    steps.prepare(SETTINGS, host.address)
    host.run("ip", "addr", "add", "192.0.2.5/32", "dev", "eth0")
    assert steps.prepare(SETTINGS, "192.0.2.5")
    assert "src 192.0.2.5" in route(host)


def test_an_address_that_is_not_on_the_host_is_left_out(
    host: Host, caplog: pytest.LogCaptureFixture
) -> None:
    steps.prepare(SETTINGS, "203.0.113.9")
    assert "dev lo" in route(host)
    assert "not on this host" in caplog.text
    assert steps.prepare(SETTINGS, "203.0.113.9") == []


def test_without_docker_there_is_nobody_to_ask(host: Host) -> None:
    assert steps.let_through(SETTINGS) == []


def test_teardown_takes_half_and_nothing(host: Host) -> None:
    host.run("ip", "route", "add", "198.51.100.0/24", "dev", "lo", "proto", "static")
    steps.prepare(SETTINGS, host.address)
    assert teardown() == ["route 10.43.0.0/16"]
    assert teardown() == []
    assert "198.51.100.0/24" in host.run("ip", "route").stdout
