"""A pod's search list, gone through in one round trip."""

from __future__ import annotations

from pathlib import Path

import dns.rcode
import pytest

from meshkube.dns import names
from meshkube.dns.autopath import Autopath
from tests.dns.servers import address, running_server

PATH = Autopath("cluster.local", ["corp.test"])
PATH.namespaces = {"shop"}


def walk(name: str) -> tuple[list[str], list[str]] | None:
    found = PATH.walk(names.encode(name))
    if found is None:
        return None
    return [names.decode(n) for n in found.inside], [names.decode(n) for n in found.outside]


def test_the_first_name_of_a_search_list_tells_the_others():
    assert walk("api.example.org.shop.svc.cluster.local") == (
        ["api.example.org.svc.cluster.local", "api.example.org.cluster.local"],
        ["api.example.org.corp.test", "api.example.org"],
    )


def test_a_single_label_is_never_asked_outside():
    assert walk("user.shop.svc.cluster.local") == (
        ["user.svc.cluster.local", "user.cluster.local"],
        [],
    )


@pytest.mark.parametrize(
    "name",
    [
        "example.org",
        "example.org.other.svc.cluster.local",
        "example.org.svc.cluster.local",
        "shop.svc.cluster.local",
        "svc.cluster.local",
        "example.org.shop.svc.other.local",
        "user.shop.svc.cluster.local.svc.cluster.local",
    ],
)
def test_other_names_begin_no_search_list(name):
    assert walk(name) is None


@pytest.fixture
async def running(tmp_path: Path):
    async with running_server(tmp_path, search=["corp.test"]) as server:
        yield server


async def test_a_name_outside_is_found_at_the_first_question(running):
    running.upstream.names["api.example.org."] = address("192.0.2.30")
    first = "api.example.org.default.svc.cluster.local"
    assert await running.addresses(first) == ["192.0.2.30", "api.example.org."]
    assert await running.addresses(first, tcp=True) == ["192.0.2.30", "api.example.org."]


async def test_the_hosts_own_search_list_comes_before_the_name_itself(running):
    running.upstream.names["git.dev.corp.test."] = address("192.0.2.31")
    running.upstream.names["git.dev."] = address("192.0.2.32")
    found = await running.addresses("git.dev.default.svc.cluster.local")
    assert found == ["192.0.2.31", "git.dev.corp.test."]


async def test_a_service_of_another_namespace_is_found_at_the_first_question(running):
    found = await running.addresses("kubernetes.default.kube-system.svc.cluster.local")
    assert found == ["10.43.0.1", "kubernetes.default.svc.cluster.local."]


async def test_what_is_nowhere_is_absent_and_soon_where_no_upstream_answers(running):
    name = "nowhere.example.default.svc.cluster.local"
    assert (await running.ask(name)).rcode() == dns.rcode.NXDOMAIN
    running.upstream.silent = True
    assert (await running.ask(f"x{name}")).rcode() == dns.rcode.NXDOMAIN
