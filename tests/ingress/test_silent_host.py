"""A host that falls silent says no good-bye: no reset, no end of a connection. Its pods' requests
go elsewhere long before anybody takes it out of service."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.lab.host import Host, lab
from tests.lab.shell import wait_for
from tests.lab.switch import ROOT
from tests.lab.traffic import Traffic

pytestmark = [pytest.mark.root]

PYTHON = (sys.executable, "-m", "tests.support.ingress_process")


@pytest.fixture(params=["0", "1"], ids=["quick pods", "pods that take a second"])
def hosts(request: pytest.FixtureRequest) -> Iterator[Sequence[Host]]:
    """The ingress' host, two hosts with a pod each, and a client's."""
    if os.geteuid() != 0 or shutil.which("nft") is None:
        pytest.skip("needs root and nft, for test hosts")
    with lab(4) as found:
        front, one, other, _ = found
        for host in (one, other):
            host.start(*PYTHON, "pod", "8080", host.name, request.param, cwd=ROOT)
        pods = [f"{host.address}:8080" for host in (one, other)]
        front.start(*PYTHON, "proxy", "80", *pods, cwd=ROOT, log="proxy.log")
        wait_for(lambda: front.run("ss", "-Hltn", "sport = :80").stdout, 20, "the ingress")
        yield found


def test_requests_to_the_pods_of_a_silent_host_are_answered_by_others(hosts: Sequence[Host]):
    front, silent, other, client = hosts
    with Traffic(client, [f"http://{front.address}/"], rate=20, limit=15) as traffic:
        wait_for(lambda: len(traffic.pods()) == 2, 20, "answers of both pods")
        time.sleep(1)
        silent.switch_off()
        died = time.monotonic()
        time.sleep(12)
    assert traffic.failed() == []
    assert traffic.pods(since=died + 6) == {other.name}
    # 3 s of silence, and a connection that is not made within 1.2 s.
    slowest = max(one.took for one in traffic.outcomes())
    assert slowest < 8
    later = [one.took for one in traffic.outcomes() if one.at > died + 6]
    assert sorted(later)[len(later) // 2] < 2
