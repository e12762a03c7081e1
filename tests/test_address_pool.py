"""Pools of addresses: what is read, what is in, what is given next."""

from __future__ import annotations

import pytest

from meshkube.address_pool import Pool, parse


def free(pool: Pool, count: int, version: int = 4) -> list[str]:
    taken: list[str] = []
    while len(taken) < count and (found := pool.first_free(version, taken)):
        taken.append(found)
    return taken


def test_cidrs_ranges_and_single_addresses_in_order() -> None:
    pool = parse(["192.0.2.8/30", " 198.51.100.1-198.51.100.2", "203.0.113.7"])
    assert free(pool, 9) == [
        "192.0.2.8", "192.0.2.9", "192.0.2.10", "192.0.2.11",
        "198.51.100.1", "198.51.100.2", "203.0.113.7",
    ]  # fmt: skip


def test_the_ends_of_a_network_are_not_given_but_may_be_asked_for() -> None:
    pool = parse(["192.0.2.254-192.0.3.1"])
    assert free(pool, 9) == ["192.0.2.254", "192.0.3.1"]
    assert "192.0.2.255" in pool
    assert "192.0.3.2" not in pool
    assert "nonsense" not in pool


def test_both_families_side_by_side() -> None:
    pool = parse(["192.0.2.1", "2001:db8::/127"])
    assert free(pool, 9, 6) == ["2001:db8::", "2001:db8::1"]
    assert (pool.has(4), pool.has(6), parse([]).has(4)) == (True, True, False)


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        (["192.0.2.1/24"], "host bits"),
        (["192.0.2.9-192.0.2.1"], "lower to a higher"),
        (["192.0.2.1-2001:db8::1"], "lower to a higher"),
        (["web"], "web"),
        (["192.0.2.0/28", "192.0.2.4-192.0.2.40"], "overlaps"),
    ],
)
def test_what_is_no_pool_is_refused(parts: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse(parts)
