"""`make demo` and `make down`, on a host of the test's own."""

from __future__ import annotations

import os

import pytest

from tests.lab.cluster import ROOT
from tests.lab.host import Host, lab

pytestmark = [pytest.mark.root, pytest.mark.docker, pytest.mark.timeout(240)]


@pytest.fixture
def host(_machine):
    with lab(1, docker=True) as (made,):
        yield made


def traces(host: Host) -> list[str]:
    """What a host has of containers, networks, rules, links, routes and addresses."""
    addresses = host.run("ip", "-o", "address", "show", "dev", "lo").stdout
    return [
        host.docker("ps", "-aq").stdout,
        host.docker("network", "ls", "--format", "{{.Name}}").stdout,
        host.docker("images", "-q").stdout,
        host.run("nft", "--stateless", "list", "ruleset").stdout,
        host.run("ip", "-br", "link").stdout,
        host.run("ip", "-4", "route", "show", "table", "all").stdout,
        # Counters and lifetimes move by themselves.
        "\n".join(line.split("valid_lft")[0] for line in addresses.splitlines()),
        str(sorted(os.listdir(host.directory))),
    ]


def test_the_demo_shows_its_proof_changes_nothing_twice_and_leaves_no_trace(host: Host):
    environment = (
        "env",
        f"DOCKER_HOST={host.docker_socket}",
        f"MESHKUBE_DEMO_DIR={host.directory}/demo",
        f"MESHKUBE_DATA_DIR={host.directory}/data",
        f"MESHKUBE_DOCKER={host.docker_socket}",
        "PATH=" + os.environ["PATH"] + ":/usr/sbin:/sbin",
    )

    def make(script: str) -> str:
        return host.run(*environment, str(ROOT / "scripts" / script), timeout=120).stdout

    before = traces(host)
    first = make("demo")
    assert "certificate verified" in first
    assert "user.shop.svc.cluster.local" in first
    assert "changes made" in first
    second = make("demo")
    assert "nothing was changed" in second
    assert "created" not in second
    down = make("down")
    assert "nothing of the demo is left" in down
    assert traces(host) == before
