"""Requests under way: a bounded number, and each user in turn."""

from __future__ import annotations

import asyncio

import pytest

from meshkube.control.apiserver.fairness import Fairness


async def _serve(fairness: Fairness, user: str, served: list[str]) -> None:
    leave = await fairness.enter(user)
    served.append(user)
    await asyncio.sleep(0)
    leave()
    leave()  # once more changes nothing


async def test_each_user_is_served_in_turn_whoever_asks_for_more() -> None:
    fairness, served = Fairness(places=1), list[str]()
    async with asyncio.TaskGroup() as group:
        for user in ("busy", "busy", "busy", "busy", "one", "two"):
            group.create_task(_serve(fairness, user, served))
    assert served == ["busy", "busy", "one", "two", "busy", "busy"]
    assert (fairness._free, fairness._waiting) == (1, {})


async def test_no_more_are_under_way_than_there_are_places() -> None:
    fairness, under_way, most = Fairness(places=3), 0, 0

    async def serve(user: str) -> None:
        nonlocal under_way, most
        leave = await fairness.enter(user)
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        leave()

    async with asyncio.TaskGroup() as group:
        for number in range(30):
            group.create_task(serve(f"user-{number % 4}"))
    assert most == 3
    assert fairness._free == 3


async def test_who_gives_up_waiting_keeps_no_place() -> None:
    fairness = Fairness(places=1)
    leave = await fairness.enter("first")
    waiting = [asyncio.create_task(fairness.enter("second")) for _ in range(2)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    leave()  # given to the other one, which is cancelled before it notices
    waiting[1].cancel()
    for task in waiting:
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (fairness._free, fairness._waiting) == (1, {})
