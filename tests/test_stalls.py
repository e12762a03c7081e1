"""A held event loop is told of, with the place where it stands."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest

from meshkube.stalls import StallWatch

PERIOD = 0.05


def holds_the_loop() -> None:
    time.sleep(6 * PERIOD)


def told(caplog: pytest.LogCaptureFixture, message: str) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.message == message]


async def until_told(caplog: pytest.LogCaptureFixture, message: str) -> logging.LogRecord:
    """Holds the loop until the watch has seen it: a starved machine may need several tries."""
    with StallWatch(PERIOD).over("main"):
        for _ in range(50):
            await asyncio.sleep(2 * PERIOD)
            holds_the_loop()
            await asyncio.sleep(0)
            if found := told(caplog, message):
                return found[0]
    raise AssertionError(caplog.text)


async def test_a_held_loop_is_told_with_the_place_where_it_stands(caplog) -> None:
    record = await until_told(caplog, "the event loop is held")
    assert record.loop == "main"
    assert record.at.startswith("holds_the_loop (tests/test_stalls.py:")
    assert "until_told" in record.at


async def test_its_end_is_told_too(caplog) -> None:
    record = await until_told(caplog, "the event loop goes on")
    assert float(record.after.removesuffix(" s")) > PERIOD


async def test_a_loop_at_work_is_not_told_of(caplog) -> None:
    with StallWatch(period=1).over("main"):
        for _ in range(30):
            await asyncio.sleep(0.05)
    assert not told(caplog, "the event loop is held")
