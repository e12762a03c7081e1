"""Answers of the runtime that overtake each other: the newest question's answer counts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, cast

from meshkube.node.records import Records, look_at_all
from meshkube.node.runtime import PodRef, Record, Runtime

State = Literal["created", "running", "exited"]


def record(id: str, state: State = "running", uid: str = "u") -> Record:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    ref = PodRef("default", "p", uid)
    return Record(id=id, pod=ref, name="c", attempt=0, state=state, created=made)


def states(records: Records) -> dict[str, str]:
    return {one.id: one.state for one in records.of("u")}


def test_a_list_does_not_take_away_what_was_made_while_it_was_written() -> None:
    records = Records(lambda uid: None)
    listed = records.ask()
    records.hear("new", record("new"), records.ask())
    records.hear_all([record("old")], listed)
    assert states(records) == {"new": "running", "old": "running"}
    records.hear_all([record("old")], records.ask())
    assert states(records) == {"old": "running"}


def test_a_list_does_not_bring_back_what_was_removed_while_it_was_written() -> None:
    records = Records(lambda uid: None)
    records.hear("a", record("a"), records.ask())
    listed = records.ask()
    records.hear("a", None, records.ask())
    records.hear_all([record("a", "exited")], listed)
    assert states(records) == {}


def test_a_slow_answer_does_not_undo_a_newer_one() -> None:
    changes: list[str] = []
    records = Records(changes.append)
    slow, quick = records.ask(), records.ask()
    records.hear("a", record("a", "running"), quick)
    records.hear("a", record("a", "created"), slow)
    records.hear("a", None, slow)
    assert states(records) == {"a": "running"}
    assert changes == ["u"]


def test_what_is_gone_is_not_remembered_for_ever() -> None:
    records = Records(lambda uid: None)
    for number in range(10):
        records.hear(str(number), record(str(number)), records.ask())
        records.hear(str(number), None, records.ask())
    records.hear_all([], records.ask())
    assert records._heard == {}


class LateList:
    """A runtime whose list is older than its word on one container."""

    def __init__(self, *there: Record) -> None:
        self._there = {one.id: one for one in there}

    async def list(self) -> list[Record]:
        return []

    async def inspect(self, id: str) -> Record | None:
        return self._there.get(id)


async def test_what_a_list_leaves_out_is_gone_only_when_its_id_is_unknown_too() -> None:
    changes: list[str] = []
    records = Records(changes.append)
    for id in ("there", "gone"):
        records.hear(id, record(id), records.ask())
    changes.clear()
    await look_at_all(cast(Runtime, LateList(record("there"))), records)
    assert states(records) == {"there": "running"}
    assert changes == ["u"]
    assert records.complete
