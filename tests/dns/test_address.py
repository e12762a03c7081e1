"""The address of cluster DNS, on a host of the test's own."""

from __future__ import annotations

import os
import sys

import pytest

from tests.lab.host import lab

pytestmark = pytest.mark.root

ADDRESS = "10.43.0.10"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a network namespace")
def test_the_address_comes_once_and_goes_once():
    script = (
        "from meshkube.dns import address\n"
        f"address.ensure('{ADDRESS}'); address.ensure('{ADDRESS}')\n"
        f"print(address.teardown('{ADDRESS}'), address.teardown('{ADDRESS}'))\n"
    )
    with lab(1) as (host,):
        before = host.run("ip", "address", "show", "dev", "lo").stdout
        assert host.run(sys.executable, "-c", script).stdout == "True False\n"
        assert host.run("ip", "address", "show", "dev", "lo").stdout == before
