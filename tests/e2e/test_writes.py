"""Writes under kills and partitions, a short run on each store; `make chaos` has 10,000 of them."""

from __future__ import annotations

import pytest

from tests.support import etcd
from tests.support.writes import Acknowledged, check, run

HISTORY = [(3, "a", 1), (5, "b", 1), (6, "a", 2)]


def told(key: str, number: int, revision: int, sent: float, told: float) -> Acknowledged:
    return Acknowledged(key, number, revision, sent, told)


FINE = [told("a", 1, 3, 0.0, 1.0), told("b", 1, 5, 0.5, 2.0), told("a", 2, 6, 1.5, 3.0)]


def test_what_is_stored_as_it_was_told_is_fine() -> None:
    assert check(FINE, HISTORY) == []
    assert check(FINE[1:], HISTORY) == []


@pytest.mark.parametrize(
    ("acknowledged", "history", "why"),
    [
        (FINE, HISTORY[:-1], "is not stored: None"),
        (FINE, [(3, "a", 7), *HISTORY[1:]], "is not stored: ('a', 7)"),
        (FINE[1:], [*HISTORY[:-1], (6, "a", 2), (7, "a", 1)], "7: a went back to 1"),
        ([told("a", 2, 6, 0, 1), told("b", 1, 5, 2, 3)], HISTORY, "comes before what was told"),
    ],
)
def test_what_is_lost_changed_or_out_of_order_is_found(
    acknowledged: list[Acknowledged], history: list[tuple[int, str, int]], why: str
) -> None:
    assert any(why in wrong for wrong in check(acknowledged, history))


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", ["sqlite", "etcd"])
async def test_every_acknowledged_write_is_there_and_in_order(backend: str) -> None:
    if backend == "etcd" and etcd.ETCD is None:
        pytest.skip("etcd is not installed")
    report = await run(backend, writes=400, seed=3, pause=0.4)
    assert report.violations == []
    assert report.faults
