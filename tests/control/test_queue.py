"""The work queue: once each, one at a time, later and later."""

from __future__ import annotations

import asyncio

import pytest

from meshkube.control.queue import WorkQueue, retry_delay


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0.005), (2, 0.01), (8, 0.64), (18, 655.36), (19, 1000), (500, 1000)],
)
def test_delays_grow_from_5_ms_to_1000_s(failures: int, seconds: float) -> None:
    assert retry_delay(failures) == pytest.approx(seconds)


async def test_a_key_waits_once() -> None:
    queue = WorkQueue()
    for key in ("a", "b", "a"):
        queue.add(key)
    assert len(queue) == 2
    assert [await queue.get(), await queue.get()] == ["a", "b"]


async def test_a_key_added_while_worked_on_comes_again_after() -> None:
    queue = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.02)
    queue.done("a")
    assert await queue.get() == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_of_several_times_the_earliest_counts() -> None:
    queue = WorkQueue()
    queue.add_after("a", 60)
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    assert await asyncio.wait_for(queue.get(), 2) == "a"
    queue.close()


async def test_success_resets_the_delay() -> None:
    queue = WorkQueue()
    assert queue.failed("a") == pytest.approx(0.005)
    assert queue.failed("a") == pytest.approx(0.01)
    assert queue.failed("a", at_least=1) == 1
    queue.forget("a")
    assert queue.failed("a") == pytest.approx(0.005)
    queue.close()
