"""Old Events go."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from meshkube.api import kinds, meta
from meshkube.api.types import Object
from meshkube.clock import SystemClock
from meshkube.control.apiserver.expiry import Sweeper, last_seen
from meshkube.control.apiserver.local import LocalClient
from tests.support.api import running_registry

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock(SystemClock):
    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> datetime:
        return self.time


def event(name: str, **more: object) -> Object:
    involved = {"kind": "Pod", "name": "p", "namespace": "default"}
    metadata = {"name": name, "namespace": "default"}
    return {"metadata": metadata, "involvedObject": involved, "type": "Normal", **more}


@pytest.mark.parametrize(
    ("more", "hours"),
    [
        ({}, 0),
        ({"lastTimestamp": "2026-01-01T13:00:00Z"}, 1),
        ({"eventTime": "2026-01-01T14:00:00.000000Z"}, 2),
        ({"series": {"count": 2, "lastObservedTime": "2026-01-01T15:00:00.000000Z"}}, 3),
        ({"firstTimestamp": "2026-01-01T16:00:00Z", "lastTimestamp": None}, 0),
    ],
)
def test_the_latest_moment_counts(more: dict[str, object], hours: int) -> None:
    seen = event("e", **more)
    seen["metadata"]["creationTimestamp"] = meta.timestamp(NOW)
    assert last_seen(seen) == NOW + timedelta(hours=hours)


async def test_events_go_an_hour_after_they_were_last_seen(tmp_path: Path) -> None:
    clock = Clock()
    async with running_registry(tmp_path, clock) as registry:
        client = LocalClient(registry)
        await client.create(kinds.EVENT, event("old"))
        await client.create(kinds.EVENT, event("again", lastTimestamp="2026-01-01T12:30:00Z"))
        clock.time = NOW + timedelta(minutes=61)
        await Sweeper(registry).once()
        left = await client.list(kinds.EVENT)
        assert [meta.name(one) for one in left.items] == ["again"]


async def test_events_that_came_while_it_sweeps_go_an_hour_later(tmp_path: Path) -> None:
    clock = Clock()
    async with running_registry(tmp_path, clock) as registry:
        client, sweeper = LocalClient(registry), Sweeper(registry)

        async def left() -> list[str]:
            return sorted(meta.name(one) for one in (await client.list(kinds.EVENT)).items)

        await client.create(kinds.EVENT, event("first"))
        for minute in range(0, 150, 10):
            clock.time = NOW + timedelta(minutes=minute)
            await sweeper.once()
            if minute == 0:
                await client.create(kinds.EVENT, event("second"))
            if minute == 40:
                again = {"lastTimestamp": meta.timestamp(clock.time)}
                await client.patch(kinds.EVENT, "second", again, "default")
                await client.create(kinds.EVENT, event("third"))
            expected = {50: ["first", "second", "third"], 70: ["second", "third"], 110: []}
            if minute in expected:
                assert await left() == expected[minute]
