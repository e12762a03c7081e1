"""The lab itself: a fault does what its name says, and healing ends it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence

import pytest

from tests.lab.host import Host, lab
from tests.lab.shell import wait_for
from tests.lab.switch import Fault, ruleset

SILENCE = math.inf


def test_a_cut_drops_both_ways_and_loss_drops_a_share() -> None:
    text = ruleset([Fault(1, 2), Fault(1, 3, percent=20, port=2379)])
    assert 'iifname "p1" oifname "p2" drop' in text
    assert 'iifname "p2" oifname "p1" drop' in text
    assert 'iifname "p1" oifname "p3" tcp dport 2379 numgen random mod 100 < 20 drop' in text
    assert 'iifname "p3" oifname "p1" tcp sport 2379 numgen random mod 100 < 20 drop' in text


def test_no_fault_is_an_empty_chain() -> None:
    assert "drop" not in ruleset([])


@pytest.fixture(scope="module")
def hosts() -> Iterator[Sequence[Host]]:
    if os.geteuid() != 0:
        pytest.skip("needs root, for network namespaces")
    with lab(3) as found:
        yield found


def milliseconds(one: Host, other: Host) -> float:
    """How long a new connection takes to be refused by the other host; without end where nobody
    answers."""
    url = f"http://{other.address}:9/"
    done = one.run(
        "curl", "-sS", "-m", "1", "--noproxy", "*", "-w", "%{time_total}", url, check=False
    )
    if done.returncode != 7:
        return SILENCE
    found = re.search(r"[0-9.]+$", done.stdout)
    assert found is not None
    return float(found[0]) * 1000


@pytest.mark.root
def test_a_cut_link_is_silent_and_others_are_not(hosts: Sequence[Host]) -> None:
    one, other, third = hosts
    assert milliseconds(one, other) < SILENCE
    one.switch.set_faults(Fault(one.number, other.number))
    assert milliseconds(one, other) == SILENCE
    assert milliseconds(one, third) < SILENCE
    one.switch.set_faults()
    assert milliseconds(one, other) < SILENCE


@pytest.mark.root
def test_a_delayed_link_is_slow_until_it_is_healed(hosts: Sequence[Host]) -> None:
    one, other, third = hosts
    one.switch.delay(other.number, 100)
    assert 200 <= milliseconds(one, other) < SILENCE
    assert milliseconds(one, third) < 200
    one.switch.undelay(other.number)
    assert milliseconds(one, other) < 200


@pytest.mark.root
def test_a_host_that_lost_its_power_runs_nothing_and_comes_back_with_its_files(
    hosts: Sequence[Host],
) -> None:
    one, other, _ = hosts
    process = other.start("sleep", "1000")
    (other.directory / "kept").write_text("x")
    other.switch_off()
    assert process.poll() is not None
    assert milliseconds(one, other) == SILENCE
    other.switch_on()
    wait_for(lambda: milliseconds(one, other) < SILENCE, 10, "an answer of the host")
    assert (other.directory / "kept").exists()
